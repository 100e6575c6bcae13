"""The node's logic on our simulator instead of a car: the same callbacks, no ROS."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from f110_fl.robot.contract import SCENARIO, ContractError
from f110_fl.robot.driver import Command, Driver, Limits
from f110_fl.robot.policy import Policy

if TYPE_CHECKING:
    from sim.config import EnvConfig


class Drive(NamedTuple):
    """What happened.

    Attributes:
        outcomes: How episodes ended: ``success``, ``crash``, …
        lap_times: s.
        steps: Commands, by episode.
    """

    outcomes: list[str]
    lap_times: list[float]
    steps: list[int]


def environment(directory: Path) -> EnvConfig:
    """Return the environment that an exported policy was trained in.

    Raises:
        ContractError: If its file cannot be read.
    """
    from sim.config import EnvConfig

    path = directory / SCENARIO
    try:
        env = json.loads(path.read_text(encoding="utf-8"))["env"]
        return EnvConfig.model_validate_json(json.dumps(env))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ContractError(f"{path}: cannot be read: {error}") from None


def simulate(
    policy: Policy,
    limits: Limits,
    env: EnvConfig,
    episodes: int,
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Drive:
    """Drive whole episodes in the simulator.

    Scans go to the driver in the layout of the simulated range finder, odometry as a car's would,
    and the steering angle is what the driver estimates.

    Args:
        policy: Of a car of the environment.
        limits: What the driver may do.
        env: The environment; the other cars need drivers.
        episodes: How many.
        seed: Of the first; the others follow from it.
        tell: See `Driver`.

    Raises:
        ContractError: If the policy needs what the node cannot give, or the car is not there.
    """
    from sim.layout import SLIP, YAW_RATE, V
    from sim.race import Race

    contract = policy.contract
    race = Race(env)
    if race.agents != (contract.agent,):
        raise ContractError(
            f"agents {', '.join(race.agents)}; allowed: {contract.agent} alone, others with drivers"
        )
    car = env.agent_cars[0]
    race.seed(0, seed)
    driver = Driver(policy, limits, tell)
    done = Drive([], [], [])
    time = 0.0
    for _ in range(episodes):
        race.next_episode(0)
        time += 10.0 * limits.stale + 1.0  # an episode is a new start
        driver.decide(time)
        steps = 0
        while not race.episodes.over[0]:
            state, scan = race.world.arrays.state[0, car], race.world.arrays.scan[0, car]
            speed, slip = float(state[V]), float(state[SLIP])
            angles = -contract.scan.field_of_view / 2, contract.scan.spacing
            driver.on_scan(time, scan, *(angles if len(scan) > 1 else (0.0, 0.0)))
            driver.on_odometry(time, speed, float(state[YAW_RATE]), abs(speed) * math.tan(slip))
            race.step(_action(driver.decide(time), policy)[None, None])
            time += driver.period
            steps += 1
        done.outcomes.append(race.outcomes(0)[contract.agent].name.lower())
        done.lap_times.extend(race.lap_times(0, car))
        done.steps.append(steps)
    return done


def _action(command: Command, policy: Policy) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return a command in [-1, 1]^2, (2,)."""
    commands = policy.contract.commands
    middle = (commands.fastest + commands.slowest) / 2
    half = (commands.fastest - commands.slowest) / 2
    speed = max(min((command.speed - middle) / half, 1.0), -1.0)
    return np.array((command.steer / commands.steer, speed), np.float32)
