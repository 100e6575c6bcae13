"""The directory of an exported policy: what is in it, and how it is written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError, system_error
from f110_fl.exporting.drives import Seen
from f110_fl.files import replacing, write_atomic
from f110_fl.learners.base import Learner
from f110_fl.loading.scenarios import dump_scenario
from f110_fl.robot.contract import (
    ARRAYS,
    CONTRACT,
    GOLDEN,
    GRAPH,
    SCENARIO,
    Commands,
    Contract,
    Scales,
    Scan,
)
from f110_fl.tensors import write_arrays
from f110_fl.training.checkpoint import policy_format
from f110_fl.training.shipped import project_version
from sim.config import CarConfig
from sim.observation import OTHERS_SCALE, SLIP_SCALE, YAW_RATE_SCALE, free_box, observation_parts
from sim.physics.vehicle import action_scale
from sim.policy import PolicyFormat
from sim.race import Race

Array = NDArray[np.float32]

GOLDEN_ROWS: Final = 64


class Exported:
    """A policy that is taken out of a learner.

    Args:
        scenario: What it was trained in.
        agent: Name of its car.
        learner: Holds its tensors.
        race: Environments of the scenario.
        checkpoint: The file that the tensors are from.

    Attributes:
        form: How its tensors make it up.
        tensors: By the names in the format, float32.
        contract: What it takes and gives.

    Raises:
        UserError: If it cannot be exported.
    """

    def __init__(
        self, scenario: Scenario, agent: str, learner: Learner, race: Race, checkpoint: Path
    ) -> None:
        form = policy_format(agent, scenario)
        if form is None:
            raise UserError(
                f"{agent!r} cannot be exported: its encoder is another package's; "
                "allowed: none, conv, an LSTM memory"
            )
        car = next(car for car in scenario.env.cars if car.name == agent)
        if car.vehicle.control != "targets":
            raise UserError(
                f"{agent!r} cannot be exported: it commands rates; allowed: control: targets"
            )
        self.form: PolicyFormat = form
        self.scenario = scenario
        there = learner.tensors()
        self.tensors = {name: there[name].numpy().copy() for name in form.names}
        self.contract = Contract(
            agent=agent,
            observation=observation_parts(scenario.env),
            box=_box(scenario, race),
            scan=_scan(scenario),
            scales=_scales(car),
            commands=_commands(scenario, car),
            policy=form.model_dump(mode="json"),
            origin=_origin(scenario, checkpoint),
        )


def write_bundle(exported: Exported, directory: Path, seen: Seen, *, single: bool = False) -> None:
    """Write an exported policy.

    Args:
        exported: The policy.
        directory: Where; it is made, and must be empty or hold an exported policy.
        single: Whether the graph computes in single precision; see `make_graph`.
        seen: What the learner was shown in real episodes, and what it chose: some of that is
            ``golden.npz``; with a memory, in the order in which it came.

    Raises:
        UserError: If the directory holds something else, or cannot be written.
    """
    from f110_fl.exporting.graph import make_graph

    contract = exported.contract
    graph = make_graph(
        exported.form, exported.tensors, contract.size, contract.commands, single=single
    )
    in_order = exported.form.memory is not None
    golden = seen.some(GOLDEN_ROWS, np.random.default_rng(0), in_order=in_order)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        names = {ARRAYS, CONTRACT, GOLDEN, GRAPH, SCENARIO}
        others = sorted(path.name for path in directory.iterdir() if path.name not in names)
        if others:
            raise UserError(f"{directory}: holds {others[0]!r}; allowed: an empty directory")
        with replacing(directory / GRAPH) as file:
            file.write(graph.SerializeToString(deterministic=True))
        write_arrays(directory / ARRAYS, exported.tensors)
        write_arrays(
            directory / GOLDEN, dict(zip(("observations", "actions"), golden, strict=True))
        )
        write_atomic(directory / SCENARIO, dump_scenario(exported.scenario))
        write_atomic(directory / CONTRACT, contract.to_json())
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {system_error(error)}") from None


def _box(scenario: Scenario, race: Race) -> tuple[tuple[float, float], tuple[float, float]] | None:
    if "pose" not in scenario.env.observation:
        return None
    low, high = free_box(race.track)
    middle, half = (low + high) / 2, (high - low) / 2
    return (float(middle[0]), float(middle[1])), (float(half[0]), float(half[1]))


def _scan(scenario: Scenario) -> Scan:
    lidar = scenario.env.lidar
    return Scan(lidar.beams, lidar.field_of_view, lidar.max_range, lidar.mount_x)


def _scales(car: CarConfig) -> Scales:
    vehicle = car.vehicle
    return Scales(vehicle.speed_max, vehicle.steer_max, YAW_RATE_SCALE, SLIP_SCALE, OTHERS_SCALE)


def _commands(scenario: Scenario, car: CarConfig) -> Commands:
    env = scenario.env
    steer, middle, half = action_scale(car)
    return Commands(
        rate=1.0 / (env.physics_step * env.physics_steps_per_action),
        steer=steer,
        slowest=middle - half,
        fastest=middle + half,
        steer_rate=car.vehicle.steer_rate_max,
        steer_delay=(car.vehicle.command_delay + car.vehicle.steer_delay) * env.physics_step,
    )


def _origin(scenario: Scenario, checkpoint: Path) -> dict[str, str]:
    resolved = json.dumps(json.loads(dump_scenario(scenario)), sort_keys=True)
    return {
        "version": project_version(),
        "scenario": scenario.name,
        "scenario_sha256": hashlib.sha256(resolved.encode()).hexdigest(),
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
    }
