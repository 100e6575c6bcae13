"""Norms of rounds against their tensors, one client after the other."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from run_files import parameters, write_run

from f110_fl.reporting.pages import drift as drift_module
from f110_fl.reporting.pages.drift import Drift
from f110_fl.reporting.pages.history import read_history


def networks(number: int, client: int | None) -> np.ndarray:
    """Only networks count, not the optimizer's moments."""
    return np.concatenate(
        [v.ravel() for n, v in sorted(parameters(number, client).items()) if "/model/" in n]
    ).astype(np.float64)


def test_norms_are_those_of_the_networks(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run", clients=3, weights=True)
    found = Drift(rundir).of(2, [0, 1, 2])
    assert found is not None
    before, now = networks(1, None), networks(2, None)
    ways = [networks(2, client) - before for client in range(3)]
    assert found["norm"] == pytest.approx(np.linalg.norm(now - before), rel=1e-5)
    for client, way in enumerate(ways):
        assert found["update"][str(client)] == pytest.approx(np.linalg.norm(way), rel=1e-5)
        away = np.linalg.norm(networks(2, client) - now)
        assert found["drift"][str(client)] == pytest.approx(away, rel=1e-5)
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in combinations(ways, 2)]
    assert found["agreement"] == pytest.approx(np.mean(cosines), abs=1e-5)


def test_the_first_round_has_no_updates(tmp_path: Path) -> None:
    found = Drift(write_run(tmp_path / "run", weights=True)).of(1, [0, 1])
    assert found is not None
    assert found["norm"] is found["update"] is found["agreement"] is None
    assert set(found["drift"]) == {"0", "1"}


def test_files_that_are_gone_leave_no_norms(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run", weights=True)
    rundir.client_tensors(3, 1).unlink()
    rundir.client_tensors(3, 0).write_bytes(b"half")
    rundir.global_tensors(4).unlink()
    drift = Drift(rundir)
    found = drift.of(3, [0, 1])
    assert found is not None
    assert found["drift"] is found["update"] is None
    assert found["norm"] is not None
    assert drift.of(4, [0, 1]) is None
    assert drift.of(99, [0]) is None


def test_of_many_bytes_only_some_rounds_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rundir = write_run(tmp_path / "run", weights=True)
    rounds = read_history(rundir).rounds
    assert Drift(rundir).chosen(rounds) == [1, 2, 3, 4, 5, 6, 7, 8]
    size = sum(path.stat().st_size for path in rundir.round(8).iterdir())
    monkeypatch.setattr(drift_module, "MOST_BYTES", 3 * size)
    assert Drift(rundir).chosen(rounds) == [2, 5, 8]
    assert Drift(rundir).chosen([]) == []
