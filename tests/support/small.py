"""A scenario small enough to federate in seconds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
# Where a program that a test writes finds this project and what is in this folder.
PYTHONPATH = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests" / "support")])

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 7,
    "episodes": 2,
    "env": {
        "max_steps": 40,
        "lidar": {"beams": 8, "noise_std": 0.01},
        "spawn_sets": [["spawn_3", "spawn_1"], ["spawn_2", "spawn_1"]],
        "cars": [
            {"name": "car_0", "task": {"kind": "convoy_lock", "target": "car_1"}},
            {"name": "car_1", "driver": {"kind": "secondary_vicon", "target": "car_0"}},
        ],
    },
    "learners": {
        "car_0": {
            "algorithm": "td3",
            "hidden": [16, 16],
            "batch_size": 16,
            "warmup_steps": 20,
            "replay": {"capacity": 100, "alpha": 0.6},
        }
    },
    "evaluation": {"every": 1, "episodes": 1},
    "federated": {"clients": 2, "round_interval": 1},
}


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Returns ``base`` with nested ``changes`` over it."""
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        both = isinstance(value, dict) and isinstance(inner, dict)
        merged[key] = merge(inner, value) if both else value
    return merged


def write_small(directory: Path, **changes: Any) -> Path:
    """Writes the small scenario, with changes, and returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "small.yaml"
    path.write_text(yaml.safe_dump(merge(SMALL, changes)))
    return path
