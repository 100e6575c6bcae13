"""Drivers that follow a line: Stanley, and the blocker."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from sim.config import (
    BlockerConfig,
    CarConfig,
    CircleTrack,
    EnvConfig,
    LidarConfig,
    Line2Track,
    MapTrack,
    OvalTrack,
    PurePursuitConfig,
    RandomTrack,
    StanleyConfig,
    VehicleConfig,
)
from sim.drivers.factory import make_driver
from sim.layout import YAW_RATE, V
from sim.race import Race

CAR = VehicleConfig()
WHEELBASE = CAR.front_axle + CAR.rear_axle
MIDDLE = -0.725  # m, y of the centre line of line2


def race(track, *drivers, base_dir=None, vehicle=CAR, **changes) -> Race:
    cars = tuple(
        CarConfig(name=f"car_{i}", driver=d, vehicle=vehicle) for i, d in enumerate(drivers)
    )
    lidar = LidarConfig(beams=3, noise_std=0.0)
    env = EnvConfig(**{"track": track, "cars": cars, "lidar": lidar, "max_steps": 9000} | changes)
    made = Race(env, base_dir=base_dir)
    made.reset(0, 0)
    return made


def command(made: Race, car: int = 0) -> tuple[float, float]:
    """Steering angle and speed that the car's driver asks for now."""
    driver = make_driver(made.config.cars[car].driver, made.config, car, made.track)
    commands = np.zeros((1, len(made.config.cars), 2))
    driver.command(made.world.arrays, commands, 0, 1)
    return float(commands[0, car, 0]), float(commands[0, car, 1])


ON_LINE2 = race(Line2Track(), StanleyConfig(), PurePursuitConfig())


# Lines


def test_the_line_of_least_curvature_is_faster_than_the_centre_line():
    track = RandomTrack(seed=3, length=40.0)
    cut = StanleyConfig(speed=6.0, least_curvature=True)
    times = []
    for driver in (StanleyConfig(speed=6.0), cut):
        made = race(track, driver)
        while not made.episodes.over[0]:
            made.step(np.zeros((1, 0, 2)))
        times += made.lap_times(0, 0)
    assert len(times) == 2
    assert times[1] < 0.97 * times[0]


def test_where_there_is_no_line_of_least_curvature_the_centre_line_is_followed():
    made = [race(Line2Track(), StanleyConfig(least_curvature=cut)) for cut in (False, True)]
    assert command(made[1]) == command(made[0])  # line2 is open


# Stanley


@given(
    offset=st.floats(-0.8, 0.8),
    yaw=st.floats(-0.15, 0.15),
    speed=st.floats(0.0, 6.0),
    yaw_rate=st.floats(-1.0, 1.0),
    gain=st.floats(0.0, 6.0),
    damping=st.floats(0.0, 0.2),
)
@examples(60)
def test_stanley_steers_by_the_papers_law(offset, yaw, speed, yaw_rate, gain, damping):
    made = ON_LINE2
    driver = StanleyConfig(gain=gain, softening=0.7, yaw_damping=damping)
    made.world.place(0, np.array([[0.0, MIDDLE + offset, yaw], [-40, 0, 0]]), 0)
    own = made.world.arrays.state[0, 0]
    own[V], own[YAW_RATE] = speed, yaw_rate
    commands = np.zeros((1, 2, 2))
    make_driver(driver, made.config, 0, made.track).command(made.world.arrays, commands, 0, 1)
    front = offset + CAR.front_axle * math.sin(yaw)  # left of the line
    expected = -yaw - math.atan(gain * front / (0.7 + speed)) - damping * yaw_rate
    limited = min(max(expected, -CAR.steer_max), CAR.steer_max)
    assert commands[0, 0, 0] == pytest.approx(limited, abs=1e-9)
    assert commands[0, 0, 1] == 4.0


def test_stanleys_front_axle_approaches_the_line_exponentially():
    """At rate gain v / (softening + v), where the error is small and the wheels are quick."""
    driver = StanleyConfig(gain=2.0, softening=0.0, yaw_damping=0.0, speed=1.0)
    quick = VehicleConfig(model="kinematic", steer_rate_max=6.0, steer_delay=0)
    made = race(Line2Track(), driver, vehicle=quick, spawn_sets=(("spawn_1",),), physics_step=0.001)
    made.world.place(0, np.array([[-40.0, MIDDLE + 0.05, 0.0]]), 0)
    made.world.arrays.state[0, 0, V] = 1.0
    errors = []
    for _ in range(2000):
        _, y, _, _, yaw, *_ = made.world.arrays.state[0, 0]
        errors.append(y + CAR.front_axle * math.sin(yaw) - MIDDLE)
        made.step(np.zeros((1, 0, 2)))
    expected = 0.05 * np.exp(-2.0 * 0.001 * np.arange(2000))
    np.testing.assert_allclose(errors, expected, atol=0.002)


