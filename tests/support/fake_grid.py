"""Stand-ins for Flower's connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from f110_fl.engines.flower.internals import set_message_id
from f110_fl.federation.messages import Identity


def sent(message: Message) -> Message:
    """Give a message the id that Flower gives it on sending, so that it can be replied to."""
    set_message_id(message, f"message-{message.metadata.dst_node_id}")
    return message


class FakeGrid(Grid):
    """Nodes that answer the query for their client id at once, and nothing else.

    Args:
        clients: Client id of each node id.
        total: Number of clients that they say there are; one more than the highest id.

    Attributes:
        pushed: The messages that were pushed, by their numbers.
    """

    def __init__(self, clients: dict[int, int], total: int | None = None) -> None:
        self.clients = clients
        self.total = total or max(clients.values()) + 1
        self.queries = 0
        self.pushed: dict[str, Message] = {}

    def get_node_ids(self) -> list[int]:
        return list(self.clients)

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002
    ) -> list[Message]:
        replies = []
        for message in messages:
            self.queries += 1
            node = message.metadata.dst_node_id
            identity = Identity(self.clients[node], self.total)
            replies.append(Message(identity.to_content(), reply_to=sent(message)))
        return replies

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        numbers = []
        for message in messages:
            numbers.append(f"pushed-{len(self.pushed)}")
            set_message_id(message, numbers[-1])
            self.pushed[numbers[-1]] = message
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        raise NotImplementedError

    set_run = create_message = None  # type: ignore[assignment]
