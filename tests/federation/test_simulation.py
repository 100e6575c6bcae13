"""Virtual clients in real worker processes: who does what, when, and what a death costs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from simulated_apps import broken, obedient, order
from small import PYTHONPATH
from watching import alive, until

from f110_fl.engines.simulation import READ_AHEAD, LocalGrid, simulate
from f110_fl.engines.workers import WorkerError, receive_reply, send_reply

CLIENTS, WORKERS = 4, 2
SHORT = 0.2  # s, of a wait that is to end without an answer
Told = dict[str, Any]


@pytest.fixture(autouse=True)
def identity(flower_task: None) -> None:
    """Messages say who sends them."""


@pytest.fixture(scope="module")
def grid() -> Iterator[LocalGrid]:
    with LocalGrid(obedient, CLIENTS, WORKERS) as opened:
        yield opened


def told(reply: Message) -> Told:
    assert not reply.has_error(), reply.error.reason
    return dict(reply.content.config_records["config"])


def ask(grid: Grid, *messages: Message, timeout: float | None = None) -> list[Told]:
    return [told(reply) for reply in grid.send_and_receive(messages, timeout=timeout)]


def pids(note: Path) -> list[int]:
    return [int(line) for line in note.read_text().split()] if note.exists() else []


def test_a_reply_comes_as_it_was_sent() -> None:
    """With arrays of no size, of a few bytes, and of more than the system keeps on their way."""
    near, far = multiprocessing.Pipe()
    arrays = {f"of {n}": Array(np.arange(n, dtype=np.float32)) for n in (0, 1, 2**20)}
    sent = Message(RecordDict({"arrays": ArrayRecord(arrays)}), 1, MessageType.TRAIN)
    before = deepcopy(sent.content)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send_reply, near, sent)
        found = receive_reply(far)
        sending.result()
    assert found.content == before
    assert sent.content == before
    near.close()
    with pytest.raises(EOFError):
        receive_reply(far)
    far.close()


def test_every_client_answers_for_itself(grid: LocalGrid) -> None:
    assert list(grid.get_node_ids()) == [1, 2, 3, 4]
    messages = [order(client) for client in (2, 0, 3, 1)]
    replies = list(grid.send_and_receive(messages))
    asked = {m.metadata.message_id: m.metadata.dst_node_id - 1 for m in messages}
    assert len(asked) == CLIENTS
    for reply in replies:
        client = asked.pop(reply.metadata.reply_to_message_id)
        assert (told(reply)["partition"], told(reply)["partitions"]) == (client, CLIENTS)
        assert reply.metadata.src_node_id == client + 1
    assert not asked


def test_what_all_are_sent_reaches_each(grid: LocalGrid) -> None:
    for text in ("one", "two"):
        content = order(0, say=text).content
        messages = [Message(content, client + 1, MessageType.QUERY) for client in range(CLIENTS)]
        said = [found["said"] for found in ask(grid, *messages, order(0))]
        assert sorted(said) == ["", *[text] * CLIENTS]


def test_a_client_returns_to_the_worker_that_has_it(grid: LocalGrid) -> None:
    for client in range(CLIENTS):
        assert len({ask(grid, order(client))[0]["pid"] for _ in range(10)}) == 1


def test_a_worker_takes_over_while_another_is_at_work(grid: LocalGrid, tmp_path: Path) -> None:
    """Else one with nothing to do would wait for a slow one."""
    owner = ask(grid, order(0))[0]["pid"]
    busy = grid.send_and_receive([order(0, "wait", **{"for": str(tmp_path / "go")})])
    for client in range(1, CLIENTS):
        assert ask(grid, order(client))[0]["pid"] != owner
    (tmp_path / "go").touch()
    assert [told(reply)["pid"] for reply in busy] == [owner]


def test_a_clients_messages_are_dealt_with_one_after_the_other(grid: LocalGrid) -> None:
    spans = sorted((t["begin"], t["end"]) for t in ask(grid, *(order(1) for _ in range(6))))
    assert len(spans) == 6
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_clients_work_at_the_same_time(grid: LocalGrid, tmp_path: Path) -> None:
    """Each of two waits for what the other would do last."""
    notes = [tmp_path / "a", tmp_path / "b"]
    waits = [{"note": str(n), "for": str(o)} for n, o in zip(notes, reversed(notes), strict=True)]
    replies = ask(grid, *(order(client, "wait", **w) for client, w in enumerate(waits)))
    assert len({reply["pid"] for reply in replies}) == WORKERS


@pytest.mark.parametrize(
    ("do", "reason"),
    [("raise", "RuntimeError: the disk is full"), ("die", "its worker ended by SIGKILL")],
)
def test_what_goes_wrong_costs_one_answer(grid: LocalGrid, do: str, reason: str) -> None:
    replies = list(grid.send_and_receive([order(0, do), order(1), order(2)]))
    failed = [reply for reply in replies if reply.has_error()]
    assert [reply.error.reason for reply in failed] == [reason]
    assert failed[0].metadata.src_node_id == 1
    assert sorted(told(reply)["partition"] for reply in replies if reply not in failed) == [1, 2]
    assert ask(grid, order(0))[0]["partition"] == 0


def test_a_late_answer_is_discarded(grid: LocalGrid, tmp_path: Path) -> None:
    go, note = tmp_path / "go", tmp_path / "note"
    late = grid.send_and_receive(
        [order(0, "wait", note=str(note), **{"for": str(go)})], timeout=SHORT
    )
    assert until(lambda: bool(pids(note)))
    assert list(late) == []
    next_round = grid.send_and_receive([order(0), order(1)])
    go.touch()
    replies = [told(reply) for reply in next_round]
    assert sorted(reply["partition"] for reply in replies) == [0, 1]
    assert list(late) == []


def test_what_nobody_has_begun_with_is_withdrawn(tmp_path: Path) -> None:
    go, note = tmp_path / "go", tmp_path / "note"
    with LocalGrid(obedient, 2, 1) as grid:
        messages = [order(0, "wait", **{"for": str(go)}), order(1, note=str(note))]
        assert list(grid.send_and_receive(messages, timeout=SHORT)) == []
        go.touch()
        assert [reply["partition"] for reply in ask(grid, order(1))] == [1]
    assert pids(note) == []


def test_workers_do_not_run_away_from_the_server(grid: LocalGrid, tmp_path: Path) -> None:
    """Answers are models: those that nobody has taken yet must not fill the memory."""
    note, ahead = tmp_path / "note", READ_AHEAD * WORKERS
    batch = [order(k % CLIENTS, note=str(note)) for k in range(3 * ahead)]
    replies = grid.send_and_receive(batch)
    assert until(lambda: len(pids(note)) >= ahead)
    for client in range(CLIENTS):
        ask(grid, order(client))  # the workers have nothing else to do
    assert len(pids(note)) < ahead + WORKERS
    assert len([told(reply) for reply in replies]) == len(batch)


def test_messages_can_be_pushed_and_pulled(grid: LocalGrid) -> None:
    pushed = grid.push_messages([order(0), order(3)])
    found: list[Message] = []
    assert until(lambda: found.extend(grid.pull_messages(pushed)) or len(found) == 2)
    assert {reply.metadata.reply_to_message_id for reply in found} == set(pushed)
    assert grid.pull_messages([*pushed, "unknown"]) == []


def test_a_straggler_is_ended_with_the_run(tmp_path: Path) -> None:
    note = tmp_path / "note"
    with LocalGrid(obedient, 1, 1) as grid:
        never = {"note": str(note), "for": str(tmp_path / "never")}
        grid.send_and_receive([order(0, "wait", **never)])
        assert until(lambda: bool(pids(note)))
    assert until(lambda: not alive(pids(note)[0]))


def test_an_app_that_cannot_be_made_ends_the_run() -> None:
    with LocalGrid(broken, 2, 2) as grid:
        (reply,) = grid.send_and_receive([order(0)])
        assert "could not start: ended with exit status 1" in (reply.error.reason or "")
        with pytest.raises(WorkerError, match="exit status 1"):
            grid.send_and_receive([order(0)])


def server(record: list[int], failure: Exception | None = None) -> Callable[[], ServerApp]:
    def make() -> ServerApp:
        app = ServerApp()

        @app.main()
        def _main(grid: Grid, context: Context) -> None:  # noqa: ARG001 - Flower's signature
            record.extend(reply["pid"] for reply in ask(grid, *map(order, range(CLIENTS))))
            if failure is not None:
                raise failure

        return app

    return make


@pytest.mark.parametrize("failure", [None, RuntimeError("too few clients")])
def test_nothing_runs_when_the_server_is_done(failure: Exception | None) -> None:
    found: list[int] = []
    if failure is None:
        simulate(server(found), obedient, CLIENTS, WORKERS)
    else:
        with pytest.raises(RuntimeError, match="too few clients"):
            simulate(server(found, failure), obedient, CLIENTS, WORKERS)
    assert len(found) == CLIENTS
    assert len(set(found)) <= WORKERS
    assert until(lambda: not any(map(alive, found)))


FATAL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
STARTS = """
from flwr.serverapp import ServerApp
from f110_fl.engines.simulation import simulate
from simulated_apps import obedient, order

