"""The base of every scripted driver.

A driver is a class that takes its settings and a `Seat`. Most are a `KernelDriver`: a compiled
function with settings by name, as in this driver of another package, which its
`sim.plugins.Part` names ``my_package.cruise:Cruise``::

    @njit(cache=True, nogil=True, error_model="numpy")
    def _cruise(settings, lateral_offset, difficulty, commands, first, last):
        driver = settings[0]
        car = driver.car
        for e in range(first, last):
            steer = -driver.gain * lateral_offset[e, car]
            commands[e, car, TARGET_STEER] = min(max(steer, -driver.steer_max), driver.steer_max)
            commands[e, car, TARGET_SPEED] = difficulty[e] * driver.speed

    class Cruise(KernelDriver):
        def __init__(self, config: CruiseConfig, seat: Seat) -> None:
            settings = record(
                car=seat.car,
                steer_max=seat.vehicle.steer_max,
                gain=config.gain,
                speed=config.speed,
            )
            super().__init__(seat, _cruise, ["lateral_offset"], settings)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.config import EnvConfig, VehicleConfig
from sim.native import Kernel, Settings, bound
from sim.physics.kernels import WorldArrays
from sim.tracks.track import Track


class Seat(NamedTuple):
    """Where a driver sits."""

    env: EnvConfig  # the environment that it is part of
    car: int  # index of the car that it drives
    tracks: Sequence[Track]  # where it drives, in the order of the world's
    num_envs: int = 1  # environments in the batch, E
    base_dir: Path = Path()  # what its files are relative to

    @property
    def name(self) -> str:
        """Name of the car."""
        return self.env.cars[self.car].name

    @property
    def vehicle(self) -> VehicleConfig:
        """The car."""
        return self.env.cars[self.car].vehicle

    def car_named(self, name: str) -> int:
        """Index of the car of that name."""
        return [car.name for car in self.env.cars].index(name)


class Driver(ABC):
    """Commands one car in every environment.

    Args:
        seat: Where it sits.

    Attributes:
        difficulty: (E,) factor of the speed that the driver asks for; 1 unless a curriculum
            changes it in place, which takes effect at the next step. Below 1 the car is slower
            everywhere; above 1 it exceeds the fastest speed of its settings, up to the car's own
            limit.
    """

    def __init__(self, seat: Seat) -> None:
        self.difficulty: NDArray[np.float64] = np.ones(seat.num_envs)

    def reset(self, env: int) -> None:  # noqa: B027 - most drivers have no memory
        """Forget one environment's episode."""

    def memory(self) -> list[NDArray[Any]]:
        """All arrays that a step leaves something in: a copy of the race takes over what they hold.

        A driver with a memory of its own adds it.
        """
        return [self.difficulty]

    @abstractmethod
    def command(
        self, world: WorldArrays, commands: NDArray[np.float64], first: int, last: int
    ) -> None:
        """Write the car's commands in the environments ``first`` to ``last - 1``.

        Different ranges may be written by different threads at the same time. What is written
        depends on the environment alone: its arrays, what the driver remembers of its episode,
        and its difficulty.

        Args:
            world: The world before the step, always the same arrays.
            commands: (E, C, 2), written at the driver's car: steering angle rad, speed m/s.
            first: First environment.
            last: One past the last environment.
        """


class KernelDriver(Driver):
    """A driver that is one compiled function.

    Args:
        seat: Where it sits.
        kernel: A function decorated with ``@njit(cache=True, nogil=True, error_model="numpy")``,
            called as ``kernel(settings, *arrays, *tables, difficulty, commands, first, last)``, and
            otherwise as `Driver.command`.
        arrays: Those of the world that it needs, by the names in `WorldArrays`; handing
            on all of them would cost 0.2 us a call.
        settings: From `sim.native.record`.
        tables: What else it needs: arrays and named tuples of arrays, which it may also write.

    Attributes:
        settings: As given.
        tables: As given.
    """

    def __init__(
        self, seat: Seat, kernel: Kernel, arrays: Sequence[str], settings: Settings, *tables: Any
    ) -> None:
        super().__init__(seat)
        self.settings, self.tables = settings, tables
        self._kernel, self._arrays = kernel, tuple(arrays)
        self._made: tuple[Any, Any, Callable[..., Any]] | None = None

    def memory(self) -> list[NDArray[Any]]:
        """Those of its tables' arrays that may be written, beside the difficulty."""
        return [*super().memory(), *_writable(self.tables)]

    def command(
        self, world: WorldArrays, commands: NDArray[np.float64], first: int, last: int
    ) -> None:
        """Write the car's commands in the environments ``first`` to ``last - 1``."""
        made = self._made
        if made is None or made[0] is not world or made[1] is not commands:
            read = [getattr(world, name) for name in self._arrays]
            arguments = (self.settings, *read, *self.tables, self.difficulty, commands)
            self._made = made = world, commands, bound(self._kernel, arguments)
        made[2](first, last)


def _writable(tables: Any) -> Iterator[NDArray[Any]]:
    """Yield the arrays of nested tuples that are not read-only."""
    for table in tables:
        if isinstance(table, tuple):
            yield from _writable(table)
        elif isinstance(table, np.ndarray) and table.flags.writeable:
            yield table
