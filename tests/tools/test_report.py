"""tools/report.py, from outside."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import report
from programs import call
from run_files import shown, write_run

tool = partial(call, report.main)


def test_a_run_gets_its_report_beside_its_files(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run")
    result = tool(tmp_path, "run")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip() == str(rundir.report)
    document = shown(rundir.report)
    assert document["title"] == "run"
    assert document["replaysMissing"] == "no policy is kept in the run's directory"


def test_runs_and_a_grid_are_compared(tmp_path: Path) -> None:
    write_run(tmp_path / "one", seed=1)
    for seed in (2, 3):
        write_run(tmp_path / "grid" / f"seed-{seed}", seed=seed)
    runs = [{"name": f"seed-{seed}", "settings": {"seed": seed}} for seed in (3, 2)]
    (tmp_path / "grid" / "grid.json").write_text(json.dumps({"name": "grid", "runs": runs}))
    result = tool(tmp_path, "one", "grid", "one", "--out", "all.html", "--replay", "0")
    assert (result.returncode, result.stderr) == (0, "")
    document = shown(tmp_path / "all.html")
    assert [run["name"] for run in document["runs"]] == ["one", "seed-3", "seed-2"]
    assert document["replaysMissing"] == "left out: --replay 0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "report.py: nowhere: no such directory"),
        (("empty",), "no run there (no config.json)"),
        (("run", "--out", "no/such/file.html"), "no such folder"),
        (("run", "--replay", "-1"), "report.py: --replay=-1: allowed: 0 or more"),
        (("run", "--replay", "x"), "see --help"),
        ((), "see --help"),
        (("old",), "written by another version of this program"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text('{"format": 1}')
    result = tool(tmp_path, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_half_written_run_says_what_is_missing(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run", weights=True)
    rundir.episodes(0).write_bytes(b"\x00" * 4096)
    rundir.rounds.write_bytes(rundir.rounds.read_bytes()[:-20])
    assert tool(tmp_path, "run").returncode == 0
    (run,) = shown(rundir.report)["runs"]
    assert run["missing"] == [
        "clients/00/episodes.jsonl: 1 of 1 lines unreadable",
        "clients/00/episodes.jsonl: no episode",
        "rounds.jsonl: 1 of 8 lines unreadable",
    ]
    assert run["state"] == "unfinished"
    assert len(run["history"]) == 7
