"""Shaping terms against their formulas, worked out by hand on arrays written by hand."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from task_situations import OTHER, OVAL, OWN, STEP, Situation, shaped, total

from sim.config import EnvConfig
from sim.config.terms import TermConfig
from sim.episodes import Outcome
from sim.layout import STEER, V, X, Y
from sim.race import Race
from sim.tasks.terms import TERMS, Term

LENGTH = 2 * 20.0 + 2 * math.pi * 6.0  # m, of the oval, within what its polyline is shorter


def test_every_term_has_settings_and_a_formula() -> None:
    union = TermConfig.__args__[0].__args__
    assert set(TERMS) == set(union)
    assert all(isinstance(term, Term) for term in TERMS.values())


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


@examples(30)
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


def test_every_environment_is_paid_by_its_own_track() -> None:
    """Circles of 25 and 50 m, driven over their seams; par times are theirs too."""
    terms = [{"term": "progress"}, {"term": "lap_time", "weight": 100.0, "par_speed": 1.0}]
    config = EnvConfig.model_validate(
        {
            "track": {
                "kind": "several",
                "tracks": [{"kind": "circle", "radius": radius} for radius in (4.0, 8.0)],
            },
            "lidar": {"beams": 3},
            "cars": [{"name": "a", "task": {"kind": "solo_lap", "shaping": terms}}],
        }
    )
    race = Race(config, num_envs=6)
    for e in range(6):
        race.reset(e, e)
    world = race.world.arrays
    where = world.track.copy()
    assert set(where.tolist()) == {0, 1}
    lengths = np.array([track.length for track in race.tracks])[where]
    assert lengths == pytest.approx(2 * math.pi * np.array([4.0, 8.0])[where], rel=1e-3)
    (task,) = race._tasks
    for e in range(6):
        world.arc_length[e, 0] = lengths[e] - 0.1
        task.reset(e)
    world.arc_length[:, 0] = 0.3
    task.step(0, 6)
    assert race.episodes.rewards[:, 0] == pytest.approx([0.4] * 6)
    world.laps[:], world.lap_steps[:] = 1, 1000  # 10 s
    task.step(0, 6)
    assert race.episodes.rewards[:, 0] == pytest.approx(100.0 * (lengths - 10.0))


# What is refused


def refused(task: dict, **changes: object) -> str:
    cars = [{"name": "a", "task": task}, {"name": "b"}]
    with pytest.raises(ValueError, match=r".") as error:
        Race(EnvConfig.model_validate({"cars": cars, **changes}))
    return str(error.value)


def test_a_term_without_a_target_is_refused() -> None:
    message = refused({"kind": "solo_lap", "shaping": [{"term": "pressure"}]})
    assert "term pressure needs a target: solo_lap has none" in message


def test_an_unknown_target_is_named() -> None:
    message = refused({"kind": "solo_lap", "shaping": [{"term": "escape", "target": "c"}]})
    assert "term escape of 'a' targets 'c'; other cars: 'b'" in message


def test_an_unknown_term_is_refused() -> None:
    assert "progress" in refused({"kind": "solo_lap", "shaping": [{"term": "speedy"}]})
