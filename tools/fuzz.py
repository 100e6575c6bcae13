#!/usr/bin/env python3
"""Change inputs at random and run run.py on them: it runs, or refuses in one line (Linux).

Each mutant runs run.py's `main` in a fork of one process that has imported everything, under a
limit of processor time and memory:

- scenarios: shipped ones, as far as the checks before a run, and a few steps of the first race;
- maps, lines: a scripted car drives for a moment, as with ``--mode eval``;
- runs: a copy of a finished run, of which one file is damaged, is resumed for an episode more, or
  a model of it evaluated.

A fault is a traceback, another exit status than 0, 1 (runs) or 2, more than one line on why, too
much processor time or memory, a file that is only half written, or a setting that was read as
something else. Exit status: 0 none, 1 faults, 2 wrong input.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parts import mutations
from parts.mutations import Rng

import run
from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError
from f110_fl.loading.texts import bounded
from f110_fl.runs.plan import RunPlan
from f110_fl.runs.startup import KERNEL_CACHE

REPOSITORY: Final = Path(__file__).resolve().parents[1]
PATIENCE: Final = 6  # wall-clock seconds for each second of processor time: others work, too
MEMORY: Final = 6 * 2**30  # bytes of data of a mutant
TINY: Final[dict[str, Any]] = {
    "name": "tiny",
    "episodes": 2,
    "env": {
        "max_steps": 30,
        "lidar": {"beams": 8},
        "cars": [{"name": "car_0", "task": {"kind": "solo_lap"}}],
    },
    "learners": {"car_0": {"algorithm": "td3", "hidden": [8], "batch_size": 8, "warmup_steps": 10}},
    "evaluation": {"every": 1, "episodes": 1},
    "federated": {"enabled": False, "clients": 1},
    "checkpoint_every": 1,
    "wandb": {"enabled": False},
}
TINY["learners"]["car_0"]["replay"] = {"capacity": 50}


class Mutant(NamedTuple):
    """Files in a folder, and run.py's words about them."""

    words: list[str]
    what: str  # was changed


class Outcome(NamedTuple):
    """How a mutant ended."""

    kind: str  # accepted, refused, failed or FAULT
    why: str


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = OneLineParser(
        prog="fuzz.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--kind", choices=tuple(KINDS), required=True)
    add("--count", default="100", metavar="N", help="number of mutants (default: 100)")
    add("--seed", default="0", metavar="N", help="mutants N, N + 1, ... (default: 0)")
    add("--limit", default="10", metavar="S", help="processor seconds of a mutant (default: 10)")
    add("--json", action="store_true", help="print one JSON object instead of a table")
    return parser


def scenario_mutant(folder: Path, _: Path, rng: Rng) -> Mutant:
    """Change one of the shipped scenarios, once or twice."""
    files = sorted((REPOSITORY / "scenarios").glob("*.yaml"))
    source = mutations.pick(rng, files)
    text = source.read_text()
    data = mutations.mutate_text(text, rng)
    if rng.random() < 0.3:
        with suppress(UnicodeDecodeError, IndexError):
            data = mutations.mutate_text(data.decode(), rng)
    (folder / "s.yaml").write_bytes(data)
    (folder / "policies").symlink_to(REPOSITORY / "scenarios" / "policies")
    return Mutant(["--scenario", "s.yaml"], source.name)


def map_mutant(folder: Path, _: Path, rng: Rng) -> Mutant:
    """Change a map's YAML file or its image."""
    mutations.write_ring(folder)
    if rng.random() < 0.5:
        path = folder / "ring.yaml"
        path.write_bytes(mutations.mutate_text(path.read_text(), rng))
    else:
        mutations.mutate_image(folder / "ring.png", rng)
    return _driven(folder, {"kind": "map", "file": "ring.yaml"})


def line_mutant(folder: Path, _: Path, rng: Rng) -> Mutant:
    """Change a centre line, of a map or alone."""
    mutations.write_ring(folder)
    path = folder / "ring_centerline.csv"
    path.write_bytes(mutations.mutate_line(path.read_text(), rng))
    track = {"kind": "map", "file": "ring.yaml"}
    if rng.random() < 0.5:
        track = {"kind": "centerline", "file": path.name}
    return _driven(folder, track)


def _driven(folder: Path, track: dict[str, str]) -> Mutant:
    env = TINY["env"] | {"track": track, "max_steps": 10}
    env["cars"] = [{"name": "car_0", "driver": {"kind": "pure_pursuit"}}]
    settings = {"name": "driven", "env": env, "evaluation": {"episodes": 1}}
    (folder / "s.yaml").write_text(yaml.safe_dump(settings | {"federated": {"root": "out"}}))
    return Mutant(["--scenario", "s.yaml", "--mode", "eval", "--replay", "0"], track["kind"])


