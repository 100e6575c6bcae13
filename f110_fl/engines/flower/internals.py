"""The private parts of Flower that this project uses.

`flwr.app`, `flwr.clientapp`, `flwr.serverapp` and `flwr.simulation` are public. Anything else is
imported here and nowhere else; ``tests/federation/test_flower_internals.py`` shows what another
version of Flower has changed.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.common.constant import NUM_PARTITIONS_KEY as NUM_PARTITIONS_KEY
from flwr.common.constant import PARTITION_ID_KEY as PARTITION_ID_KEY
from flwr.common.constant import SUPERLINK_NODE_ID as SUPERLINK_NODE_ID
from flwr.common.constant import ErrorCode as ErrorCode
from flwr.common.logger import update_console_handler
from flwr.serverapp import Grid
from flwr.supercore.run import Run as Run
from flwr.supercore.task_identity import TaskIdentity

if TYPE_CHECKING:
    from fastapi import FastAPI

# Of Flower's own, which would serve the same without TLS and without asking who calls.
OTHER_SERVERS: Final = ("FLWR_INTERNAL_GRPC_CONTROL_API", "FLWR_INTERNAL_GRPC_FLEET_API")
FROM_FILES: Final = "files"  # owner of the nodes whose keys were found in a directory
ACQUIRE_TASK: Final = "/flwr.proto.Runtime/AcquireTask"  # what a SuperExec signs


def plain_log() -> None:
    """Let Flower log without colours in this process, unless it is on a terminal."""
    if not sys.stderr.isatty():
        update_console_handler(colored=False)


@contextmanager
def task_identity(run_id: int, node_id: int, task_id: int = 1) -> Iterator[None]:
    """Give this process the identity that Flower needs to create messages."""
    own = TaskIdentity
    before = own._run_id, own._node_id, own._task_id
    own.run_id, own.node_id, own.task_id = run_id, node_id, task_id
    try:
        yield
    finally:
        own._run_id, own._node_id, own._task_id = before


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message the id that its reply refers to, as Flower's grids do on sending."""
    message.metadata.__dict__["_message_id"] = message_id


def node_keys(grid: Grid) -> dict[int, bytes]:
    """Return the public key by which the SuperLink knows each connected node, as `key_bytes`.

    A grid without a SuperLink has none. With ``--enable-supernode-auth``, every request of a node
    is signed with its key, and a node's id belongs to one key.
    """
    found: dict[int, bytes] = {}
    for node in grid.get_nodes():
        with suppress(ValueError, UnsupportedAlgorithm):  # not a key: whoever registered it erred
            found[node.node_id] = key_bytes(load_pem_public_key(node.public_key))
    return found


def key_bytes(key: PublicKeyTypes) -> bytes:
    """Return a public key in the one form by which keys are compared (DER)."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def weighted_mean(contents: list[RecordDict], weight: str) -> ArrayRecord:
    """Return the mean of records' arrays, as Flower's strategies compute it.

    Args:
        contents: Records with one array record each, of the same names, and one metric record.
        weight: Name of the metric that is the weight.
    """
    # Imported here because clients' workers import this module but never aggregate.
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    return aggregate_arrayrecords(contents, weight)


def size_on_wire(content: RecordDict) -> int:
    """Return the number of bytes that Flower sends for a message's content."""
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

    return sum(len(part.deflate()) for part in get_all_nested_objects(content).values())


def superlink_app(
    database: str, operator_of: Callable[[str], str | None], task_secret: bytes
) -> FastAPI:
    """Return the SuperLink's application, which serves all of its interfaces.

    Node authentication is on. It starts no process and no other server.

    Args:
        database: A file, or ":flwr-in-memory:".
        operator_of: Returns whose a token is ("" if none is shown), None if nobody's.
        task_secret: What a SuperExec signs its requests for tasks with.

    Raises:
        ValueError: For a database that Flower cannot use.
    """
    from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
    from flwr.superlink.config_loader import SuperLinkLifespanConfig
    from flwr.superlink.main import create_app

    for name in OTHER_SERVERS:
        os.environ.pop(name, None)
    config = SuperLinkLifespanConfig(
        control_address="",
        health_server_address=None,
        host="",
        port=0,
        insecure=False,
        certificates=None,
        superexec_auth_secret=task_secret,
        authn_plugin=_operators(operator_of),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type="grpc-rere",
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=None,
        ssl_certfile=None,
        ssl_keyfile=None,
        database=database,
        isolation="process",  # whoever calls this starts the SuperExec
        runtime_dependency_install=False,
    )
    return create_app(config, SuperLinkLifespan)


