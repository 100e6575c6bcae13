"""Old rounds' tensors: which stay, and removals that a kill cuts off."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_grid import FakeGrid
from flwr.app import ConfigRecord
from rich.console import Console
from small import SMALL, merge
from strategy_cases import NAME, NODES, SHAPE, answer, strategy

from f110_fl.config.federated import KeepRounds
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.federation.arrays import to_arrays
from f110_fl.loading.flags import setting_of
from f110_fl.loading.scenarios import dump_scenario
from f110_fl.reporting.console import ConsoleSink
from f110_fl.reporting.events import RoundEvent
from f110_fl.reporting.pages.drift import Drift
from f110_fl.reporting.pages.time_machine import moments_of
from f110_fl.reporting.summary import removed, round_lines
from f110_fl.rundir import RunDir
from f110_fl.runs.resume import resumed_scenario
from f110_fl.tensors import write_tensors
from f110_fl.training.metrics import summarise
from server.rounds import RoundFiles

pytestmark = pytest.mark.usefixtures("flower_task")


def rounds(root: Path, last: int, best: int | None = None) -> RunDir:
    """Make the rounds' directories of a run, each with three files of tensors."""
    rundir, tensor = RunDir(root), {NAME: torch.zeros(SHAPE)}
    for number in range(1, last + 1):
        rundir.round(number).mkdir(parents=True)
        for path in (rundir.global_tensors(number), rundir.average(number)):
            write_tensors(path, tensor, sync_name=False)
        write_tensors(rundir.client_tensors(number, 0), tensor, sync_name=False)
        rundir.metrics(number).write_text("{}")
    if best is not None:
        write_tensors(rundir.best, tensor, {"round": str(best)})
    return rundir


def whole(rundir: RunDir) -> list[int]:
    """Return the rounds with all three files; of the others, nothing but metrics may be left."""
    found = []
    for number in sorted(rundir.numbered_rounds()):
        assert rundir.metrics(number).exists()
        files = len(list(rundir.round(number).glob("*.safetensors")))
        assert files in (0, 3)
        found += [number] if files else []
    return found


@pytest.mark.parametrize(
    ("keep", "best", "expected"),
    [
        ("all", 2, [1, 2, 3, 4, 5, 6]),
        (2, None, [5, 6]),
        (2, 3, [3, 5, 6]),
        (2, 6, [5, 6]),
        (9, 1, [1, 2, 3, 4, 5, 6]),
        ("best", 4, [4, 6]),
        ("best", 0, [6]),  # the initialisation, which has no round
    ],
)
def test_the_last_and_the_best_stay(
    tmp_path: Path, keep: KeepRounds, best: int | None, expected: list[int]
) -> None:
    rundir = rounds(tmp_path, 6, best)
    RoundFiles(rundir, keep).prune(6)
    assert whole(rundir) == expected


def test_a_round_under_way_is_not_touched(tmp_path: Path) -> None:
    rundir = rounds(tmp_path, 4)
    RoundFiles(rundir, 1).prune(2)
    assert whole(rundir) == [2, 3, 4]


def killed(work: Callable[[], None], after: int) -> bool:
    """Do ``work`` in a process that is killed before its removal number ``after``, from 0."""
    child = os.fork()
    if not child:
        unlink, count = Path.unlink, 0

        def counted(path: Path, *, missing_ok: bool = False) -> None:
            nonlocal count
            if count == after:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            unlink(path, missing_ok=missing_ok)

        Path.unlink = counted  # type: ignore[method-assign]
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_removal_that_was_killed_anywhere_is_completed_by_the_next(tmp_path: Path) -> None:
    point = 0
    while True:
        rundir = rounds(tmp_path / str(point), 4, best=2)
        if not killed(partial(RoundFiles(rundir, 1).prune, 4), point):
            break
        for number in (1, 3):  # what is half removed is nobody's round any more
            files = {path.name for path in rundir.round(number).glob("*.safetensors")}
            assert len(files) == 3 or rundir.global_tensors(number).name not in files
        RoundFiles(rundir, 1).prune(4)
        assert whole(rundir) == [2, 4]
        point += 1
    assert point >= 6  # both rounds' files, one by one


class _KilledError(BaseException):
    pass


