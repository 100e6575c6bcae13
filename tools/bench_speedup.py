#!/usr/bin/env python3
"""Measure whether federating pays: the time to a policy by the number of clients.

Trains a scenario with each of ``--clients`` and each of ``--seeds``, evaluates the global model on
the server after every round, and ends a run as soon as ``--sustain`` evaluations in a row succeed
in at least ``--threshold`` of their episodes, or after ``--rounds``. The first of these evaluations
counts.

Time is simulated: what the run would take if every client had a core of its own. That is a client's
environment steps so far, times the seconds that a step takes with the updates that belong to it,
plus the rounds so far, times what a round takes beside training and evaluating. Clients train one
after the other here, so that they do not share a core. Of the runs' medians, the least counts, of a
step's time of all runs and of a round's of those with as many clients: what other programs
disturbed is longer. One client is a learner on its own, and N that never talk are no faster than
one; one learner that sees all samples of N clients takes N times as long for them, or more samples
an update, which ``--set`` can say:

    bench_speedup.py --scenario S --clients 1 --set collect.num_envs=128 …

Medians over seeds would hide how much they differ: values are interquartile means with bootstrap
intervals (Agarwal et al. 2021). A run that does not get there counts as ``--rounds``, so that its
speed-up is a bound. The same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.commandline import OneLineParser, program
from f110_fl.config.keys import overlaps, parse_key
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.evaluation.statistics import Float, bootstrap
from f110_fl.files import write_atomic
from f110_fl.loading.overrides import Override, set_overrides
from f110_fl.loading.scenarios import dump_scenario, load_scenario, parse_resolved
from f110_fl.reporting.events import EvaluationEvent, Monitor, RoundEvent
from f110_fl.rundir import RunDir

REPOSITORY: Final = Path(__file__).resolve().parents[1]
Result = dict[str, Any]


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(
        prog="bench_speedup.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--scenario", type=Path, required=True, metavar="FILE", help="with a single learner")
    add("--out", type=Path, required=True, metavar="DIR", help="directory of the runs")
    add("--set", action="append", metavar="KEY=VALUE", help="see run.py")
    add("--clients", type=int, nargs="+", default=[1, 2, 4], metavar="N", help="default: 1 2 4")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], metavar="N")
    add("--threshold", type=float, default=0.95, help="success rate, 0 to 1 (default: 0.95)")
    add("--sustain", type=int, default=3, metavar="N", help="evaluations in a row (default: 3)")
    add("--episodes", type=int, default=100, help="of an evaluation (default: 100)")
    add("--rounds", type=int, default=60, help="at most (default: 60)")
    add("--json", action="store_true", help="print one JSON object")
    return parser


def read_scenarios(arguments: argparse.Namespace) -> dict[tuple[int, int], Scenario]:
    """Return the scenario of each run, by number of clients and seed.

    Raises:
        UserError: If a flag, the scenario or a setting is wrong.
    """
    least = {"sustain": 1, "episodes": 1, "rounds": 1}
    for name, number in least.items():
        if getattr(arguments, name) < number:
            raise UserError(f"--{name}={getattr(arguments, name)}: allowed: from {number}")
    if not 0 < arguments.threshold <= 1:
        raise UserError(f"--threshold={arguments.threshold}: allowed: above 0, to 1")
    chosen = set_overrides(arguments.set or [])
    found = {}
    for clients in arguments.clients:
        for seed in arguments.seeds:
            root = arguments.out.absolute() / f"clients-{clients}_seed-{seed}"
            own = {
                "seed": seed,
                "episodes": arguments.rounds * _interval(arguments.scenario, chosen),
                "evaluation.episodes": arguments.episodes,
                "federated.enabled": True,
                "federated.clients": clients,
                "federated.evaluate_on": "server",
                "federated.evaluate_every": 1,
                "federated.root": str(root).replace("{", "{{").replace("}", "}}"),
                "wandb.enabled": False,
            }
            flags = {"seed": f"--seeds={seed}", "federated.clients": f"--clients={clients}"}
            layers = [
                Override(flags.get(key, "bench_speedup.py"), parse_key(key) or (), value)
                for key, value in own.items()
            ]
            for other in chosen:
                if any(overlaps(other.path, layer.path) for layer in layers):
                    raise UserError(f"{other.source}: the tool sets that itself; leave it out")
            scenario = load_scenario(arguments.scenario, [*chosen, *layers])
            if len(scenario.learners) != 1:
                names = ", ".join(scenario.learners) or "none"
                raise UserError(f"{arguments.scenario}: one learner is needed, found {names}")
            found[clients, seed] = scenario
    return found


def _interval(path: Path, chosen: Sequence[Override]) -> int:
    return load_scenario(path, list(chosen)).federated.round_interval


# ------------------------------------------------------------------ a run


class Progress:
    """Follows a run's files."""

    def __init__(self, rundir: RunDir, scenario: Scenario, arguments: argparse.Namespace) -> None:
        self._monitor = Monitor(rundir, scenario.federated.clients)
        self._clients = scenario.federated.clients
        (self._agent,) = scenario.learners
        self._threshold: float = arguments.threshold
        self._sustain: int = arguments.sustain
        self.rates: list[float] = []  # success after rounds 1, 2, ...
        self._steps: list[float] = []  # of a client, in rounds 1, 2, ...
        self._pace: list[float] = []  # s, of a step with its share of the updates
        self._rest: list[float] = []  # s, of a round

    def poll(self) -> None:
        """Read what the run wrote since the last call."""
        for event in self._monitor.poll():
            if isinstance(event, EvaluationEvent) and event.found["round"] > 0:
                key = f"evaluate/{self._agent}/success-rate"
                self.rates.append(float(event.found["metrics"][key]))
            elif isinstance(event, RoundEvent):
                seconds = float(event.summary["metrics"]["train/seconds"])
                self._steps.append(float(event.summary["metrics"]["train/env-steps"]))
                self._pace.append(seconds / self._steps[-1])
                self._rest.append(float(event.summary["seconds"]) - self._clients * seconds)

    @property
    def arrived(self) -> int | None:
        """The round of the first of the evaluations in a row that are good enough."""
        run = 0
        for number, rate in enumerate(self.rates, 1):
            run = run + 1 if rate >= self._threshold else 0
            if run == self._sustain:
                return number - self._sustain + 1
        return None

    def result(self, rounds: int) -> Result:
        """Return what the run took; ``rounds`` is their number if it did not get there."""
        pace, rest = map(statistics.median, (self._pace, self._rest))
        number = self.arrived or rounds
        return {
            "reached": self.arrived is not None,
            "rounds": number,
            "steps": round(sum(self._steps[:number])),  # of each client
            "step_us": round(pace * 1e6, 1),
            "overhead_s": round(rest, 4),
            "success": self.rates,
        }


