"""Drivers that race: what they command, and that they complete laps."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from sim.config import (
    CarConfig,
    CircleTrack,
    EnvConfig,
    FollowTheGapConfig,
    LidarConfig,
    Line2Track,
    MapTrack,
    OvalTrack,
    PurePursuitConfig,
    RandomTrack,
    SecondaryViconConfig,
    StanleyConfig,
    VehicleConfig,
)
from sim.drivers.factory import make_driver
from sim.drivers.line import driven_speeds
from sim.layout import V, X, Y
from sim.race import Race
from sim.tracks.centerline import polyline
from sim.tracks.factory import make_track
from sim.tracks.track import TrackError

CAR = VehicleConfig()
WHEELBASE = CAR.front_axle + CAR.rear_axle


def race(track, *drivers, beams=3, num_envs=1, base_dir=None, **changes) -> Race:
    cars = tuple(CarConfig(name=f"car_{i}", driver=d) for i, d in enumerate(drivers))
    lidar = LidarConfig(beams=beams, noise_std=0.0)
    env = EnvConfig(**{"track": track, "cars": cars, "lidar": lidar, "max_steps": 9000} | changes)
    made = Race(env, num_envs=num_envs, base_dir=base_dir)
    for e in range(num_envs):
        made.reset(e, e)
    return made


def run(made: Race) -> Race:
    nothing = np.zeros((made.num_envs, 0, 2))
    while not made.episodes.over.all():
        made.step(nothing)
    return made


def command(made: Race, *, car: int = 0) -> tuple[float, float]:
    """Steering angle and speed that the car's driver asks for now."""
    config = made.config
    driver = make_driver(config.cars[car].driver, config, car, made.track, num_envs=made.num_envs)
    commands = np.full((made.num_envs, len(config.cars), 2), 9.0)
    driver.command(made.world.arrays, commands, made.num_envs - 1, made.num_envs)
    assert (commands[:-1] == 9.0).all()  # outside the range
    assert (np.delete(commands, car, axis=1) == 9.0).all()  # another car's
    steer, speed = commands[-1, car]
    return float(steer), float(speed)


# Pure pursuit


@pytest.mark.parametrize("yaw", [-0.2, 0.0, 0.1])
@pytest.mark.parametrize("offset", [-0.6, 0.0, 0.4])
def test_pure_pursuit_steers_on_the_circle_through_the_point_ahead(yaw, offset):
    driver = PurePursuitConfig(lookahead=2.0, lookahead_time=0.5)
    made = race(Line2Track(), PurePursuitConfig(), driver, num_envs=2)
    made.world.place(1, np.array([[-40, 0, 0], [0.0, -0.725 + offset, yaw]]), 0)
    made.world.arrays.state[1, 1, V] = 1.0
    # In the car's frame, from the rear axle: the point 2 + 0.5 m along the lane.
    back = np.array([0.0, offset]) - CAR.rear_axle * np.array([math.cos(yaw), math.sin(yaw)])
    dx, dy = np.array([back[0] + 2.5, 0.0]) - back
    left = math.cos(yaw) * dy - math.sin(yaw) * dx
    # The circle is tangent to the heading at the axle, so its centre is straight to the left.
    steer, speed = command(made, car=1)
    assert math.tan(steer) / WHEELBASE == pytest.approx(2 * left / (dx**2 + dy**2))
    assert speed == 4.0
    if left:
        radius = WHEELBASE / math.tan(steer)
        ahead = math.cos(yaw) * dx + math.sin(yaw) * dy
        assert math.hypot(ahead, left - radius) == pytest.approx(abs(radius))


def test_pure_pursuit_keeps_to_the_steering_limit_and_runs_on_past_an_open_end():
    made = race(Line2Track(), PurePursuitConfig(lookahead=0.5))
    made.world.place(0, np.array([[0.0, 0.2, 1.5]]), 0)
    assert command(made)[0] == -CAR.steer_max
    made.world.place(0, np.array([[46.6, -0.725, 0.0]]), 0)
    assert command(made)[0] == pytest.approx(0.0, abs=1e-9)


def test_speeds_follow_from_curvature_and_braking():
    track = make_track(OvalTrack(straight=40.0, radius=5.0))
    speeds = driven_speeds(track.line, 12.0, 4.0)
    s = np.arange(len(speeds)) * track.length / len(speeds)
    assert speeds.max() == pytest.approx(12.0, abs=0.5)
    bends = [(21, 20 + 5 * math.pi - 1), (61 + 5 * math.pi, 60 + 10 * math.pi - 1)]
    for begin, end in bends:
        inside = speeds[(s > begin) & (s < end)]
        assert inside == pytest.approx(math.sqrt(4.0 * 5.0), rel=0.03)
    # Before the bend v^2 grows by 2 a for each metre, back to the fastest.
    before = (s > 10) & (s < 19.5)
    expected = np.sqrt(20 + 2 * 4 * (20 - s[before]))
    assert speeds[before] == pytest.approx(np.minimum(expected, 12.0), abs=0.4)
    step = track.length / len(speeds)
    drop = np.append(speeds, speeds[0])[:-1] ** 2 - np.roll(speeds, -1) ** 2
    assert drop.max() <= 2 * 4 * step + 1e-9


