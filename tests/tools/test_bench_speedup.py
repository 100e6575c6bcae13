"""tools/bench_speedup.py: whole runs of a tiny federation, and its sums on made-up ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from small import REPOSITORY, write_small

sys.path.insert(0, str(REPOSITORY / "tools"))
import bench_speedup as bench


def made(rounds: int, steps: int, *, pace: float = 100.0, rest: float = 0.5) -> dict[str, Any]:
    return {
        "reached": True,
        "rounds": rounds,
        "steps": steps,
        "step_us": pace,
        "overhead_s": rest,
    }


def test_time_is_what_undisturbed_clients_take_side_by_side() -> None:
    """The least of all paces, 100 us, and the least of a round's rest for as many clients."""
    runs = {
        1: [made(40, 200_000), made(20, 100_000, pace=130.0, rest=2.0)],
        4: [made(10, 60_000, pace=300.0, rest=1.0), made(10, 40_000, rest=4.0)],
    }
    found = dict(bench.summarise(runs))
    assert found[1]["seconds"]["value"] == pytest.approx((20 + 20 + 10 + 10) / 2)
    assert found[4]["seconds"]["value"] == pytest.approx((6 + 10 + 4 + 10) / 2)
    assert found[1]["speedup"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    # Of pairs, seed by seed: 40 / 16 and 20 / 14 s.
    assert found[4]["speedup"]["value"] == pytest.approx((2.5 + 20 / 14) / 2, abs=1e-3)
    assert found[4]["rounds"]["value"] == 10


@pytest.mark.slow
def test_runs_end_when_the_policy_is_good_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Any rate is from -1 on; none is above 1, and the command goes on with what is there."""
    federated = {"clients": 1, "round_interval": 2}
    path = write_small(tmp_path, federated=federated)
    words = ["--scenario", str(path), "--seeds", "2", "--episodes", "2", "--json"]
    words += ["--clients", "1", "2", "--rounds", "2", "--threshold", "1.0", "--sustain", "1"]
    out = tmp_path / "out"
    assert bench.main([*words, "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["limit_rounds"] == 2
    for clients, own in found["runs"].items():
        assert [run["seed"] for run in own] == [2]
        assert not any(run["reached"] for run in own)  # nothing learns in four episodes
        assert all(run["rounds"] == 2 and len(run["success"]) == 2 for run in own)
        assert (out / f"clients-{clients}_seed-2" / "report.html").is_file()
    assert all(summary["reached"] == 0 for summary in found["summary"].values())
    before = {path: path.stat().st_mtime_ns for path in out.rglob("rounds.jsonl")}
    assert bench.main([*words, "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("rounds.jsonl")} == before
    assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--threshold", "1.5"], "--threshold=1.5: allowed: above 0, to 1"),
        (["--sustain", "0"], "--sustain=0: allowed: from 1"),
        (["--set", "federated.clients=3"], "federated.clients: the tool sets that itself"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    path = write_small(tmp_path)
    assert bench.main(["--scenario", str(path), "--out", str(tmp_path / "out"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