@pytest.mark.parametrize("point", range(4))
def test_a_run_killed_in_a_removal_goes_on_to_the_same_bytes(
    tmp_path: Path, point: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: dict[str, Any] = {"keep_rounds": 1, "strategy": {"name": "fedavgm"}}

    def go(root: Path, count: int) -> None:
        server = strategy(root, **chosen)
        start = to_arrays({NAME: torch.zeros(SHAPE)})
        arrays = server.recorder.restore(server.aggregation, start)
        server.recorder.prune()
        for number in range(1, count + 1 - server.recorder.resumed_from):
            asked = server.configure_train(number, arrays, ConfigRecord(), FakeGrid(NODES))
            replies = [answer(m, 0.1 * server.true_round(number) + k) for k, m in enumerate(asked)]
            averaged, _ = server.aggregate_train(number, replies)
            assert averaged is not None
            arrays = averaged

    straight, broken = tmp_path / "straight", tmp_path / "broken"
    go(straight, 4)
    go(broken, 2)
    unlink, left = Path.unlink, [point]

    def cut(path: Path, *, missing_ok: bool = False) -> None:
        if path.parent.name == "round_00002":
            left[0] -= 1
            if left[0] < 0:
                raise _KilledError
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", cut)
        with pytest.raises(_KilledError):
            go(broken, 3)
    go(broken, 4)

    def files(root: Path) -> dict[str, bytes]:
        found = (p for p in root.rglob("*.safetensors") if p.name != "server.safetensors")
        return {str(path.relative_to(root)): path.read_bytes() for path in found}

    assert files(straight) == files(broken)
    names = ("global", "client_00", "client_01", "client_02")
    assert set(files(straight)) == {f"round_00004/{name}.safetensors" for name in names}


def test_readers_cope_with_rounds_that_were_removed(tmp_path: Path) -> None:
    rundir = rounds(tmp_path, 6, best=2)
    RoundFiles(rundir, 2).prune(6)
    chosen = Scenario.model_validate(merge(SMALL, {"federated": {"keep_rounds": 2}}))
    labels = [moment.label for moment in moments_of(chosen, rundir)]
    assert labels == ["round 2", "round 5", "round 6", "best"]
    drift = Drift(rundir)
    assert drift.chosen([{"round": n} for n in range(1, 7)]) == [2, 5, 6]
    assert drift.of(3, [0]) is None
    words = removed(rundir.global_tensors(3))
    assert words == (
        ": round 3 is over and its models were not kept; there are those of rounds 2, 5, 6 and "
        "best.safetensors"
    )
    assert removed(tmp_path / "elsewhere.safetensors") == ""
    assert removed(rundir.global_tensors(9)) == ""
    lines = "".join(f'{{"round": {n}, "bytes": 1234000}}\n' for n in range(1, 7))
    rundir.rounds.write_text(lines)
    (line,) = round_lines(chosen, rundir)
    assert "of 3 rounds (keep_rounds 2); 1.23 MB a round, 7.4 MB written in 6" in line


@pytest.mark.parametrize(("keep", "told"), [("all", "3 GB after 3000"), (3, None), ("best", None)])
def test_a_run_that_will_take_much_of_a_disk_is_told_of_once(keep: Any, told: str | None) -> None:
    chosen = Scenario.model_validate(
        merge(
            SMALL,
            {"episodes": 3000, "federated": {"keep_rounds": keep, "evaluate_on": "server"}},
        )
    )
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    sink = ConsoleSink(chosen, console)
    summary: dict[str, Any] = {"rounds": 3000, "seconds": 1.0, "clients": [0, 1], "dropped": {}}
    summary |= {"metrics": summarise((), ["car_0"]), "bytes": 1_000_000}
    for number in (1, 2):
        sink.handle(RoundEvent(summary | {"round": number}))
    text = console.export_text()
    assert text.count("Rounds' files") == (told is not None)
    assert told is None or f"1 MB a round, {told}; federated.keep_rounds is all" in text


def test_what_is_kept_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    chosen = Scenario.model_validate(SMALL)
    rundir = RunDir(tmp_path)
    rundir.config.write_text(dump_scenario(chosen))
    setting = setting_of("federated.keep_rounds")
    resumed = resumed_scenario(rundir, [setting.override("3", "FED_KEEP_ROUNDS")])
    assert resumed.federated.keep_rounds == 3
    for text in ("0", "some", "-1", "1.5"):
        with pytest.raises(UserError, match=r"allowed: all, best, or a number of rounds from 1"):
            setting.override(text, "FED_KEEP_ROUNDS")
    with pytest.raises(UserError, match="the server knows no best"):
        resumed_scenario(rundir, [setting.override("best", "FED_KEEP_ROUNDS")])
    budget = setting_of("federated.privacy.budget").override("8", "FED_PRIVACY_BUDGET")
    with pytest.raises(UserError, match=r"the run has no federated\.privacy"):
        resumed_scenario(rundir, [budget])