def test_speeds_on_a_straight_line_are_the_fastest():
    line = polyline(np.array([[0.0, 0.0], [3.0, 0.0], [9.1, 0.0]]), closed=False)
    assert driven_speeds(line, 5.0, 4.0).tolist() == [5.0] * 37


@pytest.mark.parametrize(
    "track",
    [
        CircleTrack(),
        OvalTrack(straight=5, radius=3, width=2),
        Line2Track(),
        *(RandomTrack(seed=s, length=60, width=2, min_radius=1.4) for s in range(8)),
    ],
    ids=lambda track: f"{track.kind}{getattr(track, 'seed', '')}",
)
def test_pure_pursuit_completes_a_lap(track):
    made = run(race(track, PurePursuitConfig(speed=4.0), spawn_sets=(("spawn_1",),)))
    arrays = made.world.arrays
    assert arrays.finished.all()
    assert not arrays.crashed.any()
    average = made.track.length / (arrays.lap_steps[0, 0, 0] * 0.01)
    assert 2.0 < average < 4.2
    assert made.world.arrays.laps.tolist() == [[1]]


def test_pure_pursuit_keeps_near_the_line():
    made = race(OvalTrack(), PurePursuitConfig(speed=3.0), spawn_sets=(("spawn_1",),))
    offsets = []
    while not made.episodes.over[0]:
        made.step(np.zeros((1, 0, 2)))
        offsets.append(abs(made.world.arrays.lateral_offset[0, 0]))
    assert max(offsets[600:]) < 0.15


def test_pure_pursuit_follows_a_raceline(tmp_path: Path):
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    ring = 10.8 * np.column_stack([np.cos(angle), np.sin(angle)])
    rows = "".join(f"{10.8 * a}; {x}; {y}; 0\n" for a, (x, y) in zip(angle, ring, strict=True))
    (tmp_path / "raceline.csv").write_text("# made\n# s_m; x_m; y_m; psi_rad\n" + rows)
    driver = PurePursuitConfig(raceline="raceline.csv", speed=2.0)
    made = race(CircleTrack(), driver, base_dir=tmp_path, max_steps=1500)
    run(made)
    assert made.world.arrays.lateral_offset[0, 0] == pytest.approx(-0.8, abs=0.05)
    with pytest.raises(TrackError, match=r"missing\.csv"):
        race(CircleTrack(), PurePursuitConfig(raceline="missing.csv"), base_dir=tmp_path)


# Follow the gap


@pytest.mark.parametrize("beams", [54, 540])
@pytest.mark.parametrize(
    "track",
    [CircleTrack(radius=6), OvalTrack(straight=5, radius=3, width=2), RandomTrack(length=60)],
    ids=lambda track: track.kind,
)
def test_follow_the_gap_completes_a_lap(track, beams):
    made = run(race(track, FollowTheGapConfig(), beams=beams, spawn_sets=(("spawn_1",),)))
    assert made.world.arrays.finished.all()
    assert not made.world.arrays.crashed.any()


def test_follow_the_gap_passes_a_standing_car():
    wall = CarConfig(name="wall", vehicle=VehicleConfig(speed_max=1e-3))
    made = race(Line2Track(), FollowTheGapConfig(speed=2.0), beams=270)
    env = made.config.model_copy(update={"cars": (made.config.cars[0], wall), "max_steps": 1200})
    made = Race(env)
    made.reset(0, 0)
    made.world.place(0, np.array([[-10, -0.9, 0], [0, -0.5, 0]]), 0)
    while not made.episodes.over[0]:
        made.step(np.zeros((1, 1, 2)))
    state = made.world.arrays.state
    assert not made.world.arrays.crashed.any()
    assert state[0, 0, X] > 5
    assert abs(state[0, 1, Y] + 0.5) < 0.05


def follow(scan: np.ndarray, **changes) -> tuple[float, float]:
    """Command for a scan over 180 degrees, right to left."""
    lidar = LidarConfig(beams=len(scan), field_of_view=math.pi, noise_std=0.0)
    made = race(Line2Track(), FollowTheGapConfig(**changes), lidar=lidar)
    made.world.arrays.scan[0, 0] = scan
    return command(made)


