#!/usr/bin/env python3
"""Federate a small racing task with a hostile client among five, under several strategies.

For each seed: the honest federation, then the same with the last client answering every round
with random weights: of the right names, shapes and types, finite, of the given length, with
plausible metrics. The final global model then drives greedily on fixed seeds. All federations run
in one Flower simulation, with the product's server and clients; the hostile client is defined here.
``bounded`` is ``fedavg`` with the default bound on updates, ``max_update_ratio``; the others have
none.

The table, or with ``--json`` a JSON array, goes to standard output, Flower's log to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.commandline import OneLineParser, program
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.rundir import RunDir
from f110_fl.runs.directory import prepare_directory
from f110_fl.runs.preflight import check_environment
from f110_fl.runs.startup import KERNEL_CACHE

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp

HONEST: Final = "honest"  # the federation without a hostile client, averaged
BOUNDED: Final = "bounded"  # averaged, but updates are bounded, as they are by default
STRATEGIES: Final = ("fedavg", BOUNDED, "fedmedian", "fedtrimmedavg", "krum")
AGENT: Final = "car_0"
EVALUATION_EPISODES: Final = 40
# 15 s on an oval, 10 commands a second, 4 m/s at most: the return is a tenth of the metres
# along the centre line, about 6.5 where the car cuts the bends.
TASK: Final[dict[str, Any]] = {
    "name": "hostile_clients",
    "env": {
        "track": {"kind": "oval", "straight": 8.0, "radius": 4.0},
        "laps": 100,
        "physics_steps_per_action": 10,
        "max_steps": 150,
        "lidar": {"beams": 18, "max_range": 10.0},
        "spawn": {"kind": "random"},
        "observation": ["lidar", "motion"],
        "cars": [
            {
                "name": AGENT,
                "vehicle": {"speed_min": -1.0, "speed_max": 4.0},
                "reverse": False,
                "task": {
                    "kind": "solo_lap",
                    "crash_reward": -2.0,
                    "shaping": [{"term": "progress", "weight": 0.1}],
                },
            }
        ],
    },
    "learners": {
        AGENT: {
            "algorithm": "ppo",
            "actor_hidden": [32, 32],
            "critic_hidden": [32, 32],
            "learning_rate": 1e-3,
            "initial_log_std": -0.5,
            "rollout_steps": 64,
            "minibatches": 8,
            "epochs": 8,
        }
    },
    "collect": {"num_envs": 16},
    "evaluation": {"episodes": 0},
    "wandb": {"enabled": False},
}
INTERVAL: Final = 32  # episodes a round


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(
        prog="hostile_clients.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="default: 0")
    parser.add_argument("--clients", type=int, default=5, help="one is hostile (default: 5)")
    parser.add_argument("--rounds", type=int, default=8, help="of 32 episodes (default: 8)")
    parser.add_argument(
        "--norm",
        type=float,
        default=3.0,
        help="length of what the hostile client sends, in lengths of the global model (default: 3)",
    )
    parser.add_argument("--max-parallel", type=int, default=2, help="clients at a time")
    parser.add_argument("--json", action="store_true", help="a JSON array instead of the table")
    return parser


def scenario(federation: str, seed: int, clients: int, rounds: int) -> Scenario:
    """Return the scenario of a federation, ``HONEST`` or one of ``STRATEGIES``.

    Raises:
        UserError: If there cannot be so many clients or rounds, or such a seed.
    """
    federated: dict[str, Any] = {"clients": clients, "round_interval": INTERVAL}
    if federation not in (HONEST, BOUNDED):
        federated |= {"strategy": {"name": federation}, "max_update_ratio": None}
    settings = {"seed": seed, "episodes": rounds * INTERVAL, "federated": federated}
    try:
        return Scenario.model_validate(TASK | settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or federation
        raise UserError(f"{where}: {first['msg']}, found {first['input']!r}") from None


def hostile_app(norm: float) -> ClientApp:
    """Return the product's client, whose last instance is hostile unless the run is ``HONEST``.

    Args:
        norm: L2 norm of all its tensors together, as a multiple of the global model's.
    """
    import numpy as np
    from flwr.app import Array, ArrayRecord, MessageType
    from flwr.clientapp import ClientApp

    from clients.client_app import app
    from f110_fl.federation import messages

    class Hostile(ClientApp):
        """Trains like the product's client, but replies with other tensors."""

        def __call__(self, message: Message, context: Context) -> Message:
            reply = app(message, context)
            config = context.node_config
            last = int(config["partition-id"]) == int(config["num-partitions"]) - 1
            if not last or message.metadata.message_type != MessageType.TRAIN:
                return reply
            order = messages.TrainOrder.from_content(message.content)
            if Path(order.root).name == HONEST:
                return reply
            generator = np.random.default_rng(order.server_round)
            values = {name: array.numpy() for name, array in order.arrays.items()}
            noise = {name: generator.standard_normal(v.shape) for name, v in values.items()}
            length, wanted = (
                float(np.sqrt(sum(np.square(v).sum() for v in group.values())))
                for group in (noise, values)
            )
            reply.content[messages.ARRAYS] = ArrayRecord(
                {
                    name: Array((v * (norm * wanted / length)).astype(values[name].dtype))
                    for name, v in noise.items()
                }
            )
            return reply

    return Hostile()


