"""The fastest speeds along a line: what is known in closed form, and all limits on any line."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from sim.tracks.speeds import Limits, speed_profile, travel_time

CAR = Limits(lateral=8.0, longitudinal=6.0, braking=5.0, acceleration=4.0, fastest=12.0)


def test_a_circle_is_driven_at_the_root_of_acceleration_times_radius() -> None:
    curvature = np.full(200, -1 / 5.0)
    speeds = speed_profile(curvature, math.tau * 5 / 200, CAR, closed=True)
    assert speeds == pytest.approx(np.full(200, math.sqrt(8.0 * 5.0)))
    time = travel_time(speeds, math.tau * 5 / 200, closed=True)
    assert time == pytest.approx(math.tau * 5 / math.sqrt(40.0))


def test_a_straight_between_bends_is_entered_and_left_at_the_bends_speed() -> None:
    """There v^2 = v0^2 + 2 a s from its begin, v^2 = v0^2 + 2 b s to its end."""
    step, count = 0.01, 3000
    s = step * np.arange(count)  # bends of 5 m radius up to 10 m and from 20 m
    curvature = np.where((s < 10) | (s > 20), 1 / 5.0, 0.0)
    speeds = speed_profile(curvature, step, CAR, closed=False)
    straight = (s > 10.05) & (s < 19.95)
    up, down = 40 + 2 * 4.0 * (s - 10), 40 + 2 * 5.0 * (20 - s)
    expected = np.sqrt(np.minimum(np.minimum(up, down), 12.0**2)[straight])
    assert speeds[straight] == pytest.approx(expected, rel=2e-3)
    assert speeds[~straight & (np.abs(s - 15) > 5.05)] == pytest.approx(math.sqrt(40.0), rel=1e-6)


def test_motor_power_limits_above_the_switch_speed() -> None:
    """There a = a0 v0 / v, so that v^3 = v0^3 + 3 a0 v0 s."""
    step = 0.002
    curvature = np.zeros(10_000)
    curvature[0] = 8.0 / 5.0**2  # 5 m/s there
    car = Limits(8.0, acceleration=4.0, switch_speed=5.0)
    speeds = speed_profile(curvature, step, car, closed=False)
    expected = np.cbrt(5.0**3 + 3 * 4.0 * 5.0 * step * np.arange(1, 10_000))
    assert speeds[1:] == pytest.approx(expected, rel=1e-3)


def test_a_line_without_an_exponent_brakes_in_bends_as_on_straights() -> None:
    curvature = np.array([0.0, 0.0, 0.05, 0.05, 0.05, 1.0, 0.0])
    both = Limits(8.0, braking=5.0, fastest=12.0, exponent=math.inf)
    speeds = speed_profile(curvature, 1.0, both, closed=False)
    expected = np.sqrt(8.0 + 2 * 5.0 * np.array([5, 4, 3, 2, 1, 0]))
    assert speeds[:6] == pytest.approx(np.minimum(expected, 12.0))
    assert speeds[6] == 12.0


LINES = st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=40)


def excess(speeds, curvature, steps, car: Limits, closed: bool) -> float:
    """Largest share by which a limit is exceeded."""
    following = np.roll(np.arange(len(speeds)), -1)
    here = np.arange(len(speeds))
    if not closed:
        here, following = here[:-1], following[:-1]
    along = (speeds[following] ** 2 - speeds[here] ** 2) / (2 * steps[here])
    worst = [speeds.max() / car.fastest, (speeds**2 * np.abs(curvature)).max() / car.lateral]
    for ends in (here, following):
        sideways = speeds[ends] ** 2 * np.abs(curvature[ends]) / car.lateral
        tyres = np.hypot(sideways, along / car.longitudinal)
        if car.exponent == math.inf:
            tyres = np.maximum(sideways, np.abs(along) / car.longitudinal)
        motor = car.acceleration * np.minimum(1.0, car.switch_speed / speeds[ends])
        worst += [tyres.max(), (along / motor).max(), (-along / car.braking).max()]
    return max(worst) - 1


@given(
    curvature=LINES,
    spacing=st.floats(0.05, 2.0),
    closed=st.booleans(),
    longitudinal=st.floats(1.0, 10.0),
    switch=st.floats(2.0, 15.0),
    exponent=st.sampled_from([2.0, math.inf]),
    data=st.data(),
)
@examples(100)
def test_no_limit_is_exceeded_and_no_point_can_be_faster(
    curvature, spacing, closed, longitudinal, switch, exponent, data
) -> None:
    bends = np.array(curvature)
    uneven = data.draw(st.lists(st.floats(0.8, 1.2), min_size=len(bends), max_size=len(bends)))
    steps = spacing * np.array(uneven)
    car = CAR._replace(longitudinal=longitudinal, switch_speed=switch, exponent=exponent)
    speeds = speed_profile(bends, steps, car, closed=closed)
    assert excess(speeds, bends, steps, car, closed) < 1e-9
    for i in range(len(speeds)):
        faster = speeds.copy()
        faster[i] *= 1.01
        assert excess(faster, bends, steps, car, closed) > 1e-7
