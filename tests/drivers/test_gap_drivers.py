"""Drivers that steer by what the lidar sees: disparities, previews, obstacles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import examples

from sim.config import (
    CarConfig,
    EnvConfig,
    FollowTheGapConfig,
    GapPreviewConfig,
    LidarConfig,
    Line2Track,
    OvalTrack,
    RandomTrack,
    VehicleConfig,
)
from sim.drivers.base import Driver
from sim.drivers.factory import make_driver
from sim.drivers.follow_the_gap import extend_disparities
from sim.layout import YAW, X
from sim.race import Race

CAR = VehicleConfig()


class Scripted:
    """A driver on line2 that is shown scans by hand."""

    def __init__(self, config, beams: int, field_of_view: float) -> None:
        lidar = LidarConfig(beams=beams, field_of_view=field_of_view, noise_std=0.0)
        cars = (CarConfig(name="car", driver=config),)
        self.race = Race(EnvConfig(cars=cars, lidar=lidar))
        self.race.reset(0, 0)
        self.angles = np.linspace(-field_of_view / 2, field_of_view / 2, beams)
        self.driver: Driver = make_driver(config, self.race.config, 0, self.race.track)

    def __call__(self, scan: np.ndarray, yaw: float = 0.0) -> tuple[float, float]:
        arrays, commands = self.race.world.arrays, np.zeros((1, 1, 2))
        arrays.scan[0, 0], arrays.state[0, 0, YAW] = scan, yaw
        self.driver.command(arrays, commands, 0, 1)
        return float(commands[0, 0, 0]), float(commands[0, 0, 1])


# Disparities


@given(
    ranges=st.lists(st.sampled_from([0.2, 0.6, 1.0, 1.2, 3.0, 9.0, 30.0]), min_size=3, max_size=60),
    disparity=st.floats(0.05, 3.0),
    clearance=st.floats(0.05, 0.6),
)
@example(ranges=[0.2, 0.6, 1.2], disparity=0.6, clearance=0.2)  # 1.2 - 0.6 rounds to above 0.6
@examples(200)
def test_beyond_an_edge_readings_are_as_near_as_it_over_the_cars_width(
    ranges, disparity, clearance
):
    spacing, horizon = 0.08, 10.0
    single = np.array(ranges, np.float32)
    depth = np.zeros_like(single)
    extend_disparities(single, horizon, disparity, clearance, spacing, depth)
    scan = single.astype(np.float64)
    expected = np.minimum(scan, horizon)
    for near in range(len(scan)):
        for beyond in (near - 1, near + 1):
            if 0 <= beyond < len(scan) and scan[beyond] - scan[near] > disparity:
                side = beyond - near
                edge = min(scan[near], horizon)
                reach = math.asin(min(clearance / edge, 1.0))
                for k in range(1, math.ceil(reach / spacing) + 1):
                    if 0 <= near + side * k < len(scan):
                        expected[near + side * k] = min(expected[near + side * k], edge)
    np.testing.assert_allclose(depth, expected, rtol=1e-6)


@pytest.mark.parametrize("side", [1, -1])
def test_follow_the_gap_does_not_cut_a_corner_with_its_rear(side):
    follow = Scripted(FollowTheGapConfig(margin=0.15), 271, math.radians(270))
    degrees = side * np.degrees(follow.angles)
    scan = np.full(271, 2.0)
    scan[np.abs(degrees - 40) < 15] = 8.0  # a gap to this side
    assert side * follow(scan)[0] > 0.3
    beside = scan.copy()
    beside[(degrees > 100) & (degrees < 125)] = 0.25  # 0.2 m beside the rear, 0.045 from the body
    steer, speed = follow(beside)
    assert steer == 0.0
    assert speed > 0.0
    other = scan.copy()
    other[(degrees < -100) & (degrees > -125)] = 0.25
    assert side * follow(other)[0] > 0.3
    behind = scan.copy()
    behind[degrees > 132] = 0.6  # 0.4 m behind the middle: past the rear
    assert side * follow(behind)[0] > 0.3


# Preview


@pytest.mark.parametrize("beams", [54, 270])
@pytest.mark.parametrize(
    "track",
    [
        Line2Track(),
        OvalTrack(straight=5, radius=3, width=2),
        RandomTrack(seed=1),
        *(RandomTrack(seed=s, length=60, width=2, min_radius=1.4) for s in range(4)),
    ],
    ids=lambda track: f"{track.kind}{getattr(track, 'seed', '')}",
)
def test_gap_preview_completes_a_lap(track, beams):
    cars = (CarConfig(name="car", driver=GapPreviewConfig(speed=4.0)),)
    lidar = LidarConfig(beams=beams)
    env = EnvConfig(track=track, cars=cars, lidar=lidar, max_steps=9000)
    made = Race(env)
    made.reset(0, 1)
    while not made.episodes.over.all():
        made.step(np.zeros((1, 0, 2)))
    assert made.world.arrays.finished.all()
    assert not made.world.arrays.crashed.any()
    assert made.track.length / (made.world.arrays.lap_steps[0, 0, 0] * 0.01) > 2.0


@pytest.mark.parametrize("driver", [GapPreviewConfig(), FollowTheGapConfig()], ids=lambda d: d.kind)
@pytest.mark.parametrize("y", [-1.2, -0.7, 0.0])
def test_passes_standing_cars_on_either_side(driver, y):
    standing = [(-8, -0.2, 0.3), (-2, -1.2, 0.0), (4, -0.3, 1.2), (10, -1.4, 0.0)]
    still = VehicleConfig(speed_max=1e-3)
    cars = [CarConfig(name=f"car_{i}", vehicle=still, reverse=False) for i in range(len(standing))]
    cars = (CarConfig(name="car", driver=driver), *cars)
    made = Race(EnvConfig(cars=cars, lidar=LidarConfig(beams=108), max_steps=1500))
    made.reset(0, 0)
    made.world.place(0, np.array([(-20, y, 0.0), *standing]), 0)
    while not made.episodes.over[0]:
        made.step(np.zeros((1, len(standing), 2)))
    assert not made.world.arrays.crashed.any()
    assert made.world.arrays.state[0, 0, X] > 12


def corridors(left: float, right: float) -> np.ndarray:
    """A scan of 181 beams over 180 degrees: a wall 2 m ahead between two gaps 30 degrees aside."""
    scan = np.full(181, 2.0)
    scan[50:71], scan[110:131] = right, left
    return scan


def test_gap_preview_stays_with_its_choice_until_another_is_clearly_better():
    choose = Scripted(GapPreviewConfig(continuity=0.05), 181, math.pi)
    assert choose(corridors(left=7.0, right=6.0))[0] > 0.2
    assert choose(corridors(left=6.0, right=6.1))[0] > 0.2
    assert choose(corridors(left=6.0, right=9.5))[0] < -0.2
    assert choose(corridors(left=6.1, right=6.0))[0] < -0.2
    choose.driver.reset(0)
    assert choose(corridors(left=6.1, right=6.0))[0] > 0.2
    fickle = Scripted(GapPreviewConfig(continuity=0.0), 181, math.pi)
    assert fickle(corridors(left=7.0, right=6.0))[0] > 0.2
    assert fickle(corridors(left=6.0, right=6.1))[0] < -0.2


def test_gap_preview_keeps_its_heading_in_the_world():
    """Turning by the angle to the chosen gap changes where the gap is seen, not the choice."""
    choose = Scripted(GapPreviewConfig(continuity=10.0, candidates=181), 181, math.pi)
    everywhere = np.full(181, 9.0)
    chosen = 2.0
    assert choose(everywhere, yaw=chosen)[0] == pytest.approx(0.0, abs=0.02)  # its own at first
    assert choose(everywhere, yaw=chosen - 0.2)[0] == pytest.approx(0.2, abs=0.02)
    assert choose(everywhere, yaw=chosen - 0.2 + 2 * math.pi)[0] == pytest.approx(0.2, abs=0.02)


def test_a_gap_that_the_car_does_not_fit_through_is_no_gap():
    choose = Scripted(GapPreviewConfig(margin=0.1), 181, math.pi)
    scan = np.full(181, 1.0)
    scan[46:55] = 9.0  # 9 degrees wide, at 1 m: 16 cm, the car's width is 31
    assert choose(scan)[0] == pytest.approx(0.0, abs=0.02)  # as good as any other
    scan[105:150] = 4.0  # 15 to 60 degrees to the left
    assert choose(scan)[0] > 0.3


def test_gap_preview_brakes_before_what_it_cannot_avoid():
    choose = Scripted(GapPreviewConfig(speed=9.0, margin=0.1, acceleration=4.0), 181, math.pi)
    open_road = np.full(181, 30.0)
    assert choose(open_road)[1] > 7.0
    previous = math.inf
    for distance in (6.0, 3.0, 1.5, 0.8):
        speed = choose(np.full(181, distance))[1]
        # The disc stops short of it by its radius, the front by what the body is longer.
        free = distance - CAR.length / 2
        assert speed < previous
        assert speed**2 <= 2 * 4.0 * free + 1e-6
        previous = speed
    assert choose(np.full(181, 0.1))[1] == 0.0


def free_by_marching(scan: np.ndarray, angles: np.ndarray, heading: float, radius: float) -> float:
    """Distance after which a disc that moves along a heading first touches a reading."""
    points = np.column_stack([scan * np.cos(angles), scan * np.sin(angles)])[scan < 10.0]
    travelled = np.arange(0.0, 10.0, 0.01)
    middle = travelled[:, None, None] * np.array([math.cos(heading), math.sin(heading)])
    gaps = np.linalg.norm(points - middle, axis=2).min(axis=1, initial=math.inf)
    touched = np.flatnonzero(gaps < radius)
    return float(travelled[touched[0]]) if len(touched) else 10.0


@given(seed=st.integers(0, 10_000))
@examples(6)
def test_free_distances_are_those_of_a_disc(seed):
    from sim.drivers.gap_preview import free_distances

    driver = GAP.driver
    rng = np.random.default_rng(seed)
    scan = rng.uniform(0.6, 12.0, 61).astype(np.float32)
    depth = np.zeros((2, 61))
    free_distances(scan, driver.tables[0].turns, driver.settings[0], depth)
    radius = CAR.width / 2 + 0.1
    for k in range(0, 61, 9):
        expected = free_by_marching(scan, GAP.angles, GAP.angles[k], radius)
        assert depth[1, k] == pytest.approx(expected, abs=0.012)


GAP = Scripted(GapPreviewConfig(margin=0.1), 61, math.pi)


def test_many_beams_are_put_together_into_sectors_of_the_nearest():
    from sim.drivers.gap_preview import free_distances

    many = Scripted(GapPreviewConfig(margin=0.1), 721, math.pi)
    driver = many.driver
    previews, _, scratch = driver.tables
    assert len(scratch[0, 0]) <= 180
    scan = np.full(721, 9.0, np.float32)
    scan[361] = 2.0  # a single beam, straight ahead
    depth = scratch[0]
    free_distances(scan, previews.turns, driver.settings[0], depth)
    ahead = (361 - driver.settings["begin"][0]) // driver.settings["group"][0]
    assert depth[1, ahead] == pytest.approx(2.0 - CAR.width / 2 - 0.1, abs=0.01)


def test_beams_are_needed_ahead():
    with pytest.raises(ValueError, match=r"gap_preview of 'car' needs at least 3 beams .* found 1"):
        Scripted(GapPreviewConfig(), 1, 1.0)