def _operators(operator_of: Callable[[str], str | None]) -> Any:
    """Return Flower's plugin that says who calls the Control API."""
    from flwr.common.constant import ACCESS_TOKEN_KEY, NOOP_FLWR_AID
    from flwr.supercore.auth.typing import AccountInfo
    from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin

    class Operators(NoOpControlAuthnPlugin):
        def validate_tokens_in_metadata(self, metadata: Any) -> tuple[bool, AccountInfo | None]:
            tokens = [str(text) for name, text in metadata if name == ACCESS_TOKEN_KEY]
            name = operator_of(tokens[0] if len(tokens) == 1 else "")
            if name is None:
                return False, None
            # The one account that the open edition's federation has as its member.
            return True, AccountInfo(flwr_aid=NOOP_FLWR_AID, account_name=name)

        def refresh_tokens(self, metadata: Any) -> tuple[Any, AccountInfo | None]:  # noqa: ARG002
            return None, None

    return Operators()


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Return method and path of all that an application serves."""
    from fastapi.routing import iter_route_contexts

    found: set[tuple[str, str]] = set()
    for context in iter_route_contexts(app.routes):
        path = str(getattr(context, "path", None) or getattr(context.route, "path", ""))
        for method in getattr(context.route, "methods", None) or {"*"}:
            found.add((method, path))
    return found


class Nodes:
    """The nodes that a SuperLink knows, by their public keys (PEM, as they send them)."""

    def __init__(self, app: FastAPI) -> None:
        self._state = app.state.linkstate_factory.state()

    def keys(self) -> dict[bytes, EllipticCurvePublicKey]:
        """Return the keys of all registered nodes."""
        found: dict[bytes, EllipticCurvePublicKey] = {}
        for node in self._state.get_node_info():
            if node.status != "unregistered":
                with suppress(ValueError, UnsupportedAlgorithm):
                    key = load_pem_public_key(node.public_key)
                    if isinstance(key, EllipticCurvePublicKey):
                        found[node.public_key] = key
        return found

    def follow(self, clients: Mapping[bytes, str]) -> Iterator[str]:
        """Register the keys of a directory, and withdraw those that are no longer in it.

        Args:
            clients: Each client's name by its key (PEM).

        Yields:
            A line for each key that cannot be registered, as it was withdrawn before.
        """
        from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_FLWR_AID

        for node in self._state.get_node_info():
            gone = node.owner_name == FROM_FILES and node.public_key not in clients
            if gone and node.status != "unregistered":
                self._state.delete_node(NOOP_FLWR_AID, node.node_id)
        for key, name in clients.items():
            if self._state.get_node_id_by_public_key(key) is not None:
                continue
            try:
                self._state.create_node(
                    NOOP_FLWR_AID, FROM_FILES, key, HEARTBEAT_DEFAULT_INTERVAL, name=name
                )
            except ValueError:
                yield f"{name}: its key was withdrawn, which is for ever; make it another one"

    def describe(self) -> Iterator[tuple[bytes, str, bool, str]]:
        """Yield each registered node's key, name, whether it is connected, and since when."""
        for node in self._state.get_node_info():
            if node.status != "unregistered":
                online = node.status == "online"
                since = node.last_activated_at if online else node.last_deactivated_at
                yield node.public_key, node.name, online, since

    def runs(self) -> Iterator[tuple[Run, str]]:
        """Yield each run, the oldest first, and its log so far."""
        for run in self._state.get_run_info(order_by="pending_at"):
            task = run.primary_task_id
            log = "" if task is None else self._state.get_task_log(task, None)[0]
            yield run, log

    def online(self, key: bytes) -> bool:
        """Return whether the node with this key counts as connected."""
        number = self._state.get_node_id_by_public_key(key)
        return number is not None and any(
            node.status == "online" for node in self._state.get_node_info(node_ids=[number])
        )

    def leave(self, key: bytes) -> None:
        """Let the node with this key count as gone; what it was asked is answered with an error."""
        number = self._state.get_node_id_by_public_key(key)
        if number is not None:
            self._state.deactivate_node(number)

    def has_task(self, token: str) -> bool:
        """Return whether a task that is at work has this token."""
        return bool(token) and self._state.get_task_by_token(token) is not None


def sender(
    headers: Mapping[bytes, bytes], keys: Mapping[bytes, EllipticCurvePublicKey]
) -> bytes | None:
    """Return the key that a request to the Fleet API is signed with, None if it is not.

    What is signed is a timestamp, so this needs the headers only, and not the body. Flower itself
    compares the key with the node that the body names.

    Args:
        headers: The request's, by their names in lower case.
        keys: The keys that are known; others are not even looked at.
    """
    from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE
    from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
    from flwr.supercore.date import now
    from flwr.supercore.primitives.asymmetric import verify_signature

    try:
        name = base64.b64decode(headers[_header(FLEET_HTTP_PUBLIC_KEY_HEADER)], validate=True)
        key = keys[name]
        signature = base64.b64decode(headers[_header(FLEET_HTTP_SIGNATURE_HEADER)], validate=True)
        signed = headers[_header(TIMESTAMP_HEADER)]
        age = (now() - datetime.datetime.fromisoformat(signed.decode("ascii"))).total_seconds()
        if not -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE:
            return None
        return name if verify_signature(key, signed, signature) else None
    except (KeyError, ValueError, TypeError, binascii.Error):
        return None


