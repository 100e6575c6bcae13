"""The physics is what it was, without the recordings of f1tenth_gym at hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from physics_recording import FILE, record


@pytest.fixture(scope="module")
def recordings() -> tuple[dict, dict]:
    """What is recorded, and what the same drives give now."""
    return json.loads(FILE.read_text()), record()


@pytest.mark.parametrize("car", ["a", "b"])
def test_recorded_drives(recordings: tuple[dict, dict], car: str) -> None:
    recorded, found = recordings
    np.testing.assert_allclose(found[car], recorded[car], rtol=1e-6, atol=1e-8)


def test_recorded_scans(recordings: tuple[dict, dict]) -> None:
    recorded, found = (np.array(each["scans"]) for each in recordings)
    assert found.shape == recorded.shape
    # Another processor's rounding may let a beam meet another cell of a wall.
    assert np.mean(np.abs(found - recorded) > 1e-5) < 0.05
