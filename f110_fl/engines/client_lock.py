"""A client's place in a federation: at most one process has it, and gets it back at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from f110_fl.engines.superlink import SuperLink
from f110_fl.errors import UserError
from f110_fl.files import locked

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec


PLACE: Final = "place"  # locked by the process that is the client


@contextmanager
def hold_place(directory: Path) -> Iterator[None]:
    """Hold a client's directory for this process, however it ends.

    Raises:
        UserError: If another process holds it, or it cannot be written.
    """
    with ExitStack() as stack:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(directory / PLACE, wait=False))
        except BlockingIOError:
            raise UserError(f"{directory}: another process is this client") from None
        except OSError as error:
            raise UserError(f"{directory}: cannot be written: {error}") from error
        yield


def release_place(link: SuperLink, key: Path) -> bool:
    """Tell the SuperLink that a client that was killed is gone.

    A SuperNode that ends in order says so itself. One that was killed, or whose machine was
    switched off, counts as connected for up to a minute, in which a new one with its key is
    turned away. Only to be called by who holds the client's place.

    Args:
        link: The SuperLink.
        key: The client's private key, OpenSSH; the SuperLink believes only its owner.

    Returns:
        Whether there was something to tell. A SuperLink that cannot be asked knows best.

    Raises:
        UserError: If the key cannot be read.
    """
    import httpx
    from flwr.proto.control_pb2 import ListNodesRequest
    from flwr.proto.fleet_pb2 import DeactivateNodeRequest
    from flwr.supercore.constant import NodeStatus
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    private = _read_key(key)
    own, certificates = public_key_to_bytes(private.public_key()), str(link.root_certificates)
    version = RuntimeVersionHttpInterceptor(component_name="SuperNode")
    signed = NodeAuthHttpInterceptor(private, private.public_key())
    told = False
    try:
        with (
            ControlHttpClient.from_server_address(
                link.address, False, certificates, [version]
            ) as control,
            FleetHttpClient.from_server_address(
                link.address, False, certificates, [version, signed]
            ) as fleet,
        ):
            for node in control.ListNodes(ListNodesRequest()).nodes_info:
                if node.public_key == own and node.status == NodeStatus.ONLINE:
                    fleet.DeactivateNode(DeactivateNodeRequest(node_id=node.node_id))
                    told = True
    except (httpx.HTTPError, OSError):
        return told
    return told


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    try:
        key = load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError(f"--key={str(path)!r}: not an OpenSSH private key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"--key={str(path)!r}: not an elliptic-curve (P-384) key")
    return key
