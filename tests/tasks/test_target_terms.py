"""Shaping terms about another car against their formulas, worked out by hand."""

from __future__ import annotations

import functools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from task_situations import OTHER, OWN, STEP, Situation, shaped

from sim.episodes import Outcome
from sim.layout import V


@functools.cache  # hypothesis asks often
def cached(term: str, **settings: object) -> Situation:
    return shaped({"term": term, **settings})


def test_heading_pays_the_cosine_to_the_target() -> None:
    s = shaped({"term": "heading", "target": "other", "weight": 2.0})
    s.place(OTHER, 3.0, 4.0)
    for yaw in (0.0, 1.0, -2.5):
        s.place(OWN, 0.0, 1.0, yaw)
        assert s.pay() == pytest.approx(2.0 * math.cos(math.pi / 4 - yaw) * STEP)
    s.place(OWN, 3.0, 4.0)
    assert s.pay() == 0.0  # no way to it


@pytest.mark.parametrize(
    ("distance", "v", "pressed"), [(0.75, 0.1, 1), (0.7501, 1, 0), (0.5, 0.0999, 0), (0.5, -1, 0)]
)
def test_pressure_pays_near_and_fast(distance: float, v: float, pressed: int) -> None:
    s = shaped({"term": "pressure", "target": "other", "weight": 3.0})
    s.place(OTHER, 0.0, 0.0)
    s.place(OWN, -distance, 0.0, v=v)
    assert s.pay() == pytest.approx(3.0 * pressed * STEP)


