"""Files that a run depends on: one that changed is named before the run goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small import write_small

import run
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.loading.scenarios import load_scenario
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import prepare_directory
from f110_fl.runs.plan import resolve_plan


def begun(tmp_path: Path) -> tuple[Scenario, RunDir]:
    """A run on a map, with a client on a centre line, that has begun."""
    maps = tmp_path / "maps"
    maps.mkdir()
    (maps / "ring.yaml").write_text("image: ring.png\nresolution: 0.05\norigin: [0, 0, 0]\n")
    for name in ("ring.png", "ring_centerline.csv", "lane.csv", "other.png"):
        (maps / name).write_text("0,0,1,1\n")
    ring, lane = (
        {"kind": "map", "file": "maps/ring.yaml"},
        {"kind": "centerline", "file": "maps/lane.csv"},
    )
    file = write_small(
        tmp_path,
        env={"track": ring, "spawn_sets": []},
        federated={"vary": {"env.track": [ring, lane]}, "root": str(tmp_path / "run")},
    )
    scenario, rundir = load_scenario(file), RunDir(tmp_path / "run")
    with prepare_directory(scenario, rundir):
        pass
    return scenario, rundir


@pytest.mark.parametrize("name", ["ring.yaml", "ring.png", "ring_centerline.csv", "lane.csv"])
def test_a_file_that_changed_is_named(tmp_path: Path, name: str) -> None:
    scenario, rundir = begun(tmp_path)
    parse = run.build_parser().parse_args
    words = ["--resume", str(rundir.root)]
    resolve_plan(parse(words), {})
    path = tmp_path / "maps" / name
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    with pytest.raises(UserError, match=rf"{name}: changed since the run began"):
        resolve_plan(parse(words), {})
    path.unlink()
    with pytest.raises(UserError, match=rf"{name}: is gone since"):
        resolve_plan(parse(words), {})
    path.write_bytes(before)
    resolve_plan(parse(words), {})
    path.write_bytes(before + b"\n")
    assert resolve_plan(parse([*words, "--changed-files"]), {}).resumed
    with prepare_directory(scenario, rundir, resumed=True):
        pass
    resolve_plan(parse(words), {})  # the change was accepted, and is known from now on


@pytest.mark.parametrize("name", ["ring.pgm", "centerline.csv", "RING_raceline.CSV"])
def test_what_stands_in_for_a_maps_files_is_known_too(tmp_path: Path, name: str) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    (maps / "ring.yaml").write_text("image: ring.png\nresolution: 0.05\norigin: [0, 0, 0]\n")
    (maps / name).write_text("0,0,1,1\n")
    track = {"kind": "map", "file": "maps/ring.yaml"}
    root = str(tmp_path / "run")
    file = write_small(tmp_path, env={"track": track, "spawn_sets": []}, federated={"root": root})
    with prepare_directory(load_scenario(file), RunDir(tmp_path / "run")):
        pass
    words = ["--resume", root]
    resolve_plan(run.build_parser().parse_args(words), {})
    (maps / name).write_text("0,0,2,2\n")
    with pytest.raises(UserError, match=rf"{name}: changed since the run began"):
        resolve_plan(run.build_parser().parse_args(words), {})


def test_other_files_may_change(tmp_path: Path) -> None:
    _, rundir = begun(tmp_path)
    (tmp_path / "maps" / "other.png").write_text("new")
    (tmp_path / "small.yaml").unlink()
    words = ["--resume", str(rundir.root)]
    resolve_plan(run.build_parser().parse_args(words), {})
    rundir.inputs.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"inputs\.json: cannot be read"):
        resolve_plan(run.build_parser().parse_args(words), {})
    rundir.inputs.unlink()  # a run of an older version
    shutil.rmtree(tmp_path / "maps")
    resolve_plan(run.build_parser().parse_args(words), {})


def test_the_flag_needs_a_run_to_resume(tmp_path: Path) -> None:
    words = ["--scenario", str(write_small(tmp_path)), "--changed-files"]
    with pytest.raises(UserError, match="--changed-files: needs --resume"):
        resolve_plan(run.build_parser().parse_args(words), {})
