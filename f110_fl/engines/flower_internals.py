"""The private parts of Flower that this project uses.

`flwr.app`, `flwr.clientapp`, `flwr.serverapp` and `flwr.simulation` are public. Anything else is
imported here and nowhere else; ``tests/federation/test_flower_internals.py`` shows what another
version of Flower has changed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cryptography.exceptions import UnsupportedAlgorithm
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
