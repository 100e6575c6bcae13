"""What is kept of episodes for a replay."""

from __future__ import annotations

import numpy as np
import pytest
from recorded import record

from f110_fl.reporting.pages import recording as recording_module
from f110_fl.reporting.pages.outlines import outlines, simplify
from f110_fl.reporting.pages.recording import ReplayRecorder, Watchers
from f110_fl.training.trajectories import Recorder
from sim.layout import V, X, Y
from sim.race import Race
from sim.tracks.track import Track


class Ends(Recorder):
    """What the race showed when each episode ended."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, tuple[np.ndarray, np.ndarray, float]] = {}

    def step(self, race: Race, envs: list[int]) -> None:
        arrays, returns = race.world.arrays, race.episodes.returns
        for env in envs:
            found = arrays.state[env].copy(), arrays.scan[env].copy(), float(returns[env, 0])
            self.seen[env] = found

    def end(self, env: int, number: int) -> None:
        assert env == number


def test_a_recording_is_what_the_race_showed() -> None:
    ends = Ends()
    recording, race = record(also=(ends,))
    assert [episode.number for episode in recording.episodes] == [0, 1, 2, 3]
    assert recording.period == pytest.approx(0.05)
    assert [(car.name, car.role, car.target) for car in recording.cars] == [
        ("car_0", "agent", 1),
        ("car_1", "pure_pursuit", None),
    ]
    for env, episode in enumerate(recording.episodes):
        assert len(episode.states) == race.episodes.steps[env] + 1
        state, scan, paid = ends.seen[env]
        np.testing.assert_array_equal(episode.states[-1], state)
        np.testing.assert_array_equal(episode.scans[-1], scan)
        assert (episode.states[0, :, V] == 0).all()
        assert episode.rewards.sum() == pytest.approx(paid)
        assert episode.returns == {"car_0": paid}


def test_the_end_says_what_touched_what() -> None:
    recording, race = record(end_when="any")
    straight, _, hit, turned = recording.episodes
    assert [end.outcome for end in straight.ends] == ["time_limit", "time_limit"]
    assert straight.ends[0].frame == len(straight.states) - 1 == 60
    assert straight.ends[0].parts == ()
    crashed, other = turned.ends
    assert (crashed.outcome, crashed.wall, crashed.touched) == ("crash", True, None)
    assert other.outcome == "other_done"
    assert crashed.frame == len(turned.states) - 1
    assert crashed.parts == ("left",)
    own, other = hit.ends
    assert (own.touched, own.drove, own.parts) == (1, False, ("rear",))
    assert (other.touched, other.drove, other.parts) == (0, True, ("front", "left"))
    # Where it is said to have touched, there is a wall within a cell's diagonal or so.
    track = race.tracks[0]
    assert track.wall_distance(np.array([crashed.at]))[0] < 3 * track.resolution


def test_the_end_of_a_car_that_is_done_before_the_other() -> None:
    cars = [{"name": "car_0"}, {"name": "car_1"}]
    recording, _ = record(end_when="all", cars=cars)
    assert recording.agents == (0, 1)
    episode = recording.episodes[1]
    assert [end.outcome for end in episode.ends] == ["crash", "crash"]
    first, last = sorted(end.frame for end in episode.ends)
    assert first < last == len(episode.states) - 1
    for car, end in enumerate(episode.ends):
        places = episode.states[:, car][:, [X, Y]]
        assert (places[end.frame :] == places[end.frame]).all()
        assert (places[end.frame - 1] != places[end.frame]).any()


def test_laps_are_found_in_the_frames() -> None:
    recording, _ = record(
        episodes=1,
        track={"kind": "circle", "radius": 3.0},
        max_steps=600,
        laps=3,
        cars=[{"name": "car_0", "driver": {"kind": "pure_pursuit", "speed": 4.0}}],
    )
    (episode,) = recording.episodes
    times, frames = episode.lap_times[0], episode.lap_frames[0]
    assert len(times) == len(frames) == 3
    np.testing.assert_allclose(np.diff(frames) * recording.period, times[1:], atol=recording.period)
    assert frames[-1] == episode.ends[0].frame


def test_scans_are_thinned_evenly() -> None:
    whole, race = record(episodes=1)
    thin, _ = record(episodes=1, max_beams=5)
    np.testing.assert_array_equal(thin.episodes[0].scans, whole.episodes[0].scans[:, :, ::2])
    np.testing.assert_array_equal(thin.lidar.angles, whole.lidar.angles[::2])
    assert whole.lidar.angles[0] == pytest.approx(-race.config.lidar.field_of_view / 2)


def test_the_first_episodes_are_kept() -> None:
    recording, _ = record(max_episodes=2)
    assert [episode.number for episode in recording.episodes] == [0, 1]


@pytest.mark.parametrize(
    ("most", "kept"), [(3, [0, 1, 3]), (4, [0, 1, 2, 3]), (6, [0, 1, 2, 3, 4, 5])]
)
def test_half_are_failures_as_far_as_there_are(
    monkeypatch: pytest.MonkeyPatch, most: int, kept: list[int]
) -> None:
    monkeypatch.setattr(recording_module, "_succeeded", lambda _, env: env % 2 == 1)
    recording, _ = record(episodes=6, max_episodes=most)
    assert [episode.number for episode in recording.episodes] == kept


def test_of_one_episode_the_first_success_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for good, kept in (((2, 3), 2), ((), 0)):
        monkeypatch.setattr(recording_module, "_succeeded", lambda _, env, good=good: env in good)
        recording, _ = record(max_episodes=1)
        assert [episode.number for episode in recording.episodes] == [kept]


def test_an_episode_can_be_asked_for() -> None:
    everything, _ = record()
    recording, _ = record(max_episodes=1, only=2)
    (episode,) = recording.episodes
    assert episode.number == 2
    np.testing.assert_array_equal(episode.states, everything.episodes[2].states)


def test_what_each_term_paid_is_kept_by_its_name() -> None:
    shaping = [{"term": "distance", "weight": 2.0}, {"term": "time"}]
    pursuit = {"kind": "pursuit", "target": "car_1", "shaping": shaping}
    lap = {"kind": "solo_lap", "shaping": [{"term": "time", "weight": 1.0}], "crash_reward": -7.0}
    cars = [{"name": "car_0", "task": pursuit}, {"name": "car_1", "task": lap}]
    recording, _ = record(cars=cars, end_when="all")
    for episode in recording.episodes:
        own = ["distance", "time", "success_reward", "crash_reward"]
        assert list(episode.terms) == own
        paid = np.sum(list(episode.terms.values()), axis=0)
        np.testing.assert_allclose(paid, episode.rewards, rtol=0, atol=1e-9)
        away = np.hypot(*np.diff(episode.states[:, :, [X, Y]], axis=1)[:, 0].T)
        done = episode.ends[0].frame
        np.testing.assert_allclose(
            episode.terms["distance"][1 : done + 1, 0], -2.0 * np.diff(away)[:done], atol=1e-9
        )
        assert (episode.terms["distance"][:, 1] == 0.0).all()  # car_1 has no such term
        for end, paid, reward in zip(
            episode.ends, episode.terms["crash_reward"].T, [-10.0, -7.0], strict=True
        ):
            expected = np.zeros(len(episode.states))
            expected[end.frame] = reward if end.outcome == "crash" else 0.0
            np.testing.assert_array_equal(paid, expected)
    outcomes = [end.outcome for episode in recording.episodes for end in episode.ends]
    assert {"crash", "failed"} <= set(outcomes)


def test_scripted_cars_have_no_terms() -> None:
    cars = [{"name": "car_0", "driver": {"kind": "pure_pursuit", "speed": 2.0}}]
    (episode,) = record(episodes=1, cars=cars)[0].episodes
    assert episode.terms == {}


def test_several_watchers_see_the_same() -> None:
    told: list[list[str]] = [[], []]

    class Listener(Recorder):
        def __init__(self, log: list[str]) -> None:
            super().__init__()
            self.log = log

        def begin(self, race: Race, env: int) -> None:
            self.log.append(f"begin {race.agents} {env}")

        def step(self, race: Race, envs: list[int]) -> None:
            self.log.append(f"step {race.agents} {envs}")

        def end(self, env: int, number: int) -> None:
            self.log.append(f"end {env} {number}")

    race = record(episodes=1)[1]
    both = Watchers(*map(Listener, told))
    both.begin(race, 0)
    both.step(race, [0, 1])
    both.end(1, 5)
    assert told == [["begin ('car_0',) 0", "step ('car_0',) [0, 1]", "end 1 5"]] * 2


def test_nothing_recorded_is_said() -> None:
    with pytest.raises(ValueError, match="no episode has begun"):
        ReplayRecorder().recording("a", "b", 0)


def inside(loops: tuple[np.ndarray, ...], points: np.ndarray) -> np.ndarray:
    """Whether points are inside closed outlines, by the even-odd rule."""
    odd = np.zeros(len(points), bool)
    for loop in loops:
        for (x0, y0), (x1, y1) in zip(loop, np.roll(loop, -1, axis=0), strict=True):
            above = (y0 > points[:, 1]) != (y1 > points[:, 1])
            with np.errstate(divide="ignore", invalid="ignore"):
                cut = x0 + (points[:, 1] - y0) * (x1 - x0) / (y1 - y0)
            odd ^= above & (points[:, 0] < cut)
    return odd


@pytest.mark.parametrize("yaw", [0.0, 0.7])
def test_outlines_are_the_free_space_to_half_a_cell(yaw: float) -> None:
    rng = np.random.default_rng(5)
    free = rng.random((40, 60)) > 0.2  # islands of all kinds
    track = Track.from_occupancy("islands", free, 0.1, (3.0, -2.0, yaw))
    loops = outlines(track)
    height, width = track.distance.shape
    rows, columns = np.mgrid[0:height, 0:width]
    cells = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], 1) * track.resolution
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    centres = cells @ turn + track.origin[:2]
    deep = track.distance.ravel() > 1.5 * track.resolution  # no wall beside or diagonally
    found = inside(loops, centres)
    assert deep.any()
    assert found[deep].all()
    assert inside(loops, np.array([[-50.0, 0.0], [50.0, 50.0]])).tolist() == [False, False]


def test_an_outline_of_straight_walls_has_few_points() -> None:
    free = np.ones((20, 50), bool)
    (loop,) = outlines(Track.from_occupancy("room", free, 0.1, (0.0, 0.0, 0.0)))
    assert len(loop) <= 40
    np.testing.assert_allclose(loop.min(axis=0), [0.0, 0.0], atol=0.05)
    np.testing.assert_allclose(loop.max(axis=0), [5.0, 2.0], atol=0.05)
    x, y = loop.T
    assert 0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) > 0  # free space on the left


def test_what_is_free_beyond_the_walls_is_left_out() -> None:
    free = np.ones((60, 60), bool)
    free[20:40, 20:40] = False
    free[25:35, 25:35] = True  # a room inside
    line = np.array([[3.0, 3.0], [3.2, 3.0]])
    inner = Track.from_occupancy("inner", free, 0.1, (0.0, 0.0, 0.0), centerline=line)
    (loop,) = outlines(inner)
    np.testing.assert_allclose(
        [loop.min(axis=0), loop.max(axis=0)], [[2.5] * 2, [3.5] * 2], atol=0.05
    )
    assert len(outlines(Track.from_occupancy("both", free, 0.1, (0.0, 0.0, 0.0)))) == 3


def test_a_slope_has_no_stairs() -> None:
    (track,) = record(episodes=1)[1].tracks
    loops = outlines(track)
    assert len(loops) == 2
    for loop in loops:
        ways = np.diff(np.vstack([loop, loop[:2]]), axis=0)
        turns = np.diff(np.unwrap(np.arctan2(ways[:, 1], ways[:, 0])))
        assert np.abs(turns).max() < np.radians(15)
        assert track.wall_distance(loop).max() <= 2 * track.resolution


def test_simplifying_keeps_what_is_far_from_the_chord() -> None:
    square = np.array([[0, 0], [1, 0.01], [2, 0], [2, 2], [1, 1.99], [0, 2.0]])
    kept = simplify(square, 0.1)
    np.testing.assert_array_equal(kept, square[[0, 2, 3, 5]])