def test_follow_the_gap_aims_at_the_middle_of_the_deepest_gap():
    angles = np.linspace(-math.pi / 2, math.pi / 2, 181)
    scan = np.full(181, 2.0)
    scan[100:121] = 8.0  # 10 to 30 degrees to the left
    # Each edge narrows the gap by asin(clearance / 2 m), the same on both sides.
    steer, speed = follow(scan)
    assert steer == pytest.approx(angles[110], abs=0.02)
    assert speed <= 3.0
    assert follow(scan[::-1].copy())[0] == pytest.approx(-steer, abs=1e-6)


def test_a_gap_that_the_car_does_not_fit_through_is_no_gap():
    scan = np.full(181, 1.0)
    scan[88:93] = 9.0  # 4 degrees wide, at 1 m: 7 cm
    scan[120:175] = 2.5
    assert follow(scan)[0] == CAR.steer_max
    assert follow(scan, disparity=20.0)[0] == pytest.approx(0.0, abs=0.01)


def test_follow_the_gap_slows_down_before_an_obstacle():
    near, far = np.full(181, 1.0), np.full(181, 30.0)
    free = 1.0 - CAR.length / 2
    assert follow(near, speed=9.0)[1] == pytest.approx(math.sqrt(2 * 4.0 * free), rel=1e-3)
    assert follow(far, speed=9.0, horizon=60.0)[1] == pytest.approx(9.0)
    assert follow(far, speed=9.0, horizon=5.0)[1] == pytest.approx(
        math.sqrt(2 * 4.0 * (5 - CAR.length / 2))
    )
    assert follow(np.zeros(181))[1] == 0.0


def test_follow_the_gap_needs_beams_ahead():
    with pytest.raises(ValueError, match=r"'car_0' needs at least 3 beams .* found 1"):
        race(Line2Track(), FollowTheGapConfig(), beams=1)


# Settings


def test_drivers_without_a_target_need_no_other_car():
    for driver in (PurePursuitConfig(), FollowTheGapConfig()):
        EnvConfig(cars=(CarConfig(name="alone", driver=driver),))
    with pytest.raises(ValidationError, match="'alone' targets 'car_0'; other cars: none"):
        EnvConfig(cars=(CarConfig(name="alone", driver=SecondaryViconConfig()),))


def test_pure_pursuit_needs_a_line(tmp_path: Path):
    from PIL import Image

    Image.fromarray(np.full((40, 40), 254, np.uint8)).save(tmp_path / "room.png")
    (tmp_path / "room.yaml").write_text(
        "image: room.png\nresolution: 0.2\norigin: [0, 0, 0]\n"
        "annotations: {spawn_points: [{name: a, pose: [4, 4, 0]}]}\n"
    )
    with pytest.raises(ValueError, match=r"'car_0' needs a raceline: .*no centre line"):
        race(MapTrack(file="room.yaml"), PurePursuitConfig(), base_dir=tmp_path)


# Racing lines with speeds


def raceline(directory: Path, radius: float = 10.0, rows: int = 200) -> Path:
    """A file as TUM's optimiser writes, without a header, on which 2 to 3 m/s are driven."""
    angle = np.linspace(0, 2 * np.pi, rows, endpoint=False)
    speed = 2.5 + 0.5 * np.sin(angle)
    none = np.zeros(rows)
    columns = [radius * angle, radius * np.cos(angle), radius * np.sin(angle), angle, none + 0.1]
    np.savetxt(directory / "fast.csv", np.column_stack([*columns, speed, none]), delimiter=",")
    return directory / "fast.csv"


@pytest.mark.parametrize("kind", [PurePursuitConfig, StanleyConfig])
@pytest.mark.parametrize(
    ("factor", "expected"), [(1.0, 3.0), (0.5, 1.5), (None, 2.2)], ids=["file", "half", "own"]
)
def test_line_followers_drive_the_files_speeds(tmp_path, kind, factor, expected):
    driver = kind(raceline=str(raceline(tmp_path)), speed=2.2, speed_factor=factor)
    made = race(CircleTrack(), driver)
    made.world.place(0, np.array([[0.0, 10.0, np.pi]]), 0)  # a quarter round, where it is fastest
    assert command(made)[1] == pytest.approx(expected, rel=1e-3)
    made.world.place(0, np.array([[0.0, -10.0, 0.0]]), 0)
    slowest = 2.2 if factor is None else 2.0 * factor
    assert command(made)[1] == pytest.approx(slowest, rel=1e-3)


@pytest.mark.parametrize("kind", [PurePursuitConfig, StanleyConfig])
def test_line_followers_use_their_own_speeds_without_the_files(tmp_path, kind):
    rows = np.loadtxt(raceline(tmp_path), delimiter=",")[:, 1:3]
    np.savetxt(tmp_path / "fast.csv", rows, delimiter=";")
    made = race(CircleTrack(), kind(raceline=str(tmp_path / "fast.csv"), speed=2.2))
    assert command(made)[1] == pytest.approx(2.2)
