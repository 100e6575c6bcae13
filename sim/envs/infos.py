"""What infos tell of every car, beside what they tell of an agent that is done."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.config import CarConfig, EnvConfig
from sim.layout import V
from sim.native import bound
from sim.race import Race
from sim.tasks.measures import distance_between

Float = NDArray[np.float64]

ALONG: Final = ("arc_length", "lateral_offset")  # of a centre line


@njit(cache=True, nogil=True, error_model="numpy")
def measure_targets(
    state: Float, targets: NDArray[np.int64], distances: Float, first: int, last: int
) -> None:
    """Write the distance of each car (E, C) to its target, m; those without keep theirs."""
    for e in range(first, last):
        for c in range(len(targets)):
            if targets[c] >= 0:
                distances[e, c] = distance_between(state, e, c, targets[c])


def target_cars(config: EnvConfig) -> NDArray[np.int64]:
    """Index of the car that each car's task or driver is about, (C,); -1 if there is none."""
    names = [car.name for car in config.cars]
    found = [_target(car) for car in config.cars]
    return np.array([-1 if name is None else names.index(name) for name in found], np.int64)


def _target(car: CarConfig) -> str | None:
    name: str | None = getattr(car.task or car.driver, "target", None)  # not all have one
    return name


class CarInfos:
    """The entries ``car`` and ``cars`` of an environment's infos; `sim.envs` has a table.

    Args:
        race: The race; E environments of A agents and C cars.
        copy: Whether `batch` returns copies, or the arrays that the next step overwrites.
    """

    def __init__(self, race: Race, copy: bool = True) -> None:
        self._race, self._copy = race, copy
        world, config = race.world.arrays, race.config
        targets = target_cars(config)
        distances = np.full((race.num_envs, len(targets)), np.inf)
        self._measure = bound(measure_targets, (world.state, targets, distances))
        views: dict[str, NDArray[Any]] = {
            "pose": world.poses[:, 1],
            "speed": world.state[:, :, V],
            "arc_length": world.arc_length,
            "lateral_offset": world.lateral_offset,
            "laps": world.laps,
            "wall_contact": world.wall_contact,
            "car_contact": world.car_contact,
            "target_distance": distances,
        }
        # Left out rather than NaN, which Gymnasium's checks take for a difference.
        unknown = set() if all(len(track.centerline) for track in race.tracks) else set(ALONG)
        unknown |= {"target_distance"} if (targets < 0).all() else set()
        self._views: dict[str, NDArray[Any]] = {}
        for name, array in views.items():
            if name not in unknown:
                self._views[name] = array.view()
                self._views[name].flags.writeable = False
        self._agents = len(race.agents)
        # Gymnasium's masks: every row has every entry.
        self._all = np.ones(race.num_envs * self._agents, np.bool_)
        self._own = np.tile(race.agent_cars, race.num_envs)
        for array in (self._all, self._own):
            array.flags.writeable = False
        self._masks = {f"_{name}": self._all for name in self._views}

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy looks at the arrays of its own race."""
        return CarInfos, (self._race, self._copy)

    def one(self, env: int) -> dict[str, NDArray[Any]]:
        """What is told of the cars of one environment now: arrays (C, ...), the caller's."""
        self._measure(0, self._race.num_envs)
        return {name: array[env].copy() for name, array in self._views.items()}

    def batch(self) -> dict[str, Any]:
        """The entries of every row now, by Gymnasium's convention: arrays (N, C, ...)."""
        self._measure(0, self._race.num_envs)
        if self._agents > 1:
            cars = {name: array.repeat(self._agents, 0) for name, array in self._views.items()}
        elif self._copy:
            cars = {name: array.copy() for name, array in self._views.items()}
        else:
            cars = dict(self._views)
        return {
            "car": self._own,
            "_car": self._all,
            "cars": cars | self._masks,
            "_cars": self._all,
        }