def run_mutant(folder: Path, finished: Path, rng: Rng) -> Mutant:
    """Damage a copy of a finished run."""
    root = folder / "run"
    shutil.copytree(finished, root)
    what = mutations.mutate_run(root, rng)
    if rng.random() < 0.6:
        return Mutant(["--resume", "run", "--episodes", "3", "--replay", "0"], what)
    name = mutations.pick(rng, ("best", "state"))
    words = ["--scenario", "run/config.json", "--mode", "eval", "--replay", "0"]
    words += ["--checkpoint", f"run/clients/00/{name}.safetensors", "--set", "federated.root=out"]
    return Mutant(words, what)


KINDS: Final[dict[str, Callable[[Path, Path, Rng], Mutant]]] = {
    "scenarios": scenario_mutant,
    "maps": map_mutant,
    "lines": line_mutant,
    "runs": run_mutant,
}


def forked(work: Callable[[], int], folder: Path, limit: int) -> tuple[int, str]:
    """Run something in a fork of this process, in a folder, and all that it starts.

    Args:
        work: Returns the exit status.
        folder: Where it runs; its output is in ``stdout`` and ``stderr`` there.
        limit: Processor seconds of the process.

    Returns:
        The exit status, or minus the signal that ended it; what it wrote to standard error.
    """
    child = os.fork()
    if not child:
        os.setsid()
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        status = 70
        try:
            status = work()
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    handle = os.pidfd_open(child)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll(1000 * limit * PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.close(handle)
    _, status = os.waitpid(child, 0)
    text = (folder / "stderr").read_text(errors="replace") if (folder / "stderr").exists() else ""
    return os.waitstatus_to_exitcode(status), text


def judge(kind: str, folder: Path, status: int, text: str) -> Outcome:
    """Return how a mutant ended, from its exit status, its errors and what it left."""
    lines = [line for line in text.splitlines() if line.startswith("run.py:")]
    lines = [line for line in lines if "warning:" not in line]
    last = lines[-1][:200] if lines else text.strip()[-200:]
    if "Traceback (most recent call last)" in text:
        return Outcome("FAULT", f"traceback: {text.strip().splitlines()[-1][:300]}")
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return Outcome("FAULT", "takes too long")
    torn = [path.name for path in folder.rglob(".*.tmp")]
    if torn:
        return Outcome("FAULT", f"half written: {torn}")
    if status == 0:
        return Outcome("accepted", "")
    if status == 1 and kind == "runs" and lines:
        return Outcome("failed", last)
    if status != 2 or len(text.splitlines()) > 6:
        return Outcome("FAULT", f"exit status {status}: {last}")
    if len(lines) != 1 or len(lines[0]) > 2000:
        return Outcome("FAULT", f"{len(lines)} lines of {len(text)} letters: {last}")
    if (folder / "out" / "evaluation.json").exists():
        return Outcome("FAULT", "refused, but its report is written")
    return Outcome("refused", last)


def accept(plan: RunPlan, _: object) -> int:
    """Stand in for training: what is to run must be what the file says, and it must run.

    Returns:
        0.

    Raises:
        AssertionError: If it is not.
    """
    from f110_fl.loading.scenarios import dump_scenario, parse_resolved
    from sim.layout import COMMAND_SIZE
    from sim.race import Race

    scenario = plan.scenario
    text = dump_scenario(scenario)
    if dump_scenario(parse_resolved(text)) != text:
        raise AssertionError("silently different: config.json reads as something else")
    said = yaml.safe_load(Path("s.yaml").read_text(encoding="utf-8-sig"))
    for path in _different(said, json.loads(text), ()):
        raise AssertionError(f"silently different: {path}")
    track = scenario.env.track
    if track.kind == "several" or getattr(track, "count", 1) > 8:
        return 0  # the checks before a run built them all, which takes long
    race = Race(scenario.env)
    race.reset(0, 0)
    for _step in range(5):
        race.step(np.zeros((1, len(race.agents), COMMAND_SIZE), np.float32))
    return 0


def _different(said: Any, found: Any, path: tuple[Any, ...]) -> list[str]:
    """Numbers that a file says and that a resolved scenario has not, by key."""
    if isinstance(said, dict) and isinstance(found, dict):
        keys = [key for key in said if not str(key).startswith("x-") and key != "<<"]
        return [p for key in keys for p in _different(said[key], found.get(key), (*path, key))]
    if isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        return [p for n, v in enumerate(said) for p in _different(v, found[n], (*path, n))]
    numbers = isinstance(said, int | float) and not isinstance(said, bool)
    if numbers and isinstance(found, int | float | None) and said != found:
        return [f"{'.'.join(map(str, path))}: {said!r} became {found!r}"]
    return []


def _with_few_circuits(settings: Any) -> Any:
    """A resolved scenario with two random circuits where there are many, for the same kernels."""
    if isinstance(settings, dict):
        fewer = {"count": min(2, settings["count"])} if "count" in settings else {}
        return {key: _with_few_circuits(value) for key, value in settings.items()} | fewer
    if isinstance(settings, list):
        return [_with_few_circuits(value) for value in settings]
    return settings


def warm(folder: Path, kind: str) -> Path:
    """Import and compile what mutants need; return the directory of a finished run."""
    import multiprocessing

    os.environ.update(KERNEL_CACHE | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"})
    for name in [name for name in os.environ if name.startswith(("FED_", "COLLECT_", "RUN_"))]:
        del os.environ[name]
    import torch

    import f110_fl.engines.replicas
    import f110_fl.reporting.pages.finish
    import f110_fl.runs.evaluate
    import f110_fl.training.trainer  # noqa: F401
    from f110_fl.loading.scenarios import dump_scenario, load_scenario, parse_resolved
    from f110_fl.runs.preflight import check_environment

    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")  # a run's own processes are warm, too
    multiprocessing.get_context = lambda _=None: fork  # type: ignore[assignment]
    files = sorted((REPOSITORY / "scenarios").glob("*.yaml"))
    if kind in ("maps", "lines"):
        mutations.write_ring(folder)
        files = [folder / _driven(folder, {"kind": "map", "file": "ring.yaml"}).words[1]]
    for file in files if kind != "runs" else ():  # kernels are compiled here, once
        resolved = json.loads(dump_scenario(load_scenario(file)))
        check_environment(parse_resolved(json.dumps(_with_few_circuits(resolved)), file.name))
    if kind == "scenarios":
        run._train = accept  # type: ignore[assignment]
    if kind != "runs":
        return folder
    settings = TINY | {"federated": TINY["federated"] | {"root": str(folder / "finished")}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
    words = ["--scenario", "tiny.yaml", "--max-parallel", "1"]
    status, text = forked(lambda: run.main(words), folder, 120)
    if status:
        raise UserError(f"the run that is to be damaged ended with {status}: {text[-500:]}")
    return folder / "finished"


def try_all(kind: str, count: int, first: int, limit: int) -> list[tuple[int, str, Outcome]]:
    """Return each mutant's seed, what was changed, and how it ended."""
    found = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        finished = warm(Path(name), kind)
        for seed in range(first, first + count):
            folder = Path(name) / f"mutant-{seed}"
            folder.mkdir()
            mutant = KINDS[kind](folder, finished, np.random.default_rng(seed))
            words = mutant.words
            status, text = forked(lambda words=words: run.main(words), folder, limit)  # type: ignore[misc]
            found.append((seed, mutant.what, judge(kind, folder, status, text)))
            shutil.rmtree(folder)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 no faults, 1 faults, 2 wrong input."""
    arguments = build_parser().parse_args(argv)
    return program("fuzz.py", partial(_fuzz, arguments))


def _fuzz(arguments: argparse.Namespace) -> int:
    kind = arguments.kind
    count, first = bounded("--count", arguments.count, 1), bounded("--seed", arguments.seed, 0)
    found = try_all(kind, count, first, bounded("--limit", arguments.limit, 1))
    counts = Counter(outcome.kind for _, _, outcome in found)
    faults = [
        {"seed": seed, "what": what, "why": outcome.why}
        for seed, what, outcome in found
        if outcome.kind == "FAULT"
    ]
    if arguments.json:
        print(json.dumps({"kind": kind, "outcomes": counts, "faults": faults}))  # noqa: T201
        return 1 if faults else 0
    print("| kind | mutants | accepted | refused | failed | faults |\n|---|---|---|---|---|---|")  # noqa: T201
    numbers = (counts[word] for word in ("accepted", "refused", "failed", "FAULT"))
    print("|", kind, "|", len(found), "|", " | ".join(map(str, numbers)), "|")  # noqa: T201
    for fault in faults:
        print(f"--seed {fault['seed']} --count 1: {fault['what']}: {fault['why']}")  # noqa: T201
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