def server_app(runs: Sequence[tuple[Scenario, RunDir]]) -> ServerApp:
    """Return a server that runs federations of the same number of clients one after the other."""
    from flwr.serverapp import ServerApp

    from server.registry import ClientRegistry
    from server.server_app import serve

    app = ServerApp()

    @app.main()
    def _main(grid: Grid, context: Context) -> None:  # noqa: ARG001 - Flower's signature
        registry = ClientRegistry()
        for chosen, rundir in runs:
            federated = chosen.federated
            registry.wait(grid, federated.clients, federated.clients, federated.connect_timeout)
            with prepare_directory(chosen, rundir):
                serve(grid, chosen, rundir, registry)

    return app


def drive(chosen: Scenario, rundir: RunDir) -> tuple[float, float]:
    """Return the final global model's mean greedy return and crash rate."""
    from f110_fl.tensors import read_tensors
    from f110_fl.training.evaluation import Evaluator, ModelEvaluator
    from f110_fl.training.metrics import mean

    evaluator = ModelEvaluator(chosen, Evaluator(chosen, EVALUATION_EPISODES))
    evaluator.load(read_tensors(rundir.global_tensors(chosen.rounds)))
    episodes = evaluator.run()
    return mean("return", episodes, [AGENT]), mean("crash-rate", episodes, [AGENT])


def compare(arguments: argparse.Namespace, directory: Path) -> list[dict[str, Any]]:
    """Return a row for each seed and federation, after running them all.

    Raises:
        UserError: If a flag is wrong.
    """
    from functools import partial

    from f110_fl.engines.simulation import simulate

    if arguments.max_parallel < 1:
        raise UserError("--max-parallel must be positive")
    runs = {
        (seed, federation): (
            scenario(federation, seed, arguments.clients, arguments.rounds),
            RunDir(directory / str(seed) / federation),
        )
        for seed in arguments.seeds
        for federation in (HONEST, *arguments.strategies)
    }
    check_environment(next(iter(runs.values()))[0])  # and compile the kernels once
    server = partial(server_app, list(runs.values()))
    client = partial(hostile_app, arguments.norm)
    parallel, preload = arguments.max_parallel, ["clients.preloaded"]
    simulate(server, client, arguments.clients, parallel, preload)
    rows: list[dict[str, Any]] = []
    for (seed, federation), run in runs.items():
        mean, crashes = drive(*run)
        honest = mean if federation == HONEST else rows[-1]["honest_return"]
        row = {"seed": seed, "federation": federation, "return": mean, "crashes": crashes}
        rows.append(row | {"honest_return": honest, "kept": mean / honest})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table."""
    lines = [f"{'seed':>4}  {'federation':<14} {'return':>7} {'of honest':>9} {'crashes':>8}"]
    lines += [
        f"{row['seed']:>4}  {row['federation']:<14} {row['return']:>7.2f} {row['kept']:>9.0%} "
        f"{row['crashes']:>8.0%}"
        for row in rows
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 done, 2 wrong input."""
    arguments = build_parser().parse_args(argv)
    os.environ.update(KERNEL_CACHE)
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

    def work() -> int:
        with tempfile.TemporaryDirectory(prefix="hostile_clients-") as directory:
            rows = compare(arguments, Path(directory))
        print(json.dumps(rows) if arguments.json else table(rows))  # noqa: T201
        return 0

    return program("hostile_clients.py", work)


if __name__ == "__main__":
    sys.exit(main())
