"""TensorBoard's files, read back as TensorBoard reads them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from programs import call
from small import SMALL, write_small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from f110_fl.config.scenario import Scenario
from f110_fl.reporting import tensorboard
from f110_fl.reporting.events import EpisodeEvent, Event, Monitor, RoundEvent
from f110_fl.reporting.tensorboard import TensorBoardSink
from f110_fl.rundir import RunDir
from f110_fl.training.records import EpisodeRecord, EpisodeResult
from run import main

Scalars = dict[str, list[tuple[int, float]]]  # (step, value) by name

SCENARIO = Scenario.model_validate(SMALL)


def scalars(folder: Path) -> Scalars:
    """Returns what a folder's event files hold."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        name: [(event.step, event.value) for event in accumulator.Scalars(name)]
        for name in accumulator.Tags()["scalars"]
    }


def train(client: int, number: int, value: float = 1.0) -> EpisodeEvent:
    result = EpisodeResult(40, 0.5, {"car_0": value}, {"car_0": "crash"}, {"car_0": []})
    return EpisodeEvent(client, EpisodeRecord("train", 1, number, 40 * number, result))


def completed(number: int) -> RoundEvent:
    summary: dict[str, Any] = {"round": number, "seconds": 0.5, "clients": [0], "dropped": {}}
    return RoundEvent(summary | {"metrics": {"train/car_0/return": 1.0}})


def write(root: Path, *events: Event) -> RunDir:
    rundir = RunDir(root)
    sink = TensorBoardSink(SCENARIO, rundir)
    for event in events:
        sink.handle(event)
    sink.close()
    return rundir


def test_a_folder_for_each_client_and_one_for_the_server(tmp_path: Path) -> None:
    rundir = write(tmp_path, train(0, 1, 2.0), train(1, 1), train(0, 2, 3.0), completed(1))
    folders = {path.name: scalars(path) for path in rundir.tensorboard.iterdir()}
    assert set(folders) == {"client_00", "client_01", "server"}
    assert folders["client_00"]["train/car_0/return"] == [(40, 2.0), (80, 3.0)]
    assert folders["client_00"]["episode"] == [(40, 1.0), (80, 2.0)]
    assert folders["server"]["seconds"] == [(1, 0.5)]
    assert not {"env_steps"} & set(folders["client_00"])
    assert "round" not in folders["server"]


def test_a_session_that_goes_on_leaves_every_value_once(tmp_path: Path) -> None:
    """It is told again of what came before; an episode that a crash undid has come anew."""
    write(tmp_path, train(0, 1), train(0, 2, 7.0), completed(1))
    rundir = write(tmp_path, train(0, 1), train(0, 2, 8.0), completed(1), completed(2))
    assert scalars(rundir.tensorboard / "client_00")["train/car_0/return"] == [(40, 1.0), (80, 8.0)]
    assert scalars(rundir.tensorboard / "server")["seconds"] == [(1, 0.5), (2, 0.5)]


def test_one_that_looks_on_forgets_what_was_undone(tmp_path: Path) -> None:
    rundir = write(tmp_path, train(0, 1), train(0, 2, 7.0))
    accumulator = EventAccumulator(str(rundir.tensorboard / "client_00"))
    accumulator.Reload()
    write(tmp_path, train(0, 1), train(0, 2, 8.0))
    accumulator.Reload()
    values = [event.value for event in accumulator.Scalars("train/car_0/return")]
    assert values == [1.0, 8.0]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    note = RunDir(tmp_path).tensorboard / "client_00" / "note.txt"
    note.parent.mkdir(parents=True)
    note.write_text("mine")
    write(tmp_path, train(0, 1))
    assert note.read_text() == "mine"


def test_a_failure_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunDir(tmp_path).tensorboard.write_text("a file in its way")
    write(tmp_path, train(0, 1), train(0, 2), completed(1))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("TensorBoard: ")
    assert line.endswith("; the run goes on without it")


def test_without_the_package_one_line_says_so_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = write_small(tmp_path)
    monkeypatch.setattr(tensorboard, "find_spec", lambda _: None)
    monkeypatch.setenv("FED_ROOT", str(tmp_path / "run"))
    assert main(["--scenario", str(scenario), "--tensorboard"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "run.py: --tensorboard: the package tensorboard is not installed; "
        "pip install -e '.[tensorboard]' does that"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("enabled", [True, False])
def test_a_run_and_its_continuation(tmp_path: Path, enabled: bool) -> None:
    scenario, root = write_small(tmp_path, federated={"enabled": enabled}), tmp_path / "run"

    def run(*flags: str, **variables: str) -> str:
        result = call(main, tmp_path, "--tensorboard", *flags, **variables)
        assert result.returncode == 0, result.stderr
        return result.stderr

    begun = ("--scenario", str(scenario), "--episodes")
    if enabled:
        run(*begun, "2", FED_ROOT=str(root))
        said = run("--resume", str(root), "--episodes", "4")
    else:
        said = run(*begun, "4", FED_ROOT=str(root))
    assert f"tensorboard --logdir {root / 'tensorboard'}" in said
    rundir, roles = RunDir(root), {"client_00", "client_01"} | ({"server"} if enabled else set())
    assert {path.name for path in rundir.tensorboard.iterdir()} == roles
    for client in (0, 1):
        lines = [json.loads(line) for line in rundir.episodes(client).read_text().splitlines()]
        found = scalars(rundir.tensorboard / f"client_{client:02d}")
        for kind, name in (("train", "train/car_0/return"), ("evaluate", "evaluate/car_0/return")):
            own = [line for line in lines if line["kind"] == kind]
            steps, values = zip(*found[name], strict=True)
            assert list(steps) == [line["env_steps"] for line in own]
            assert values == pytest.approx([line["returns"]["car_0"] for line in own], rel=1e-6)
    if enabled:
        rounds = scalars(rundir.tensorboard / "server")["train/car_0/return"]
        assert [step for step, _ in rounds] == [1, 2, 3, 4]


def test_it_has_the_names_that_wandb_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from f110_fl.reporting.tracking import WandbSink

    logged: dict[str, set[str]] = {}

    class Run:
        def __init__(self, name: str) -> None:
            self.names = logged.setdefault(name, set())

        def define_metric(self, name: str, step_metric: str) -> None:
            assert name == "*"
            self.names.discard(step_metric)

        def log(self, values: dict[str, float]) -> None:
            self.names.update(values)

        def finish(self) -> None:
            pass

    module: Any = ModuleType("wandb")
    module.Settings = lambda **_: None
    module.init = lambda **options: Run(options["name"])
    monkeypatch.setitem(sys.modules, "wandb", module)
    rundir = RunDir(tmp_path)
    rundir.client(0).mkdir(parents=True)
    evaluated = EpisodeRecord("evaluate", 1, 1, 40, train(0, 1).record.result)
    records = [train(0, 1).record, evaluated]
    rundir.episodes(0).write_text("".join(record.to_json() + "\n" for record in records))
    rundir.rounds.write_text(json.dumps(completed(1).summary) + "\n")
    for sink in (WandbSink(SCENARIO, rundir), TensorBoardSink(SCENARIO, rundir)):
        Monitor(rundir, 2).tell(sink)
        sink.close()
    axes = {"client_00": "env_steps", "server": "round"}
    assert {role: set(scalars(rundir.tensorboard / role)) for role in axes} == {
        role: logged[role] - {axis} for role, axis in axes.items()
    }