def asks_for_task(headers: Mapping[bytes, bytes], task_secret: bytes) -> bool:
    """Return whether a request for a task is signed by the SuperLink's own SuperExec.

    Flower itself checks the rest: the body's digest, the time, and that it is sent only once.
    """
    from flwr.supercore import constant
    from flwr.supercore.auth import (
        compute_superexec_signature,
        derive_auth_secret,
        verify_superexec_signature,
    )

    try:
        expected = compute_superexec_signature(
            auth_secret=derive_auth_secret(task_secret),
            method=ACQUIRE_TASK,
            timestamp=int(headers[_header(constant.SUPEREXEC_AUTH_TIMESTAMP_HEADER)]),
            nonce=headers[_header(constant.SUPEREXEC_AUTH_NONCE_HEADER)].decode("ascii"),
            body_sha256=headers[_header(constant.SUPEREXEC_AUTH_BODY_SHA256_HEADER)].decode(),
        )
        signature = headers[_header(constant.SUPEREXEC_AUTH_SIGNATURE_HEADER)].decode("ascii")
        return verify_superexec_signature(expected, signature)
    except (KeyError, ValueError, TypeError):
        return False


def task_token(headers: Mapping[bytes, bytes]) -> str:
    """Return the token of the task that a request to the Runtime API names, "" if none."""
    from flwr.supercore.constant import TASK_TOKEN_HEADER

    return headers.get(_header(TASK_TOKEN_HEADER), b"").decode("latin-1")


def flower_version(headers: Mapping[bytes, bytes]) -> str:
    """Return the version of Flower that a request says it comes from, "" if it does not say."""
    from flwr.supercore.constant import FLWR_PACKAGE_VERSION_METADATA_KEY

    return headers.get(_header(FLWR_PACKAGE_VERSION_METADATA_KEY), b"").decode("latin-1")


def _header(name: str) -> bytes:
    return name.lower().encode("ascii")


def keep_token(home: Path, address: str, token: str) -> None:
    """Let Flower's command line send a token to a SuperLink.

    Args:
        home: Flower's home, a directory that exists; others cannot read the file that it gets.
        address: The SuperLink's, as it is written in Flower's configuration.
        token: What it sends.
    """
    from flwr.cli.constant import (
        ACCESS_TOKEN_STORE_KEY,
        AUTHN_TYPE_STORE_KEY,
        REFRESH_TOKEN_STORE_KEY,
    )
    from flwr.common.constant import AuthnType
    from flwr.supercore.credential_store.file_credential_store import FileCredentialStore

    store = FileCredentialStore(home / "credentials.yaml")
    store.set(AUTHN_TYPE_STORE_KEY % address, AuthnType.OIDC.encode())
    store.set(ACCESS_TOKEN_STORE_KEY % address, token.encode())
    # It must be there. It is sent once the other is refused, and then refused as well.
    store.set(REFRESH_TOKEN_STORE_KEY % address, b"-")


def superlink_logging() -> dict[str, Any]:
    """Return the configuration of uvicorn's log that Flower uses."""
    from flwr.supercore.http_logging import get_uvicorn_log_config
    from flwr.supercore.logger import console_handler

    return dict(get_uvicorn_log_config(console_handler.level))


def client_tasks(address: str, secret: bytes) -> Callable[[], str]:
    """Return a function that takes the next task of a SuperNode of this machine.

    It returns the task's token, "" if there is none or the SuperNode does not answer. It raises
    httpx.HTTPStatusError if the SuperNode refuses.

    Args:
        address: Where its Runtime API listens, HOST:PORT.
        secret: What requests for tasks are signed with.
    """
    from flwr.proto.runtime_pb2 import AcquireTaskRequest
    from flwr.supercore.constant import TaskType
    from flwr.supercore.interceptors import (
        RuntimeVersionHttpInterceptor,
        SuperExecAuthHttpInterceptor,
    )
    from flwr.supercore.runtime import RuntimeHttpClient
    from flwr.supernode.runtime.run_clientapp import run_clientapp  # noqa: F401 - once for all forks
    from httpx import TransportError

    signs = SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods={ACQUIRE_TASK})
    client = RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=True,
        root_certificates=None,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), signs],
    )
    request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])

    def next_task() -> str:
        try:
            found = client.AcquireTask(request)
        except TransportError:
            return ""
        return str(found.token) if found.HasField("task") else ""

    return next_task


def run_client_task(address: str, token: str) -> None:
    """Run a task to its end, in a process of its own, whose signals and exit it takes over.

    Args:
        address: Where the Runtime API of the SuperNode listens, HOST:PORT.
        token: The task's.

    Raises:
        SystemExit: When it has ended.
    """
    from flwr.supernode.runtime.run_clientapp import run_clientapp

    run_clientapp(runtime_api_address=address, token=token, insecure=True, parent_pid=os.getppid())
