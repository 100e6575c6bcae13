"""The files of a run that never ran, with numbers that a test can reckon with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.loading.scenarios import dump_scenario
from f110_fl.rundir import RunDir
from f110_fl.tensors import write_tensors
from f110_fl.training.agents import initial_tensors
from f110_fl.training.records import EpisodeRecord, EpisodeResult

OUTCOMES = ("success", "crash", "time_limit")


def episode(client: int, number: int, kind: str = "train", interval: int = 5) -> EpisodeRecord:
    """An episode whose numbers follow from its own and its client's."""
    rng = np.random.default_rng([client, number, kind == "train"])
    outcome = OUTCOMES[int(rng.integers(3))]
    return EpisodeRecord(
        kind="train" if kind == "train" else "evaluate",
        round=-(-number // interval),
        episode=number,
        env_steps=10 * number + client,
        result=EpisodeResult(
            steps=10,
            seconds=0.5 + 0.1 * client,
            returns={"car_0": float(rng.normal())},
            outcomes={"car_0": outcome, "car_1": "other_done"},
            lap_times={"car_0": [9.0, 11.0] if outcome == "success" else [], "car_1": []},
        ),
        losses={"car_0/critic_loss": float(rng.random())} if number % 2 else {},
    )


def write_run(
    root: Path,
    *,
    clients: int = 2,
    episodes: int = 40,
    interval: int = 5,
    every: int = 10,
    seed: int = 7,
    weights: bool = False,
    **changes: Any,
) -> RunDir:
    """Writes a run's configuration, logs and, if wanted, its rounds' tensors."""
    settings = {
        "seed": seed,
        "episodes": episodes,
        "evaluation": {"every": every, "episodes": 4},
        "federated": {"clients": clients, "round_interval": interval, "evaluate_on": "server"},
    }
    scenario = Scenario.model_validate(merge(merge(SMALL, settings), changes))
    rundir = RunDir(root)
    root.mkdir(parents=True)
    rundir.config.write_text(dump_scenario(scenario))
    for client in range(clients):
        rundir.client(client).mkdir(parents=True)
        lines = []
        for number in range(1, episodes + 1):
            lines.append(episode(client, number, interval=interval).to_json())
            if number % every == 0:
                own = episode(client, number, "evaluate", interval)
                lines += [own.to_json()] * 4
        rundir.episodes(client).write_text("".join(f"{line}\n" for line in lines))
    rounds = [_round(number, clients) for number in range(1, scenario.rounds + 1)]
    rundir.rounds.write_text("".join(f"{json.dumps(line)}\n" for line in rounds))
    found = [_evaluation(number) for number in range(2, scenario.rounds + 1, 2)]
    rundir.evaluations.write_text("".join(f"{json.dumps(line)}\n" for line in found))
    for number in range(1, scenario.rounds + 1) if weights else ():
        write_weights(rundir, number, clients)
    return rundir


def _round(number: int, clients: int) -> dict[str, Any]:
    taking = [k for k in range(clients) if (k + number) % 3 or not k]
    return {
        "round": number,
        "rounds": 8,
        "seconds": 4.0 + number,
        "clients": taking,
        "asked": list(range(clients)),
        "dropped": {str(k): "no answer in time" for k in range(clients) if k not in taking},
        "metrics": {
            "train/car_0/return": 0.5 * number,
            "train/car_0/success-rate": 0.25,
            "train/car_0/crash-rate": 0.5,
        },
    }


def _evaluation(number: int) -> dict[str, Any]:
    rate = {"rate": 0.75, "low": 0.3, "high": 0.95, "count": 3}
    car = {"episodes": 4, "outcomes": {"success": rate}, "return": {"mean": 1.0, "sd": 0.5}}
    metrics = {
        "evaluate/episodes": 4.0,
        "evaluate/car_0/return": 1.0,
        "evaluate/car_0/success-rate": 0.75,
        "evaluate/car_0/crash-rate": 0.25,
    }
    return {"round": number, "on": "server", "metrics": metrics, "cars": {"car_0": car}}


def shown(path: Path) -> dict[str, Any]:
    """The data in a page."""
    found = re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    document: dict[str, Any] = json.loads(found[1])
    return document


def parameters(number: int, client: int | None) -> dict[str, NDArray[np.float32]]:
    """A round's parameters of a client, or of the global model."""
    rng = np.random.default_rng([number, 99 if client is None else client])
    return {
        "car_0/model/actor/weights.0": rng.normal(size=(3, 4)).astype(np.float32),
        "car_0/model/critic/weights.0": rng.normal(size=5).astype(np.float32),
        "car_0/optimizer/actor/weights.0/exp_avg": rng.normal(size=(3, 4)).astype(np.float32),
    }


def write_weights(rundir: RunDir, number: int, clients: int) -> None:
    """Writes a round's tensors."""
    rundir.round(number).mkdir(exist_ok=True)
    write_tensors(rundir.global_tensors(number), parameters(number, None))
    for client in range(clients):
        write_tensors(rundir.client_tensors(number, client), parameters(number, client))


def keep(rundir: RunDir, scenario: Scenario, number: int, clients: int = 2) -> None:
    """Writes a round's models, each from another seed."""
    rundir.round(number).mkdir(exist_ok=True)
    paths = [
        rundir.global_tensors(number),
        *(rundir.client_tensors(number, k) for k in range(clients)),
    ]
    for k, path in enumerate(paths):
        seeded = scenario.model_copy(update={"seed": 100 * number + k})
        write_tensors(path, initial_tensors(seeded))
