"""Client apps for tests of the simulation; workers find them by their names."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp

POLL = 0.01  # s


def order(client: int, do: str = "answer", **more: str) -> Message:
    """Returns a message that tells a client what to do, and where."""
    content = RecordDict({"config": ConfigRecord({"do": do} | more)})
    return Message(content, dst_node_id=client + 1, message_type=MessageType.QUERY)


def obedient() -> ClientApp:
    """An app that does what it is told, and tells who did it, and when."""
    app = ClientApp()

    @app.query()
    def _query(message: Message, context: Context) -> Message:
        begin = time.monotonic()
        order = message.content.config_records["config"]
        note = Path(str(order.get("note", os.devnull)))
        with note.open("a", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        match order["do"]:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raise":
                raise RuntimeError("the disk is full")
            case "wait":
                while not Path(str(order["for"])).exists():
                    time.sleep(POLL)
        told = ConfigRecord(
            {
                "pid": os.getpid(),
                "said": str(order.get("say", "")),
                "begin": begin,
                "end": time.monotonic(),
                "partition": int(context.node_config["partition-id"]),
                "partitions": int(context.node_config["num-partitions"]),
            }
        )
        return Message(RecordDict({"config": told}), reply_to=message)

    return app


def broken() -> ClientApp:
    raise ImportError("no such app")
