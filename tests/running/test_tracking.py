"""W&B, with a stand-in for it that records what it is asked."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import pytest
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.reporting import background
from f110_fl.reporting.events import EpisodeEvent, RoundEvent
from f110_fl.reporting.tracking import WandbSink, record_evaluation, recorded, wandb_mode
from f110_fl.rundir import RunDir
from f110_fl.training.records import EpisodeRecord, EpisodeResult

TIMEOUT = 60.0  # s


class Run:
    def __init__(self, wandb: Wandb, options: dict[str, Any]) -> None:
        self.wandb, self.options = wandb, options
        self.logged: list[dict[str, Any]] = []
        self.id = f"id{len(wandb.runs)}"
        self.dir = f"/runs/wandb/run-{self.id}/files"
        self.axes: dict[str, str] = {}
        self.artifacts: list[Any] = []
        self.finished = False

    def define_metric(self, name: str, step_metric: str) -> None:
        self.axes[name] = step_metric

    def log_artifact(self, artifact: Any) -> None:
        self.artifacts.append(artifact)

    def log(self, values: dict[str, Any]) -> None:
        self.wandb.fail("log")
        self.logged.append(values)

    def finish(self) -> None:
        self.wandb.fail("finish")
        self.finished = True


class Wandb(ModuleType):
    """Stands in for the module."""

    def __init__(self, failing: str = "") -> None:
        super().__init__("wandb")
        self.failing = failing
        self.runs: list[Run] = []
        self.calls: list[str] = []
        self.threads: set[str] = set()

    def fail(self, call: str) -> None:
        self.calls.append(call)
        self.threads.add(threading.current_thread().name)
        if call == self.failing:
            raise ConnectionError("no network")

    def Settings(self, **options: Any) -> dict[str, Any]:  # noqa: N802 - as W&B names it
        return options

    class Html:
        def __init__(self, file: IO[str], inject: bool) -> None:
            assert not inject
            self.text = file.read()

    class Artifact:
        def __init__(self, name: str, type: str) -> None:  # noqa: A002 - as W&B names it
            self.name, self.type = name, type
            self.files: list[str] = []

        def add_file(self, path: str) -> None:
            self.files.append(path)

    def init(self, **options: Any) -> Run:
        self.fail("init")
        self.fail(options["mode"])
        self.runs.append(Run(self, options))
        return self.runs[-1]


@pytest.fixture(autouse=True)
def no_wandb_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "no netrc"))
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Wandb:
    module = Wandb(getattr(request, "param", ""))
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def scenario(**wandb: Any) -> Scenario:
    return Scenario.model_validate(merge(SMALL, {"wandb": wandb}))


def episode(number: int = 1) -> EpisodeRecord:
    return EpisodeRecord(
        kind="train",
        round=1,
        episode=number,
        env_steps=40 * number,
        result=EpisodeResult(40, 0.5, {"car_0": -10.0}, {"car_0": "crash"}),
        losses={"car_0/critic_loss": 0.25},
    )


EVENTS = (
    EpisodeEvent(1, episode()),
    EpisodeEvent(0, episode()),
    RoundEvent(
        {
            "round": 1,
            "seconds": 2.0,
            "clients": [0, 1],
            "dropped": {"2": "no answer in time"},
            "metrics": {"train/x": 3.0},
        }
    ),
    EpisodeEvent(1, episode(2)),
)


def record(chosen: Scenario, root: Path) -> None:
    sink = WandbSink(chosen, RunDir(root))
    for event in EVENTS:
        sink.handle(event)
    sink.close()


def test_a_run_for_each_client_and_one_for_the_server(wandb: Wandb, tmp_path: Path) -> None:
    record(scenario(project="mine"), tmp_path)
    assert [run.options["name"] for run in wandb.runs] == ["client_01", "client_00", "server"]
    (group,) = {run.options["group"] for run in wandb.runs}
    assert re.fullmatch(r"small-\d{8}-\d{6}", group)
    for run in wandb.runs:
        assert run.finished
        assert run.options["project"] == "mine"
        assert run.options["dir"] == tmp_path
        assert run.options["mode"] == "offline"
        assert run.options["config"]["episodes"] == 2
    assert wandb.threads == {"W&B"}  # never the one that watches the run


@pytest.mark.parametrize(("enabled", "role"), [(True, "server"), (False, "client_00")])
def test_a_sweep_has_one_run(
    wandb: Wandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: bool, role: str
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "a sweep")
    changes = {"federated": {"enabled": enabled}}
    record(Scenario.model_validate(merge(SMALL, changes)), tmp_path)
    assert [run.options["name"] for run in wandb.runs] == [role]


def test_what_is_logged(wandb: Wandb, tmp_path: Path) -> None:
    record(scenario(), tmp_path)
    first, _, server = (run.logged for run in wandb.runs)
    assert [values["episode"] for values in first] == [1, 2]
    assert first[1] == {
        "episode": 2,
        "env_steps": 80,
        "round": 1,
        "train/steps": 40,
        "train/steps_per_s": 80.0,
        "train/car_0/return": -10.0,
        "train/car_0/success": 0.0,
        "train/car_0/crash": 1.0,
        "train/car_0/laps": 0.0,
        "car_0/critic_loss": 0.25,
    }
    values = {"round": 1, "seconds": 2.0, "clients": 2, "dropped": 1, "train/x": 3.0}
    assert server == [values]
    axes = ["env_steps", "env_steps", "round"]
    assert [run.axes for run in wandb.runs] == [{"*": axis} for axis in axes]


@pytest.mark.parametrize(("enabled", "role"), [(True, "server"), (False, "client_00")])
def test_the_report_goes_to_the_run_that_is_judged(
    wandb: Wandb, tmp_path: Path, enabled: bool, role: str
) -> None:
    rundir = RunDir(tmp_path)
    rundir.report.write_text("<p>report</p>", encoding="utf-8")
    record(Scenario.model_validate(merge(SMALL, {"federated": {"enabled": enabled}})), tmp_path)
    for run in wandb.runs:
        pages = [values["report"].text for values in run.logged if "report" in values]
        judged = run.options["name"] == role
        assert pages == (["<p>report</p>"] if judged else [])
        found = [(a.name, a.type, a.files) for a in run.artifacts]
        assert found == ([(f"{run.id}-report", "report", [str(rundir.report)])] if judged else [])


def test_an_evaluation_has_a_run_of_its_own(wandb: Wandb, tmp_path: Path) -> None:
    replay = tmp_path / "replay.html"
    replay.write_text("<p>replay</p>", encoding="utf-8")
    record_evaluation(scenario(), tmp_path, {"evaluate/car_0/return": 2.0}, replay)
    record_evaluation(scenario(), tmp_path, {"evaluate/car_0/return": 3.0}, None)
    first, second = wandb.runs
    assert first.options["name"] == second.options["name"] == "eval"
    assert first.logged[0] == {"evaluate/car_0/return": 2.0}
    assert first.logged[1]["replay"].text == "<p>replay</p>"
    assert [artifact.files for artifact in first.artifacts] == [[str(replay)]]
    assert second.logged == [{"evaluate/car_0/return": 3.0}]
    assert not second.artifacts
    assert first.finished
    assert second.finished


@pytest.mark.parametrize("wandb", ["init", "log", "finish"], indirect=True)
def test_an_evaluation_goes_on_without_wandb(
    wandb: Wandb, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record_evaluation(scenario(), tmp_path, {"x": 2.0}, None)
    assert wandb.calls[-1] == wandb.failing
    line = "W&B: ConnectionError: no network; the run goes on without it\n"
    assert capsys.readouterr().err == line


def test_templates(wandb: Wandb, tmp_path: Path) -> None:
    chosen = scenario(
        prefix="fed-",
        group_template="{prefix}{scenario}",
        name_template="{prefix}{scenario}-{seed}-{role}-{{x}}",
    )
    record(chosen, tmp_path)
    assert {run.options["group"] for run in wandb.runs} == {"fed-small"}
    assert wandb.runs[0].options["name"] == "fed-small-7-client_01-{x}"


@pytest.mark.parametrize("wandb", ["init", "log", "finish"], indirect=True)
def test_whatever_fails_is_said_once(
    wandb: Wandb, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(scenario(), tmp_path)
    assert wandb.calls.count(wandb.failing) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "W&B: ConnectionError: no network; the run goes on without it\n"


@pytest.mark.parametrize("wandb", ["online"], indirect=True)
def test_what_the_server_does_not_take_is_recorded_offline(
    wandb: Wandb,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x")
    record(scenario(), tmp_path)
    assert wandb.calls[:3] == ["init", "online", "init"]
    assert wandb.calls.count("online") == 1  # each try takes a while
    assert [run.options["name"] for run in wandb.runs] == ["client_01", "client_00", "server"]
    assert {run.options["mode"] for run in wandb.runs} == {"offline"}
    assert all(run.logged and run.finished for run in wandb.runs)
    line = "W&B: ConnectionError: no network; recorded offline instead\n"
    assert capsys.readouterr().err == line


def test_what_is_not_sent_in_time_can_be_sent_later(
    wandb: Wandb,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    released = threading.Event()
    monkeypatch.setattr(background, "CLOSE_TIMEOUT", 0.1)
    monkeypatch.setattr(Run, "finish", lambda _: released.wait(TIMEOUT) and wandb.fail("finish"))
    wandb.failing = "finish"
    record(scenario(), tmp_path)
    released.set()
    for thread in threading.enumerate():
        if thread.name == "W&B":
            thread.join(TIMEOUT)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "without it; later: wandb sync "
        + " ".join(f"/runs/wandb/run-id{number}" for number in range(3))
    )


def test_the_end_of_a_run_waits_a_bounded_time(
    wandb: Wandb,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    released = threading.Event()
    monkeypatch.setattr(background, "CLOSE_TIMEOUT", 0.1)
    monkeypatch.setattr(wandb, "init", lambda **_: released.wait(TIMEOUT) and Run(wandb, {}))
    record(scenario(), tmp_path)
    released.set()
    for thread in threading.enumerate():
        if thread.name == "W&B":
            thread.join(TIMEOUT)
    assert capsys.readouterr().err.startswith("W&B: did not finish within ")


@pytest.mark.parametrize(
    ("mode", "key", "netrc", "expected"),
    [
        ("", "", None, "offline"),
        ("", "", "machine example.org login me password x", "offline"),
        ("", "", "machine api.wandb.ai login user password x", "online"),
        ("", "x", None, "online"),
        ("offline", "x", "machine api.wandb.ai login user password x", "offline"),
        ("disabled", "x", None, "disabled"),
        ("dryrun", "x", None, "offline"),
        ("run", "", None, "online"),
        ("online", "", None, "online"),
    ],
)
def test_the_mode(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    key: str,
    netrc: str | None,
    expected: str,
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_API_KEY", key)
    if netrc is not None:
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        (tmp_path / "netrc").write_text(netrc)
    assert wandb_mode() == expected


def test_a_netrc_that_cannot_be_read_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path))
    assert wandb_mode() == "offline"


def write_events(rundir: RunDir) -> None:
    rundir.client(0).mkdir(parents=True)
    rundir.episodes(0).write_text(episode().to_json() + "\n")
    rundir.rounds.write_text(
        '{"round": 1, "seconds": 1, "clients": [0], "dropped": {}, "metrics": {}}\n'
    )


def test_recorded_follows_the_files_to_the_end(wandb: Wandb, tmp_path: Path) -> None:
    def fail() -> None:
        with recorded(scenario(), RunDir(tmp_path)):
            write_events(RunDir(tmp_path))
            raise RuntimeError("round 2 failed")

    with pytest.raises(RuntimeError, match="round 2"):
        fail()
    assert [run.options["name"] for run in wandb.runs] == ["client_00", "server"]
    assert all(run.finished for run in wandb.runs)


@pytest.mark.parametrize(("enabled", "mode"), [(False, "offline"), (True, "disabled")])
def test_nothing_is_recorded_unless_wanted(
    wandb: Wandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: bool, mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    with recorded(scenario(enabled=enabled), RunDir(tmp_path)):
        write_events(RunDir(tmp_path))
    assert wandb.calls == []
