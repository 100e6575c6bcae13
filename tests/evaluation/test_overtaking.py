"""The overtaking benchmark: where cars start, which lines opponents follow, what is counted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from f110_fl.evaluation.overtaking import (
    EGO,
    LINES,
    OPPONENT,
    Course,
    Outcomes,
    Protocol,
    drive,
    show,
    summary,
)
from f110_fl.reporting.pages.recording import ReplayRecorder
from sim.config import EnvConfig
from sim.config.tracks import CircleTrack, Line2Track, OvalTrack
from sim.tracks.centerline import points_at
from sim.tracks.factory import make_track
from sim.tracks.track import TrackError

FEW = Protocol(starts=4, speeds=(0.4,))
WIDE = OvalTrack(kind="oval", width=6.0)


def environment(**driver: Any) -> EnvConfig:
    return EnvConfig.model_validate(
        {
            "track": WIDE,
            "cars": ({"name": EGO, "driver": driver}, {"name": OPPONENT}),
            "physics_steps_per_action": 5,
            "lidar": {"beams": 54, "max_range": 10.0},
        }
    )


def test_lines_of_a_circle_are_circles() -> None:
    track = make_track(CircleTrack(kind="circle", radius=5.0, width=2.0))
    course = Course(track, 0.4)
    s = np.linspace(0.0, track.length, 50)
    for name, radius in (("middle", 5.0), ("left", 4.6), ("right", 5.4)):
        poses = course.poses(name, s)
        assert np.hypot(*(poses[:, :2]).T) == pytest.approx(radius, abs=0.02)
        # At 6 m/s^2 sideways, where a bend's own circle allows it; none is faster than the middle.
        assert course.speeds(name, s) == pytest.approx(math.sqrt(6.0 * min(radius, 5.0)), rel=0.03)
    turned = poses[:, 2] - np.arctan2(poses[:, 1], poses[:, 0]) - math.pi / 2
    assert np.abs((turned + math.pi) % math.tau - math.pi).max() < 0.05


def test_a_line_is_shifted_as_far_as_there_is_room() -> None:
    track = make_track(CircleTrack(kind="circle", radius=5.0, width=1.0))
    course = Course(track, 0.4)  # half the width less 0.3 m to the wall
    s = np.linspace(0.0, track.length, 50)
    assert np.hypot(*course.poses("left", s)[:, :2].T) == pytest.approx(4.8, abs=0.06)
    assert np.hypot(*course.poses("right", s)[:, :2].T) == pytest.approx(5.2, abs=0.06)


def test_open_tracks_are_refused() -> None:
    with pytest.raises(TrackError, match="closed"):
        Course(make_track(Line2Track()), 0.4)


def test_the_car_starts_behind_at_its_speed() -> None:
    found = drive(environment(kind="follow_the_gap", speed=3.75), Protocol(4, (0.4,), seconds=0.05))
    fastest = math.sqrt(6.0 * 6.0)  # in the half circles, where two starts of four are
    grown = 0.05 * (3.75 - 0.4 * np.array([fastest, 8.0]))
    assert found.lead.min() >= -3.0 + grown.min() - 0.05
    assert found.lead.max() <= -3.0 + grown.max() + 0.05
    assert found.safe.all()
    assert not found.overtaken.any()


def test_a_faster_car_on_a_line_of_its_own_overtakes(tmp_path: Path) -> None:
    line = make_track(WIDE).line
    s = np.arange(0.0, line.length, 0.25)
    inside = points_at(line, np.column_stack([s, np.full(len(s), 1.8)]))
    np.savetxt(tmp_path / "inside.csv", inside[:, :2], delimiter=",")
    file = str(tmp_path / "inside.csv")
    found = drive(environment(kind="stanley", raceline=file, speed=7.0, acceleration=8.0), FEW)
    assert found.overtaken.all()
    assert found.safe.all()
    assert (found.lead > 3.0).all()


def test_a_car_that_stops_is_safe_and_stays_behind() -> None:
    found = drive(environment(kind="random", steer=0.0, speed_min=0.0, speed=0.0), FEW)
    assert found.safe.all()
    assert not found.overtaken.any()
    assert (found.lead < -3.0).all()


def test_a_faster_car_on_the_same_line_drives_into_the_other() -> None:
    env = environment(kind="stanley", speed=7.0, acceleration=6.0)
    found = drive(env, FEW)
    assert found.into_opponent[LINES.index("middle")].all()
    assert not found.overtaken[LINES.index("middle")].any()


def test_threads_do_not_change_a_byte() -> None:
    env, protocol = environment(kind="follow_the_gap", speed=6.0), Protocol(5, (0.6,), seconds=4.0)
    one, two = drive(env, protocol, seed=3), drive(env, protocol, seed=3, threads=2)
    assert [a.tobytes() for a in one] == [a.tobytes() for a in two]
    other = drive(env, protocol, seed=4)  # other noise
    assert one.lead.tobytes() != other.lead.tobytes()


def test_rates_are_of_all_scenarios_of_a_speed_and_of_a_line() -> None:
    shape = 3, 2, 5
    none = np.zeros(shape, np.bool_)
    wall, overtaken = none.copy(), none.copy()
    wall[0, 1, :3] = True
    overtaken[2, 0] = True
    outcomes = Outcomes(np.zeros(shape), overtaken, wall, none, none, none)
    found = summary(outcomes, Protocol(starts=5, speeds=(0.5, 0.75)))
    assert found["scenarios"] == 30
    assert found["safe"]["count"] == 27
    # Wilson's interval of 27 of 30.
    assert found["safe"]["low"] == pytest.approx(0.7438, abs=1e-4)
    assert found["safe"]["high"] == pytest.approx(0.9654, abs=1e-4)
    assert found["crashes"] == {"wall": 3, "into_opponent": 0, "by_opponent": 0}
    assert [part["safe"]["count"] for part in found["by_speed"].values()] == [15, 12]
    assert list(found["by_speed"]) == ["0.5", "0.75"]
    counts = {name: part["overtaken"]["count"] for name, part in found["by_line"].items()}
    assert counts == {"middle": 0, "left": 0, "right": 5}


def test_a_scenario_that_is_shown_ends_as_it_did() -> None:
    env, protocol = (
        environment(kind="stanley", speed=7.0, acceleration=6.0),
        Protocol(4, (0.4, 0.8)),
    )
    outcomes = drive(env, protocol, seed=5)
    chosen = np.zeros(outcomes.safe.shape, np.bool_)
    chosen[0, 0, [1, 3]] = chosen[2, 1, 2] = True
    recorder = ReplayRecorder()
    show(env, protocol, chosen, recorder, seed=5)
    episodes = recorder.recording("stanley", "overtaking", 5).episodes
    assert [episode.number for episode in episodes] == np.flatnonzero(chosen).tolist()
    assert [e.ends[0].touched == 1 for e in episodes] == (~outcomes.safe[chosen]).tolist()
    assert [e.ends[0].drove for e in episodes] == outcomes.into_opponent[chosen].tolist()
    line = make_track(WIDE)
    for episode, lead in zip(episodes, outcomes.lead[chosen], strict=True):
        s = line.to_frenet(episode.states[-1, :, :2])[:, 0]
        assert (s[0] - s[1] - lead + line.length / 2) % line.length == pytest.approx(
            line.length / 2, abs=1e-6
        )
