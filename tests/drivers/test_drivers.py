"""The scripted driver, rule by rule, on world arrays written by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from sim.config import CarConfig, EnvConfig, Line2Track, SecondaryViconConfig, VehicleConfig
from sim.drivers.factory import make_driver
from sim.layout import YAW, X, Y
from sim.physics.kernels import make_arrays
from sim.tracks.factory import make_track

STEER_MAX = 0.4
LINE2 = make_track(Line2Track())
CAR, TARGET = 1, 0


def command(
    bearing: float = 0.0,
    distance: float = 9.0,
    *,
    offset: float = 0.0,
    yaw: float = 0.0,
    **changes: float,
) -> tuple[float, float]:
    """Command of a car at (3, -2) that sees its target at this bearing and distance."""
    driver = SecondaryViconConfig(target="target", **changes)
    env = EnvConfig(
        cars=(
            CarConfig(name="target"),
            CarConfig(name="car", vehicle=VehicleConfig(steer_max=STEER_MAX), driver=driver),
        )
    )
    E, C = 3, 2
    world = make_arrays(E, C, beams=3, steer_delay=2)
    world.state[1, CAR, [X, Y, YAW]] = 3.0, -2.0, yaw
    world.state[1, TARGET, X] = 3.0 + distance * math.cos(yaw + bearing)
    world.state[1, TARGET, Y] = -2.0 + distance * math.sin(yaw + bearing)
    world.lateral_offset[1, CAR] = offset
    commands = np.full((E, C, 2), 7.0)
    make_driver(driver, env, CAR, LINE2, num_envs=E).command(world, commands, 1, 2)
    assert (commands[[0, 2]] == 7.0).all()  # outside the range
    assert (commands[:, TARGET] == 7.0).all()  # another car's
    steer, speed = commands[1, CAR]
    return float(steer), float(speed)


def test_holds_its_speed_straight() -> None:
    assert command() == (0.0, 0.8)
    assert command(speed=1.3) == (0.0, 1.3)


@pytest.mark.parametrize("yaw", [0.0, 2.0, -1.0])
def test_turns_by_the_angle_that_leads_away(yaw: float) -> None:
    # A target at bearing b leaves pi - |b| to turn, to the other side.
    behind_left = command(math.pi - 0.2, 0.5, yaw=yaw, avoid_gain=1.5)
    assert behind_left == (pytest.approx(-0.3), 0.8)
    behind_right = command(-math.pi + 0.2, 0.5, yaw=yaw, avoid_gain=1.5)
    assert behind_right == (pytest.approx(0.3), 0.8)


@given(
    bearing=st.floats(0.01, math.pi - 0.01),
    yaw=st.floats(-3.0, 3.0),
    gain=st.floats(0.0, 4.0),
)
@examples(50)
def test_turns_from_the_targets_side_within_the_steering_limit(
    bearing: float, yaw: float, gain: float
) -> None:
    expected = min(gain * (math.pi - bearing), STEER_MAX)
    assert command(bearing, 0.9, yaw=yaw, avoid_gain=gain)[0] == pytest.approx(-expected, abs=1e-9)
    assert command(-bearing, 0.9, yaw=yaw, avoid_gain=gain)[0] == pytest.approx(expected, abs=1e-9)


def test_avoids_only_inside_the_distance() -> None:
    assert command(1.0, 0.999)[0] == -STEER_MAX
    assert command(1.0, 1.001)[0] == 0.0
    assert command(1.0, 1.001, avoid_distance=1.1)[0] == -STEER_MAX
    assert command(1.0, 0.0, avoid_distance=0.0)[0] == 0.0


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_recovers_at_half_speed_and_full_turn(side: float) -> None:
    assert command(offset=side * 0.55) == (0.0, 0.8)
    assert command(offset=side * 0.5501) == (-side * STEER_MAX, 0.4)
    assert command(offset=side * 1.2) == (-side * STEER_MAX, 0.4)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_stops_far_off_the_centre(side: float) -> None:
    assert command(offset=side * 1.2001) == (-side * STEER_MAX, 0.0)
    assert command(offset=side * 0.9, stop_offset=0.8)[1] == 0.0


def test_recovery_takes_precedence_over_avoidance() -> None:
    # Off to the left, target on the right: avoiding alone would steer left.
    assert command(-1.0, 0.5)[0] == STEER_MAX
    assert command(-1.0, 0.5, offset=0.6) == (-STEER_MAX, 0.4)
