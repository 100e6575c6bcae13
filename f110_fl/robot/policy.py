"""An exported policy, as a car's own program calls it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from f110_fl.robot.contract import ARRAYS, ContractError, load_contract
from f110_fl.robot.network import Memory, Network
from f110_fl.robot.sensors import Motion, Pose, observe

Array = NDArray[np.float32]


class Drive(NamedTuple):
    """A command.

    Attributes:
        steer: rad, steering angle, to the left.
        speed: m/s.
    """

    steer: float
    speed: float


class Policy:
    """Acts on what a car's sensors say.

    For example::

        policy = Policy(Path("exported"))
        steer, speed = policy.act(ranges, Motion(speed=2.1, yaw_rate=0.3))

    Args:
        directory: What ``tools/export_policy.py`` wrote.

    Attributes:
        contract: What it takes and gives.

    Raises:
        ContractError: If a file is missing or does not fit the others.
    """

    def __init__(self, directory: Path) -> None:
        self.contract = load_contract(directory)
        self._network = load_network(directory, self.contract.policy)
        self._memory: Memory = self._network.memory()
        try:
            self.decide(np.zeros(self.contract.size, np.float32))
        except ValueError as error:  # of shapes that do not fit
            raise ContractError(f"{directory}: the network does not fit: {error}") from None
        self.reset()

    def reset(self) -> None:
        """Forget what was seen: a new drive begins."""
        self._memory = self._network.memory()

    def act(
        self,
        ranges: Array,
        motion: Motion = Motion(),  # noqa: B008 - frozen
        pose: Pose | None = None,
        others: Sequence[Pose] = (),
        velocities: Sequence[tuple[float, float]] = (),
    ) -> Drive:
        """Choose a command; to be called ``contract.commands.rate`` times a second.

        Args:
            ranges: (B,) m, of the contract's beams; `ScanReader` picks them out of a scan.
            motion: Of the car.
            pose: Where the car is, if the policy observes it.
            others: Where the others are, if the policy observes them.
            velocities: How the others move, m/s along x and y, if the policy observes it.

        Raises:
            ContractError: If something is missing that is observed.
        """
        action = self.decide(observe(self.contract, ranges, motion, pose, others, velocities))
        commands = self.contract.commands
        middle = (commands.fastest + commands.slowest) / 2
        half = (commands.fastest - commands.slowest) / 2
        return Drive(commands.steer * float(action[0]), middle + half * float(action[1]))

    def decide(self, observation: NDArray[Any]) -> Array:
        """Map an observation (D,) to an action (2,) in [-1, 1], and remember."""
        action, self._memory = self._network.act(observation, self._memory)
        return action


def load_network(directory: Path, form: dict[str, Any]) -> Network:
    """Read the network of an exported policy.

    Args:
        directory: What ``tools/export_policy.py`` wrote.
        form: Its contract's ``policy``.

    Raises:
        ContractError: If there is none, or it does not fit.
    """
    path = directory / ARRAYS
    try:
        with np.load(path) as file:
            return Network(form, dict(file))
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise ContractError(f"{path}: cannot be read: {error}") from None
