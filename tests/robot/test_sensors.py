"""Scans of other range finders, read as the policy's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from f110_fl.robot.contract import ContractError, Scan
from f110_fl.robot.sensors import ScanReader

OWN = Scan(beams=19, field_of_view=4.7, max_range=10.0, mount_x=0.0)


def test_its_own_scan_passes_unchanged() -> None:
    reader = ScanReader(OWN, 19, -2.35, 4.7 / 18)
    ranges = np.linspace(0.5, 9.5, 19, dtype=np.float32)
    seen, failed = reader.read(ranges, 0.0, math.inf)
    assert np.array_equal(seen, ranges)
    assert (failed, reader.note) == (0, "")


@given(
    count=st.integers(60, 2000),
    half=st.floats(2.36, math.pi),
    clockwise=st.booleans(),
    wall=st.floats(0.3, 3.0),
)
def test_each_beam_is_the_nearest_of_the_scans(
    count: int, half: float, clockwise: bool, wall: float
) -> None:
    """A straight wall to the left reads wall / sin(angle), within half a beam, from any scan."""
    increment = 2.0 * half / (count - 1) * (-1.0 if clockwise else 1.0)
    start = half if clockwise else -half
    angles = start + increment * np.arange(count)
    with np.errstate(divide="ignore"):
        ranges = np.where(np.sin(angles) > 0.0, wall / np.sin(angles), math.inf)
    reader = ScanReader(OWN, count, start, increment)
    seen, failed = reader.read(ranges, 0.0, 30.0)
    assert failed == 0
    assert ("clockwise" in reader.note) == clockwise
    for angle, found in zip(np.linspace(-2.35, 2.35, 19), seen, strict=True):
        near = angles[np.abs(angles - angle) <= abs(increment) / 2 + 1e-9]
        expected = [wall / math.sin(a) if math.sin(a) > 0.0 else math.inf for a in near]
        allowed = [r if r <= 30.0 else 10.0 for r in expected]
        assert min(abs(found - a) for a in allowed) < 1e-4 * max(allowed)


def test_what_is_no_range_reads_as_in_rep_117() -> None:
    """NaN, -inf and too near are beams that failed; inf and too far hit nothing."""
    ranges = np.full(19, 2.0, np.float32)
    ranges[[0, 3, 5, 7, 9]] = [math.nan, -math.inf, 0.01, math.inf, 31.0]
    seen, failed = ScanReader(OWN, 19, -2.35, 4.7 / 18).read(ranges, 0.05, 30.0)
    assert failed == 3
    assert np.array_equal(np.flatnonzero(seen == 10.0), [0, 3, 5, 7, 9])
    assert np.isfinite(seen).all()


@pytest.mark.parametrize(
    ("count", "start", "increment", "reason"),
    [
        (19, -1.5, 3.0 / 18, "covers -85.9 to 85.9 degrees; the policy needs -134.6 to 134.6"),
        (1080, 0.0, 4.7 / 1079, "covers 0.0 to 269.3 degrees"),
        (9, -2.35, 4.7 / 8, "a beam every 33.66 degrees; the policy needs one every 29.92"),
        (0, -2.35, 0.1, "a scan of 0 beams"),
        (19, math.nan, 0.1, "a scan of 19 beams from nan"),
        (19, -2.35, 0.0, "angle_increment is 0"),
    ],
)
def test_scans_that_do_not_fit_are_refused(
    count: int, start: float, increment: float, reason: str
) -> None:
    with pytest.raises(ContractError) as caught:
        ScanReader(OWN, count, start, increment)
    assert reason in str(caught.value)


def test_another_number_of_beams_is_refused() -> None:
    reader = ScanReader(OWN, 1080, -2.35, 4.7 / 1079)
    with pytest.raises(ContractError, match="a scan of 1079 beams after scans of 1080"):
        reader.read(np.ones(1079), 0.0, 30.0)