def test_streak_grows_with_pressure_to_its_cap_and_breaks() -> None:
    s = shaped({"term": "streak", "target": "other", "weight": 4.0, "cap": 0.2})
    s.place(OTHER, 0.0, 0.0)
    s.place(OWN, -0.5, 0.0, v=1.0)
    parts = [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [s.pay() for _ in parts] == pytest.approx([4.0 * part * STEP for part in parts])
    s.world.state[0, OWN, V] = 0.0
    assert s.pay() == 0.0
    s.world.state[0, OWN, V] = 1.0
    assert s.pay() == pytest.approx(4.0 * 0.25 * STEP)
    s.reset()
    assert s.pay() == pytest.approx(4.0 * 0.25 * STEP)


def test_escape_pays_beyond_its_distance() -> None:
    s = shaped({"term": "escape", "target": "other", "weight": -2.0, "distance": 5.0})
    s.place(OWN, 0.0, 0.0)
    s.place(OTHER, 3.0, 4.0)
    assert s.pay() == 0.0
    s.place(OTHER, 3.0, 4.001)
    assert s.pay() == pytest.approx(-2.0 * STEP)


def test_distance_pays_metres_nearer() -> None:
    s = shaped({"term": "distance", "target": "other", "weight": 2.0})
    s.place(OTHER, 3.0, 4.0)
    s.place(OWN, 0.0, 0.0)
    s.reset()
    s.place(OWN, 3.0, 1.0)
    assert s.pay() == pytest.approx(2.0 * (5.0 - 3.0))
    s.place(OTHER, 3.0, 11.0)  # the target's doing counts as well
    assert s.pay() == pytest.approx(2.0 * (3.0 - 10.0))


points = st.tuples(*[st.floats(-20, 20) for _ in range(4)])


@examples(30)
@given(st.lists(points, min_size=1, max_size=12), st.sampled_from([1.0, 0.99, 0.5]))
def test_distance_is_the_difference_of_a_potential(
    ways: list[tuple[float, ...]], discount: float
) -> None:
    """Discounted, its sum tells the first and the last state alone; on a closed way, nothing."""
    s = cached("distance", target="other", weight=2.0, discount=discount)

    def put(x: float, y: float, other_x: float, other_y: float) -> float:
        s.place(OWN, x, y)
        s.place(OTHER, other_x, other_y)
        return -2.0 * math.hypot(x - other_x, y - other_y)

    begin = potential = put(*ways[0])
    s.reset()
    rewards = 0.0
    for t, way in enumerate([*ways[1:], ways[0]]):
        potential = put(*way)
        rewards += discount**t * s.pay()
    assert rewards == pytest.approx(discount ** len(ways) * potential - begin, abs=1e-9)
    if discount == 1.0:
        assert rewards == pytest.approx(0.0, abs=1e-9)


def test_displacement_pays_metres_off_the_lane_centre() -> None:
    s = shaped({"term": "displacement", "target": "other", "weight": 2.0, "discount": 0.5})
    s.put(OTHER, 7.0, 0.25)
    s.reset()
    s.put(OTHER, 9.0, -0.75)  # to the other side, and along the lane
    assert s.pay() == pytest.approx(2.0 * (0.5 * 0.75 - 0.25))
    s.put(OWN, 6.0, 1.0)  # its own offset does not matter
    s.put(OTHER, 9.0, 0.0)
    assert s.pay() == pytest.approx(2.0 * (0.0 - 0.75))


def passing(**settings: float) -> Situation:
    s = shaped({"term": "overtake", "target": "other", "weight": 2.0, "bonus": 7.0, **settings})
    s.put(OTHER, 7.0)  # own is at 5
    s.reset()
    return s


def test_overtake_pays_metres_on_the_target_and_one_bonus() -> None:
    s = passing()
    s.put(OWN, 6.0)
    s.put(OTHER, 7.5)
    assert s.pay() == pytest.approx(2.0 * 0.5)  # from 2 m behind to 1.5
    s.put(OWN, 8.4)
    assert s.pay() == pytest.approx(2.0 * 2.4)  # 0.9 m ahead: not passed
    s.put(OWN, 8.6)
    assert s.pay() == pytest.approx(2.0 * 0.2 + 7.0)
    s.put(OWN, 5.0)
    assert s.pay() == pytest.approx(-2.0 * 3.6)
    s.put(OWN, 9.0)
    assert s.pay() == pytest.approx(2.0 * 4.0)  # no second bonus
    s.put(OWN, 5.0)
    s.reset()
    s.put(OWN, 9.0)
    assert s.pay() == pytest.approx(2.0 * 4.0 + 7.0)


def test_overtake_knows_a_lead_over_the_seam_and_beyond_half_a_lap() -> None:
    s = passing()
    length = s.track.length
    s.put(OTHER, length - 0.5)
    s.put(OWN, length - 1.0)
    s.reset()
    s.put(OWN, 1.0)
    assert s.pay() == pytest.approx(2.0 * 2.0 + 7.0)
    lead = 1.5
    while lead < 0.9 * length:  # all round, without becoming the one behind
        lead += 5.0
        s.put(OWN, length - 0.5 + lead)
        assert s.pay() == pytest.approx(2.0 * 5.0)


def test_overtake_gives_its_bonus_for_lapping() -> None:
    s = passing()
    s.put(OWN, 9.0)
    s.reset()
    lead, paid = 2.0, 0.0
    while lead < s.track.length + 0.5:
        assert paid == pytest.approx(2.0 * (lead - 2.0))
        lead += 4.0
        s.put(OWN, 7.0 + lead)
        paid += s.pay()
    assert s.track.length + 1.0 < lead
    assert paid == pytest.approx(2.0 * (lead - 2.0) + 7.0)


def test_overtake_gives_no_bonus_to_who_starts_ahead_or_crashes() -> None:
    s = passing()
    s.put(OWN, 9.0)
    s.reset()
    s.put(OWN, 10.0)
    assert s.pay() == pytest.approx(2.0)
    s.put(OWN, 5.0)
    s.pay()
    s.put(OWN, 9.0)  # it fell behind, so now it passes
    assert s.pay() == pytest.approx(2.0 * 4.0 + 7.0)
    for car in (OWN, OTHER):
        s = passing()
        s.put(OWN, 9.0)
        s.world.crashed[0, OTHER] = car == OTHER
        reward, _ = s.step(Outcome.CRASH if car == OWN else Outcome.NONE)
        assert reward - (-10.0 if car == OWN else 0.0) == pytest.approx(2.0 * 4.0)