def server():
    app = ServerApp()
    @app.main()
    def _main(grid, context):
        while True:  # the first message may be answered with an error
            list(grid.send_and_receive([order(0)]))
    return app

if __name__ == "__main__":
    simulate(server, obedient, 1, 1, ["fatal"])
"""


def test_the_end_of_what_workers_are_forked_from_is_told(tmp_path: Path) -> None:
    (tmp_path / "fatal.py").write_text(FATAL)  # imported there before any worker is forked
    (tmp_path / "program.py").write_text(STARTS)
    result = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.endswith(
        "WorkerError: a worker could not start: the process that all workers are forked from "
        "ended by SIGKILL, as when memory runs out: try fewer at a time; "
        "--resume goes on with the run"
    )


PROGRAM = """
import sys
from pathlib import Path
from simulated_apps import obedient, order
from flwr.serverapp import ServerApp
from f110_fl.engines.simulation import simulate

def server():
    app = ServerApp()
    @app.main()
    def _main(grid, context):
        where = {"note": sys.argv[1], "for": sys.argv[1] + "-never"}
        list(grid.send_and_receive([order(0, "wait", **where), order(1, "wait", **where)]))
    return app

if __name__ == "__main__":
    simulate(server, obedient, 3, 2, ["clients.preloaded"])
"""


def test_workers_end_with_a_server_that_is_killed(tmp_path: Path) -> None:
    """Even those that are at work."""
    note = tmp_path / "note"
    (tmp_path / "program.py").write_text(PROGRAM)
    program = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), str(note)],
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
    )
    try:
        assert until(lambda: len(pids(note)) == WORKERS)
        program.send_signal(signal.SIGKILL)
    finally:
        program.kill()
        program.wait()
    assert until(lambda: not any(map(alive, pids(note))))


def test_another_copy_of_the_program_is_left_alone(tmp_path: Path) -> None:
    """The one in the working directory, where Python's fork server looks first."""
    found, note, program = (tmp_path / name for name in ("found", "note", "program.py"))
    program.write_text(PROGRAM.replace('"wait"', '"answer"'))
    other = tmp_path / "copy" / "clients" / "__init__.py"
    other.parent.mkdir(parents=True)
    other.write_text(f"open({str(found)!r}, 'w')")
    subprocess.run(
        [sys.executable, str(program), str(note)],
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
        cwd=tmp_path / "copy",
        check=True,
        timeout=60,
    )
    assert len(pids(note)) == 2
    assert not found.exists()
