"""Entries that were exported, and entries with a memory: the same games as of the checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import Export, lap_scenario
from leagues import ENTRIES, write_league

from f110_fl.evaluation.games import Start
from f110_fl.evaluation.league import play_league, unfit
from f110_fl.evaluation.race import play
from f110_fl.loading.leagues import load_league
from f110_fl.robot import contract
from sim import policy

STARTS = [Start("oval", seed) for seed in range(3)]


@pytest.mark.parametrize(
    "learner",
    [
        {"algorithm": "ppo", "lstm": {"units": 8, "sequence": 8}},
        {"algorithm": "td3", "hidden": [8], "encoder": {"kind": "conv", "kernels": [3, 2]}},
    ],
    ids=["memory", "convolutions"],
)
def test_an_exported_policy_is_its_checkpoint(tmp_path: Path, learner: dict[str, Any]) -> None:
    export = Export(tmp_path, lap_scenario(learner))
    frozen = {"kind": "frozen_policy", "agent": "car_0"}
    entries = {
        **ENTRIES,
        "kept": {"driver": {**frozen, "checkpoint": "run/best.safetensors"}},
        "exported": {"driver": {"kind": "frozen_policy", "checkpoint": "exported"}},
        "elsewhere": {"driver": {**frozen, "checkpoint": "exported", "agent": "car_1"}},
        "empty": {"driver": {"kind": "frozen_policy", "checkpoint": "damaged"}},
    }
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "contract.json").write_text("[]")
    lidar = {"beams": 19, "max_range": 10.0, "noise_std": 0.0}
    changes = {"lidar": lidar, "time_limit": 6.0, "reverse": True}
    path = write_league(tmp_path, entries=entries, seeds=2, **changes)
    league = load_league(path)
    found = unfit(league)
    assert set(found) == {"elsewhere", "empty"}
    assert "the file has no policy of it; it has those of: 'car_0'" in found["elsewhere"]
    assert "not a readable exported policy: " in found["empty"]
    games = {name: play(league, (name, "follow_the_gap"), STARTS) for name in ("kept", "exported")}
    renamed = [
        replace(
            game,
            entries=("kept", "follow_the_gap"),
            winner="kept" if game.winner == "exported" else game.winner,
        )
        for game in games["exported"]
    ]
    assert renamed == games["kept"]
    assert any(abs(game.distances[0] - 1.0) > 0.05 for game in renamed)  # it has moved
    # What it remembers is each game's own, whatever is played beside it.
    assert play(league, ("kept", "follow_the_gap"), STARTS[1:2]) == games["kept"][1:2]
    # The same networks in NumPy, in double precision, on some observations in a row.
    kept, runtime = policy.load_policy(export.directory).actor(), _runtime(export.directory)
    rng, memory = np.random.default_rng(0), runtime.memory()
    for _ in range(10):
        seen = rng.uniform(-1, 1, 23).astype(np.float32)
        expected, memory = runtime.act(seen, memory)
        np.testing.assert_allclose(kept.act(seen[None])[0], expected, atol=1e-5)
    # Whoever changes the exported policy has another entry.
    names = ["exported", "slow"]
    play_league(league, names, tmp_path / "out", 1, lambda _: None)
    document = json.loads((export.directory / "contract.json").read_text())
    document["origin"]["version"] = "another"
    (export.directory / "contract.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"before entries\.exported, entries\.elsewhere changed"):
        play_league(load_league(path), names, tmp_path / "out", 1, lambda _: None)


def _runtime(directory: Path) -> Any:
    from f110_fl.robot.policy import load_network

    return load_network(directory, contract.load_contract(directory).policy)


def test_the_files_have_the_same_names_everywhere() -> None:
    assert (policy.CONTRACT, policy.ARRAYS) == (contract.CONTRACT, contract.ARRAYS)
