"""What is kept of races while they run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from f110_fl.evaluation.games import LEVEL_WITHIN
from sim.physics.laps import LAP_START
from sim.race import Race

Flags = NDArray[np.bool_]


class Course:
    """Who got where, and who touched whom: E environments of C cars.

    Args:
        race: The environments, whose cars are in their places.
        envs: Those that are used, E.

    Attributes:
        racing: (E, C) neither crashed nor finished, and the episode runs.
        crashed: (E, C) while it raced.
        finish: (E, C) physics steps to the finish; 0: not there.
        contact: (E, C) it touched another while one of the two raced, but for ``stopped``.
        hit: (E, C) it drove into another while it raced.
        fault: (E, C) it drove into another while both raced.
        stopped: (E, C) while it raced, one that had finished drove into it.
        overtakes: (E, C) how often it has come to lead another by a car's length.
        distance: (E, C) m along the centre line from where the last starts.
    """

    def __init__(self, race: Race, envs: int) -> None:
        self._world = race.world.arrays
        self._envs = np.arange(envs)[:, None]
        lines = [track.line for track in race.tracks]
        lengths = [line.length if line.closed else np.inf for line in lines]
        self._length = np.array(lengths)[race.episode_track[:envs], None]
        self._closed = race.tracks[0].closed
        self._arc = self._world.arc_length[:envs].copy()
        self._over = race.episodes.over[:envs]
        shape = envs, len(race.config.cars)
        self.racing = np.ones(shape, np.bool_)
        self.crashed = np.zeros(shape, np.bool_)
        self.finish = np.zeros(shape, np.int64)
        self.contact = np.zeros(shape, np.bool_)
        self.hit = np.zeros(shape, np.bool_)
        self.fault = np.zeros(shape, np.bool_)
        self.stopped = np.zeros(shape, np.bool_)
        self.overtakes = np.zeros(shape, np.int64)
        self.distance = self._way(self._arc - self._arc[:, -1:])
        self._leads = self._ahead() > 0  # (E, C, C) the first index the second, when last apart

    def _way(self, difference: NDArray[np.float64]) -> NDArray[np.float64]:
        """The shortest way that leads to a difference of arc lengths, m."""
        with np.errstate(invalid="ignore"):
            turns = np.where(np.isinf(self._length), 0.0, np.round(difference / self._length))
            return difference - np.where(turns == 0.0, 0.0, turns * self._length)

    def see(self) -> None:
        """See what the latest step has done."""
        world, rows = self._world, slice(len(self._envs))
        arc = world.arc_length[rows]
        raced = self.racing.copy()
        self.distance += np.where(raced, self._way(arc - self._arc), 0.0)
        self._arc = arc.copy()
        done = raced & world.finished[rows]
        now = world.lap_memory[rows, :, LAP_START] if self._closed else world.lap_steps[rows, :, 0]
        self.finish[done] = now[done]
        self.crashed |= raced & world.crashed[rows]
        self.racing &= ~(world.finished[rows] | world.crashed[rows] | self._over[:, None])
        self._touch(raced)
        self._pass(raced)

    def _touch(self, raced: Flags) -> None:
        """Note contacts of cars of which at least one raced; a car touches once, and stands."""
        rows = slice(len(self._envs))
        other, drove = self._world.car_contact[rows], self._world.drove_into[rows] >= 0
        touched = raced & (other >= 0)
        if not touched.any():
            return
        # A race is over at the finish, but its car goes on, and may come round.
        stopped = touched & ~drove & (self.finish[self._envs, other] > 0)
        self.stopped |= stopped
        touched &= ~stopped
        self.hit |= touched & drove
        self.fault |= touched & drove & raced[self._envs, other]
        self.contact |= touched
        envs, cars = np.nonzero(touched)
        self.contact[envs, other[envs, cars]] = True

    def _ahead(self) -> NDArray[np.float64]:
        """(E, C, C) how far the first index is ahead of the second, m."""
        return self.distance[:, :, None] - self.distance[:, None, :]

    def _pass(self, raced: Flags) -> None:
        """Count who has come to lead by a car's length since the other did."""
        both = raced[:, :, None] & raced[:, None, :]
        ahead = self._ahead()
        new = both & ~self._leads & (ahead > LEVEL_WITHIN)
        self.overtakes += new.sum(axis=2)
        self._leads = (self._leads | new) & ~new.transpose(0, 2, 1)