def test_on_a_circle_stanley_holds_the_steering_that_keeps_the_front_axle_on_it():
    driver = StanleyConfig(speed=1.0)
    kinematic = VehicleConfig(model="kinematic")
    made = race(CircleTrack(radius=5.0), driver, vehicle=kinematic, max_steps=3000)
    fronts, steers = [], []
    while not made.episodes.over[0]:
        made.step(np.zeros((1, 0, 2)))
        x, y, steer, _, yaw, *_ = made.world.arrays.state[0, 0]
        steers.append(steer)
        ahead = CAR.front_axle * math.cos(yaw), CAR.front_axle * math.sin(yaw)
        fronts.append(math.hypot(x + ahead[0], y + ahead[1]))
    assert np.abs(np.subtract(fronts[1000:], 5.0)).max() < 0.03
    assert np.mean(steers[1000:]) == pytest.approx(math.asin(WHEELBASE / 5.0), abs=0.005)


@pytest.mark.parametrize(
    "track",
    [
        OvalTrack(),
        OvalTrack(straight=5, radius=3, width=2),
        Line2Track(),
        *(RandomTrack(seed=s, length=60, width=2, min_radius=1.4) for s in range(5)),
    ],
    ids=lambda track: f"{track.kind}{getattr(track, 'seed', '')}",
)
def test_stanley_completes_a_lap_near_the_line(track):
    made = race(track, StanleyConfig(speed=4.0), spawn_sets=(("spawn_1",),))
    offsets = []
    while not made.episodes.over.all():
        made.step(np.zeros((1, 0, 2)))
        offsets.append(abs(made.world.arrays.lateral_offset[0, 0]))
    arrays = made.world.arrays
    assert arrays.finished.all()
    assert not arrays.crashed.any()
    assert 2.0 < made.track.length / (arrays.lap_steps[0, 0, 0] * 0.01) < 4.2
    assert max(offsets[500:]) < 0.3


def test_stanley_follows_a_raceline_at_the_speeds_of_pure_pursuit(tmp_path: Path):
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    rows = "".join(f"{10.8 * math.cos(a)}, {10.8 * math.sin(a)}\n" for a in angle)
    (tmp_path / "ring.csv").write_text("# x_m, y_m\n" + rows)
    speeds = {}
    for config in (StanleyConfig, PurePursuitConfig):
        driver = config(raceline="ring.csv", speed=9.0, acceleration=2.0)
        made = race(CircleTrack(), driver, base_dir=tmp_path, max_steps=1500)
        while not made.episodes.over[0]:
            made.step(np.zeros((1, 0, 2)))
        assert made.world.arrays.lateral_offset[0, 0] == pytest.approx(-0.8, abs=0.1)
        speeds[config] = made.world.arrays.state[0, 0, V]
    assert speeds[StanleyConfig] == pytest.approx(math.sqrt(2.0 * 10.8), rel=0.03)
    assert speeds[StanleyConfig] == pytest.approx(speeds[PurePursuitConfig], rel=0.01)


@pytest.mark.parametrize(
    ("driver", "needed"), [(StanleyConfig(), "a raceline"), (BlockerConfig(), "a centre line")]
)
def test_a_line_is_needed(tmp_path: Path, driver, needed):
    from PIL import Image

    Image.fromarray(np.full((40, 40), 254, np.uint8)).save(tmp_path / "room.png")
    (tmp_path / "room.yaml").write_text(
        "image: room.png\nresolution: 0.2\norigin: [0, 0, 0]\n"
        "annotations: {spawn_points: [{name: a, pose: [4, 4, 0]}, {name: b, pose: [2, 2, 0]}]}\n"
    )
    cars = (CarConfig(name="car_0"), CarConfig(name="car_1", driver=driver))
    env = EnvConfig(track=MapTrack(file="room.yaml"), cars=cars)
    with pytest.raises(
        ValueError, match=rf"{driver.kind} of 'car_1' needs {needed}: .*no centre line"
    ):
        Race(env, base_dir=tmp_path)


# Blocker

SETTINGS = {"lookahead": 1.0, "lookahead_time": 0.5, "distance": 5.0, "shift": 0.2, "margin": 0.1}
ROOM = 2.55 / 2 - CAR.width / 2 - 0.1  # m to either side of the centre line


