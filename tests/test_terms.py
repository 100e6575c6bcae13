"""Shaping terms against their formulas, worked out by hand on arrays written by hand."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_situations import OTHER, OVAL, OWN, STEP, Situation, shaped, total

from sim.config import EnvConfig
from sim.config.terms import TermConfig
from sim.layout import STEER, V, X, Y
from sim.race import Race
from sim.tasks import Outcome
from sim.tasks.terms import TERMS

LENGTH = 2 * 20.0 + 2 * math.pi * 6.0  # m, of the oval, within what its polyline is shorter


def test_every_term_has_settings_and_a_formula() -> None:
    union = TermConfig.__args__[0].__args__
    assert {member().term for member in union} == set(TERMS)
    assert sorted(TERMS.values()) == list(range(len(TERMS)))


@functools.cache  # hypothesis asks often
def cached(term: str, **settings: object) -> Situation:
    return shaped({"term": term, **settings})


# Of the car and the track


def test_progress_pays_metres_along_the_lane() -> None:
    s = shaped({"term": "progress", "weight": 2.0})
    s.put(OWN, 5.3)
    assert s.pay() == pytest.approx(0.6)
    assert s.pay() == 0.0
    s.put(OWN, 5.2, d=0.7)
    assert s.pay() == pytest.approx(-0.2)


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 0.999), st.lists(st.floats(0.01, 0.49), min_size=3, max_size=40), st.booleans())
def test_progress_of_a_lap_is_the_length_of_the_track_from_anywhere(
    start: float, ways: list[float], backwards: bool
) -> None:
    """However a lap is divided into steps, and wherever the seam lies between them."""
    parts = np.cumsum([0.0, *ways]) / sum(ways)
    if np.diff(parts).max() >= 0.49:  # a step of half a lap has no direction
        parts = np.linspace(0.0, 1.0, 7)
    s = cached("progress")
    length = s.track.length
    assert length == pytest.approx(LENGTH, abs=0.1)
    places = (start + (-parts if backwards else parts)) * length
    assert total(s, places) == pytest.approx(-length if backwards else length, rel=1e-9)


def test_progress_over_the_seam_is_no_lap() -> None:
    s = shaped({"term": "progress"})
    assert total(s, [s.track.length - 0.1, 0.2]) == pytest.approx(0.3)
    assert total(s, [0.2, s.track.length - 0.1]) == pytest.approx(-0.3)


def test_progress_on_an_open_track_has_no_seam() -> None:
    s = shaped({"term": "progress"}, track={"kind": "line2"})
    assert total(s, [1.0, 95.0]) == pytest.approx(94.0)


def test_progress_forgets_the_last_episode() -> None:
    s = shaped({"term": "progress"})
    s.put(OWN, 20.0)
    s.reset()
    assert s.pay() == 0.0


def test_speed_pays_its_part_of_the_fastest() -> None:
    s = shaped({"term": "speed", "weight": 3.0})
    s.world.state[0, OWN, V] = 2.0  # of 8
    assert s.pay() == pytest.approx(3.0 * 0.25 * STEP)
    s.world.state[0, OWN, V] = -4.0
    assert s.pay() == pytest.approx(-3.0 * 0.5 * STEP)


def test_time_pays_seconds() -> None:
    assert shaped({"term": "time", "weight": -2.0}).pay() == pytest.approx(-2.0 * STEP)


def test_lateral_pays_metres_to_either_side() -> None:
    s = shaped({"term": "lateral", "weight": -1.5})
    for d in (0.4, -0.4):
        s.put(OWN, 5.0, d)
        assert s.pay() == pytest.approx(-1.5 * 0.4 * STEP)


def test_wall_clearance_pays_near_walls_alone() -> None:
    s = shaped({"term": "wall_clearance", "weight": -2.0, "distance": 1.0})
    assert s.pay() == 0.0  # 1.5 m to either side
    s.put(OWN, 5.0, 1.25)
    cell = s.track.resolution  # the wall's distance is known to a cell
    assert s.pay() == pytest.approx(-2.0 * 0.75 * STEP, abs=2.0 * 2 * cell * STEP)
    s.put(OWN, 5.0, -1.25)
    assert s.pay() == pytest.approx(-2.0 * 0.75 * STEP, abs=2.0 * 2 * cell * STEP)


def test_smoothness_pays_radians_of_steering() -> None:
    s = shaped({"term": "smoothness", "weight": -2.0})
    for steer, turned in ((0.1, 0.1), (0.1, 0.0), (-0.2, 0.3)):
        s.world.state[0, OWN, STEER] = steer
        assert s.pay() == pytest.approx(-2.0 * turned)


def test_lap_time_pays_what_a_lap_took_less_than_par() -> None:
    s = shaped({"term": "lap_time", "weight": 0.5, "par_speed": 2.0}, laps=3)
    par = s.track.length / 2.0
    assert s.pay() == 0.0
    s.world.laps[0, OWN] = 1
    s.world.lap_steps[0, OWN, 0] = 2000  # 20 s
    assert s.pay() == pytest.approx(0.5 * (par - 20.0))
    assert s.pay() == 0.0
    s.world.laps[0, OWN] = 3  # two at once: one slower than par, one faster
    s.world.lap_steps[0, OWN, 1:] = 9000, 3000
    assert s.pay() == pytest.approx(0.5 * (par - 30.0))
    s.reset()
    s.world.laps[0, OWN] = 0
    assert s.pay() == 0.0


def test_heading_pays_the_cosine_to_the_lane() -> None:
    s = shaped({"term": "heading", "toward": "lane", "weight": 2.0})
    for turn in (0.0, 0.5, -2.0, math.pi):
        s.put(OWN, 33.0, 0.4, turn=turn)  # in a bend
        assert s.pay() == pytest.approx(2.0 * math.cos(turn) * STEP, abs=1e-9)


# Of a target


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


@settings(deadline=None, max_examples=30)
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


# Of the control period, and of each other


def test_returns_do_not_depend_on_the_control_period() -> None:
    """The same second of driving, told in 100, 20 and 10 steps."""
    terms = [
        {"term": "progress"},
        {"term": "speed"},
        {"term": "time"},
        {"term": "lateral"},
        {"term": "wall_clearance", "distance": 2.0},
        {"term": "smoothness"},
        {"term": "pressure", "target": "other", "distance": 9.0},
        {"term": "distance", "target": "other"},
        {"term": "heading", "toward": "lane"},
        {"term": "escape", "target": "other", "distance": 1.0},
        {"term": "overtake", "target": "other"},
    ]
    for term in terms:
        sums = []
        for steps in (1, 5, 10):
            s = shaped(term, steps=steps)
            s.put(OWN, 5.0, 0.3, turn=0.2, v=1.5)
            s.put(OTHER, 8.0)
            s.reset()
            sums.append(0.0)
            for now in np.arange(steps, 101, steps) / 100:
                s.put(OWN, 5.0 + 1.5 * now, 0.3, turn=0.2, v=1.5)
                s.world.state[0, OWN, STEER] = 0.1 * now
                sums[-1] += s.pay()
        assert sums[0] != 0.0, term
        assert sums == pytest.approx([sums[0]] * 3), term
    # A streak counts whole steps, so it knows its cap to one of them.
    streak = {"term": "streak", "target": "other", "distance": 9.0, "weight": 1.0, "cap": 0.5}
    for steps in (1, 5, 10):
        s = shaped(streak, steps=steps)
        s.put(OWN, 5.0, v=1.5)
        s.put(OTHER, 8.0)
        paid = sum(s.pay() for _ in range(100 // steps))
        assert paid == pytest.approx(0.75, abs=0.011 * steps)


def test_terms_add_up_and_keep_to_themselves() -> None:
    one = {"term": "progress", "weight": 1.0}
    s = shaped(one, {"term": "time", "weight": 2.0}, {**one, "weight": 10.0})
    s.put(OWN, 5.5)
    assert s.pay() == pytest.approx(0.5 + 2.0 * STEP + 5.0)
    assert s.pay() == pytest.approx(2.0 * STEP)


def test_environments_and_ranges_are_independent() -> None:
    s = shaped({"term": "progress"}, num_envs=4)
    s.world.arc_length[:, OWN] += [0.0, 1.0, 2.0, 3.0]
    s.task.step(1, 3)
    assert s.episodes.rewards[:, 0] == pytest.approx([0.0, 1.0, 2.0, 0.0])
    s.task.reset(3)
    s.task.step(0, 4)
    assert s.episodes.rewards[:, 0] == pytest.approx([0.0, 0.0, 0.0, 0.0])


def test_an_agent_that_is_done_earns_nothing_more() -> None:
    s = shaped({"term": "time", "weight": 1.0})
    assert s.step(Outcome.CRASH) == (pytest.approx(-10.0 + STEP), Outcome.CRASH)
    assert s.step() == (0.0, Outcome.CRASH)


def test_in_a_race_progress_is_the_way_made() -> None:
    """Through resets and the seam, over real steps."""
    config = EnvConfig.model_validate(
        {
            "track": OVAL,
            "lidar": {"beams": 3},
            "physics_steps_per_action": 10,
            "max_steps": 150,
            "spawn": {"kind": "random"},
            "cars": [
                {"name": "a", "task": {"kind": "solo_lap", "shaping": [{"term": "progress"}]}}
            ],
        }
    )
    race = Race(config, num_envs=2)
    rng = np.random.default_rng(3)
    for e in range(2):
        race.seed(e, e)
        race.next_episode(e)
    track, seen = race.track, 0.0
    for _ in range(400):
        before = race.world.arrays.state[:, 0, [X, Y]].copy()
        actions = np.column_stack([rng.normal(0, 0.2, 2), rng.uniform(-0.6, -0.3, 2)])
        rewards = race.step(actions[:, None]).rewards[:, 0]
        after = race.world.arrays.state[:, 0, [X, Y]]
        way = track.to_frenet(after)[:, 0] - track.to_frenet(before)[:, 0]
        way -= track.length * np.round(way / track.length)
        ends = {Outcome.NONE: 0.0, Outcome.CRASH: -10.0, Outcome.TIME_LIMIT: 0.0}
        paid = [ends[Outcome(outcome)] for outcome in race.episodes.outcome[:, 0]]
        assert rewards == pytest.approx(way + paid)
        seen += np.abs(way).sum()
        race.autoreset()
    assert seen > 20.0


# What is refused


def refused(task: dict, **changes: object) -> str:
    cars = [{"name": "a", "task": task}, {"name": "b"}]
    with pytest.raises(ValueError, match=r".") as error:
        Race(EnvConfig.model_validate({"cars": cars, **changes}))
    return str(error.value)


def test_a_term_without_a_target_is_refused() -> None:
    message = refused({"kind": "solo_lap", "shaping": [{"term": "pressure"}]})
    assert "term pressure needs a target, for solo_lap has none" in message


def test_an_unknown_target_is_named() -> None:
    message = refused({"kind": "solo_lap", "shaping": [{"term": "escape", "target": "c"}]})
    assert "term escape of 'a' targets 'c'; other cars: 'b'" in message


def test_an_unknown_term_is_refused() -> None:
    assert "progress" in refused({"kind": "solo_lap", "shaping": [{"term": "speedy"}]})