def run(scenario: Scenario, arguments: argparse.Namespace) -> Result:
    """Train until the policy is good enough, and return what it took.

    Raises:
        UserError: If the run fails.
    """
    rundir = RunDir(Path(scenario.federated.root))
    finished = rundir.root / "speedup.json"
    if finished.is_file():
        found: Result = json.loads(finished.read_text(encoding="utf-8"))
        return found
    if rundir.config.is_file():
        if parse_resolved(rundir.config.read_text("utf-8"), str(rundir.config)) != scenario:
            raise UserError(f"{rundir.config}: has other settings; choose another --out")
    else:
        rundir.root.mkdir(parents=True, exist_ok=True)
        write_atomic(rundir.config, dump_scenario(scenario))
    progress = Progress(rundir, scenario, arguments)
    words = [sys.executable, str(REPOSITORY / "run.py"), "--max-parallel", "1"]
    words += ["--resume", str(rundir.root)]
    with (rundir.root / "speedup.log").open("a") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)  # noqa: S603 - our own program
        try:
            while process.poll() is None and progress.arrived is None:
                time.sleep(0.2)
                progress.poll()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait()
    progress.poll()
    if progress.arrived is None and process.returncode:
        raise UserError(f"{rundir.root}: the run failed; see speedup.log there")
    result = progress.result(arguments.rounds)
    write_atomic(finished, json.dumps(result) + "\n")
    return result


# ------------------------------------------------------------------ all of them


def estimate(values: Float) -> Result:
    """Return the interquartile mean of (N,) values with its bootstrap interval."""
    rng = np.random.Generator(np.random.PCG64(0))
    found = bootstrap(values, rng, np.zeros(len(values), np.int64))
    rounded = (round(float(value), 3) for value in found)
    value, low, high = (None if math.isnan(number) else number for number in rounded)
    return {"value": value, "low": low, "high": high}


def summarise(runs: Mapping[int, Sequence[Result]]) -> Iterator[tuple[int, Result]]:
    """Yield each number of clients with rounds, seconds and speed-up against the fewest.

    The speed-up is of seconds, seed by seed, so that its interval is one of pairs.
    """
    pace = min(run["step_us"] for own in runs.values() for run in own) * 1e-6
    times = {}
    for clients, own in runs.items():
        rest = min(run["overhead_s"] for run in own)
        times[clients] = np.array([run["steps"] * pace + run["rounds"] * rest for run in own])
    base = times[min(runs)]
    for clients, own in runs.items():
        seconds = times[clients]
        yield (
            clients,
            {
                "reached": sum(run["reached"] for run in own),
                "runs": len(own),
                "rounds": estimate(np.array([float(run["rounds"]) for run in own])),
                "steps": estimate(np.array([float(run["steps"]) for run in own])),
                "seconds": estimate(seconds),
                "speedup": estimate(base / seconds),
            },
        )


def table(result: Result) -> str:
    """Return the summary as a table of Markdown."""
    lines = [
        "| clients | got there | rounds | steps of a client | simulated seconds | speed-up |",
        "|---|---|---|---|---|---|",
    ]
    for clients, found in result["summary"].items():
        cells = [str(clients), f"{found['reached']} of {found['runs']}"]
        for name, digits in (("rounds", 1), ("steps", 0), ("seconds", 1), ("speedup", 2)):
            value, low, high = (found[name][key] for key in ("value", "low", "high"))
            bounds = "" if low is None else f" ({low:.{digits}f} to {high:.{digits}f})"
            cells.append(f"{value:.{digits}f}{bounds}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, 2 if the measurement is not possible, or 130 if interrupted."""
    arguments = build_parser().parse_args(argv)

    def work() -> int:
        runs: dict[int, list[Result]] = {}
        scenarios = read_scenarios(arguments)
        for (clients, seed), scenario in scenarios.items():
            found = {"seed": seed} | run(scenario, arguments)
            runs.setdefault(clients, []).append(found)
            said = {key: value for key, value in found.items() if key != "success"}
            print(clients, "clients:", said, file=sys.stderr, flush=True)  # noqa: T201
        result: Result = {
            "scenario": next(iter(scenarios.values())).name,
            "threshold": arguments.threshold,
            "sustain": arguments.sustain,
            "episodes": arguments.episodes,
            "limit_rounds": arguments.rounds,
            "runs": runs,
            "summary": dict(summarise(runs)),
        }
        print(json.dumps(result) if arguments.json else table(result))  # noqa: T201
        return 0

    return program("bench_speedup.py", work, "interrupted; what was finished is kept")


if __name__ == "__main__":
    sys.exit(main())