def blocked(gap: float, target: float, offset: float = 0.0) -> float:
    """Offset of the point that a blocker at rest steers for, from its command.

    Args:
        gap: How far the target is behind, m.
        target: The target's offset, m.
        offset: The blocker's, m.
    """
    made = race(Line2Track(), PurePursuitConfig(), BlockerConfig(target="car_0", **SETTINGS))
    poses = np.array([[-gap, MIDDLE + target, 0.0], [0.0, MIDDLE + offset, 0.0]])
    made.world.place(0, poses, 0)
    steer, _ = command(made, car=1)
    # The circle through the rear axle and a point 1 m ahead, l to the left: 2 l / (1 + l^2).
    curve = math.tan(steer) / WHEELBASE
    left = (1.0 - math.sqrt(1.0 - curve**2)) / curve if curve else 0.0
    return offset + left


def test_the_blocker_moves_in_front_of_the_car_behind():
    assert blocked(3.0, 0.15) == pytest.approx(0.15)
    assert blocked(3.0, -0.1) == pytest.approx(-0.1)
    assert blocked(3.0, 0.9) == pytest.approx(0.2)  # no faster than 0.2 m for each metre
    assert blocked(3.0, 0.7, 0.6) == pytest.approx(0.7)


def test_the_blocker_returns_to_the_centre_where_there_is_nothing_to_block():
    assert blocked(5.5, 0.9, 0.1) == pytest.approx(0.0)  # too far behind
    assert blocked(-3.0, 0.9, -0.1) == pytest.approx(0.0)  # in front


@pytest.mark.parametrize("gap", [-0.5, 0.0, 0.5])
def test_the_blocker_neither_attacks_nor_gives_way_to_a_car_alongside(gap):
    assert blocked(gap, 0.4, -0.3) == pytest.approx(-0.3)


def test_the_blocker_keeps_from_the_edges():
    assert blocked(3.0, 1.1, 0.9) == pytest.approx(ROOM)
    assert blocked(3.0, -1.1, -0.9) == pytest.approx(-ROOM)


def ring(folder: Path, offset: float) -> str:
    """A raceline on the circle of 10 m, to the right of its centre line."""
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    rows = "".join(f"{(10 + offset) * math.cos(a)}, {(10 + offset) * math.sin(a)}\n" for a in angle)
    (folder / "ring.csv").write_text("# x_m, y_m\n" + rows)
    return "ring.csv"


@pytest.mark.parametrize("offset", [-0.8, 0.8])
def test_a_faster_car_passes_a_car_on_the_line_but_not_the_blocker(tmp_path: Path, offset):
    ahead = {}
    for driver in (PurePursuitConfig(speed=2.0), BlockerConfig(target="car_0", speed=2.0)):
        fast = PurePursuitConfig(raceline=ring(tmp_path, offset), speed=3.0)
        made = race(CircleTrack(), fast, driver, base_dir=tmp_path, laps=9, max_steps=1500)
        starts = made.track.from_frenet(np.array([[1.0, -offset], [5.0, 0.0]]))
        made.world.place(0, starts, 0)
        while not made.episodes.over[0]:
            made.step(np.zeros((1, 0, 2)))
        lead = np.subtract(*made.world.arrays.arc_length[0, ::-1])
        ahead[driver.kind] = math.remainder(lead, made.track.length)
        ended = made.world.arrays.drove_into[0, 0]
        steps = made.episodes.steps[0]
        assert ended == (1 if driver.kind == "blocker" else -1)
        assert not made.world.arrays.wall_contact.any()
    assert ahead["pure_pursuit"] < -5.0
    assert 0.5 < ahead["blocker"] < 0.7  # bumper to bumper
    assert steps > 300


@pytest.mark.parametrize("track", [OvalTrack(), RandomTrack(seed=3), RandomTrack(seed=5)])
def test_the_blocker_stays_in_the_lane_whatever_the_target_does(track):
    """The target jumps from side to side behind it."""
    driver = BlockerConfig(target="car_0", speed=4.0, margin=0.2)
    made = race(track, PurePursuitConfig(), driver)
    arrays = made.world.arrays
    made.world.place(0, made.track.from_frenet(np.array([[2.0, 0.0], [5.0, 0.0]])), 0)
    room = 1.5 - CAR.width / 2
    commands = np.zeros((1, 2, 2))
    scripted = make_driver(driver, made.config, 1, made.track)
    widest = driven = 0.0
    for step in range(1800):
        arrays.lateral_offset[0, 0] = 1.3 * (-1) ** (step // 90)
        arrays.arc_length[0, 0] = arrays.arc_length[0, 1] - 2.0
        scripted.command(arrays, commands, 0, 1)
        made.world.step(commands)
        widest = max(widest, abs(arrays.lateral_offset[0, 1]))
        driven += 0.01 * arrays.state[0, 1, V]
    assert not arrays.crashed[0, 1]
    assert driven > 50
    assert 0.6 < widest < room
