"""The progress of a run according to its files, and its closing lines."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Final

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.federation.accounting import ends, told
from f110_fl.files import complete_lines, is_file
from f110_fl.loading.flags import setting_of
from f110_fl.reporting.commands import command_line
from f110_fl.rundir import BEST, RunDir
from f110_fl.tensors import read_metadata
from f110_fl.training.metrics import UPDATES, improved, metric_name
from f110_fl.training.state_file import saved_progress

MOST_TOLD: Final = 5  # rounds that a line names


def is_complete(scenario: Scenario, rundir: RunDir) -> bool:
    """Return whether a run has completed, or its privacy budget has ended it."""
    if scenario.federated.enabled:
        if completed_rounds(rundir) >= scenario.rounds:
            return True
        return ends_by_budget(scenario, rundir)
    return completed_replicas(scenario, rundir) == scenario.federated.clients


def completed_rounds(rundir: RunDir) -> int:
    """Return the number of the last completed round, 0 before the first."""
    rounds = [line.get("round") for line in complete_lines(rundir.rounds)]
    return max((number for number in rounds if isinstance(number, int)), default=0)


def ends_by_budget(scenario: Scenario, rundir: RunDir) -> bool:
    """Return whether a run's privacy budget ends it after its last completed round."""
    lines = complete_lines(rundir.rounds)
    spent = lines[-1].get("privacy") if lines else None
    return bool(spent) and ends(scenario.federated.privacy, spent)


def round_lines(scenario: Scenario, rundir: RunDir) -> list[str]:
    """Return what the rounds' tensors take on the disk, and what they have cost of privacy."""
    lines, federated = complete_lines(rundir.rounds), scenario.federated
    found = []
    sizes = [line["bytes"] for line in lines if isinstance(line.get("bytes"), int)]
    if any(sizes):
        held = [
            sum(file.stat().st_size for file in rundir.round(number).glob("*.safetensors"))
            for number in rundir.numbered_rounds()
        ]
        kept = f"{in_bytes(sum(held))} of {sum(map(bool, held))} rounds"
        written = f"{in_bytes(sizes[-1])} a round, {in_bytes(sum(sizes))} written in {len(lines)}"
        found.append(f"Rounds' files   {kept} (keep_rounds {federated.keep_rounds}); {written}")
    spent = lines[-1].get("privacy") if lines else None
    if spent:
        words = f"{told(federated.privacy, spent)} after {spent['releases']} rounds of a client"
        found.append(f"Privacy         {words}")
    return found


def removed(path: Path) -> str:
    """Return why a round's models are not there, and which are; "" if it is of no round.

    Args:
        path: The missing file.
    """
    rundir = RunDir(path.absolute().parent.parent)
    rounds = sorted(rundir.numbered_rounds())
    number = next((n for n in rounds if rundir.round(n).name == path.absolute().parent.name), None)
    if number is None or path.suffix != ".safetensors" or not is_file(rundir.metrics(number)):
        return ""
    kept = [str(n) for n in rounds if is_file(rundir.global_tensors(n))]
    words = f"those of rounds {', '.join(kept[-MOST_TOLD:])}" if kept else "none"
    words += f" and {rundir.best.name}" if is_file(rundir.best) else ""
    return f": round {number} is over and its models were not kept; there are {words}"


def in_bytes(count: float) -> str:
    """Return a number of bytes in words, with three digits: ``2.78 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000.0
    return f"{count:.3g} TB"


def completed_replicas(scenario: Scenario, rundir: RunDir) -> int:
    """Return how many replicas have trained to the scenario's last episode."""
    return sum(done >= scenario.episodes for done in trained_episodes(scenario, rundir))


def trained_episodes(scenario: Scenario, rundir: RunDir) -> list[int]:
    """Return how many training episodes each client's saved state contains."""
    done = [0] * scenario.federated.clients
    for client_id in range(len(done)):
        with suppress(UserError):  # an unreadable state does not count
            done[client_id] = saved_progress(rundir.client(client_id)).episodes
    return done


def closing_lines(scenario: Scenario, rundir: RunDir, *, nodes: bool = False) -> list[str]:
    """Return the closing lines: the files, how to look at the policy, how to continue the run.

    Args:
        scenario: The run's scenario.
        rundir: Its directory.
        nodes: Whether to tell which of Ray's nodes each client was on last.
    """
    root = rundir.root
    lines = [f"Run directory   {root}"]
    lines += node_lines(scenario, rundir) if nodes else []
    if scenario.federated.enabled:
        rounds = completed_rounds(rundir)
        lines.append(f"Rounds          {rounds} of {scenario.rounds} completed, {rundir.rounds}")
        if rounds and scenario.federated.checkpoint_after_sync:
            lines.append(f"Global model    {rundir.published(rounds)}")
        lines += success_lines(scenario, rundir)
        lines += round_lines(scenario, rundir)
    else:
        done, replicas = completed_replicas(scenario, rundir), scenario.federated.clients
        lines.append(f"Replicas        {done} of {replicas} completed")
    lines += idle_lines(scenario, rundir)
    lines.append(f"Clients' state  {rundir.clients}")
    lines.append(f"Logs            {rundir.logs}")
    if rundir.report.exists():
        lines.append(f"Report          {rundir.report}  (open it in a browser)")
    if rundir.tensorboard.is_dir():
        lines.append(f"TensorBoard     tensorboard --logdir {shlex.quote(str(rundir.tensorboard))}")
    lines += offline_lines(root)
    checkpoint = best_checkpoint(scenario, rundir)
    if checkpoint is not None:
        lines.append(f"To see it drive {_evaluation(scenario, rundir, checkpoint)}")
    if rundir.config.is_file():
        if scenario.federated.enabled and ends_by_budget(scenario, rundir):
            variable = setting_of("federated.privacy.budget").variable
            command = f"{variable}=EPSILON {command_line(['--resume', str(root)])}"
            lines.append(f"Budget reached  to go on with a larger one: {command}")
        else:
            lines += going_on(scenario, root, complete=is_complete(scenario, rundir))
    return lines


def node_lines(scenario: Scenario, rundir: RunDir) -> list[str]:
    """Return a line a node of Ray, with its address and the clients that it served last."""
    clients: dict[str, list[str]] = {}
    for client_id in range(scenario.federated.clients):
        with suppress(OSError, ValueError, KeyError, TypeError):  # it was not asked yet
            found = json.loads(rundir.node(client_id).read_text(encoding="utf-8"))
            node = f"Ray, node {found['node']} at {found['address']}"
            clients.setdefault(node, []).append(str(client_id))
    return [
        f"Clients ran in  {node}: {', '.join(served)}" for node, served in sorted(clients.items())
    ]


def success_lines(scenario: Scenario, rundir: RunDir) -> list[str]:
    """Return how often the global model succeeded in the server's last and best evaluation.

    A line a learning car, with Wilson's 95 % intervals; none without such an evaluation.
    """
    lines = []
    for agent in scenario.federated_agents:
        found = []
        for line in complete_lines(rundir.evaluations):
            with suppress(KeyError, TypeError):  # clients' results have no cars, others no sense
                car, number = line["cars"][agent], int(line["round"])
                rate = car["outcomes"]["success"]
                words = f"{rate['rate']:.1%} [{100 * rate['low']:.0f}, {100 * rate['high']:.0f}]"
                found.append((rate["rate"], words, int(car["episodes"]), number))
        if found:
            _, words, episodes, number = found[-1]
            best = max(found, key=lambda entry: (entry[0], entry[3]))
            last = f"{words} in {episodes} greedy episodes, round {number}"
            lines.append(f"Success         {agent} {last}; best {best[1]}, round {best[3]}")
    return lines


def idle_lines(scenario: Scenario, rundir: RunDir) -> list[str]:
    """Return a line a learner that has done no update in the whole run, so that it is as before."""
    if scenario.federated.enabled:
        rounds = [line.get("metrics", {}) for line in complete_lines(rundir.rounds)]
        agents, what = scenario.federated_agents, f"{len(rounds)} rounds"
        counts = [{a: m.get(metric_name("train", a, UPDATES)) for a in agents} for m in rounds]
    else:
        logs = [rundir.episodes(k) for k in range(scenario.federated.clients)]
        lines = [line for log in logs for line in complete_lines(log)]
        trained = [line for line in lines if line.get("kind") == "train"]
        agents, what = tuple(scenario.learners), f"{len(trained)} episodes"
        counts = [dict(line.get("updates") or {}) for line in trained]
    return [
        f"Never updated   {agent}: no update in {what}; see rollout_steps, warmup_steps"
        for agent in agents
        if counts and all(count.get(agent) == 0 for count in counts)
    ]


def offline_lines(root: Path) -> list[str]:
    """Return how to send to W&B what it recorded offline; nothing if there is none."""
    folder = root / "wandb"
    if not any(folder.glob("offline-run-*")):
        return []
    return [f"W&B             wandb sync {shlex.quote(str(folder))}/offline-run-*"]


def going_on(
    scenario: Scenario, root: str | Path, *, complete: bool, flags: Sequence[str] = ()
) -> list[str]:
    """Return the line with the command that continues a run; none if there is nothing to do.

    Args:
        scenario: The run's scenario.
        root: Its directory.
        complete: Whether it has reached its end; then the command is one for twice its length.
        flags: Of run.py, which say where the run is.
    """
    words = [*flags, "--resume", str(root)]
    if not complete:
        return [f"To go on        {command_line(words)}"]
    if not can_extend(scenario):
        return []
    return [f"To train longer {command_line([*words, '--episodes', str(2 * scenario.episodes)])}"]


def can_extend(scenario: Scenario) -> bool:
    """Return whether a complete run can be extended: not if its last round was cut short."""
    federated = scenario.federated
    last = scenario.round_episodes(scenario.rounds)
    return not federated.enabled or last == federated.round_interval


def best_checkpoint(scenario: Scenario, rundir: RunDir) -> Path | None:
    """Return the best models of all learners that a run has left so far, None before the first.

    That is the global model of the server's best evaluation, or else of the last round, if the
    server has it whole; otherwise the clients' best by their own evaluations, or a client's state.
    """
    if scenario.federated.enabled:
        last = rundir.published(completed_rounds(rundir))
        whole = not scenario.missing_on_server
        found = next((path for path in (rundir.best, last) if path.exists()), None)
        if whole and found is not None:
            return found
    clients = range(scenario.federated.clients)
    scores: dict[Path, tuple[float, ...]] = {}
    for path in (rundir.client(k) / BEST for k in clients):
        with suppress(UserError, KeyError, ValueError):
            scores[path] = tuple(json.loads(read_metadata(path)["score"]))
    if scores:
        return reduce(lambda a, b: b if improved(scores[b], scores[a]).kept else a, scores)
    return next((path for path in map(rundir.state, clients) if path.exists()), None)


def _evaluation(scenario: Scenario, rundir: RunDir, checkpoint: Path) -> str:
    """Return the command that evaluates a checkpoint in the run's own scenario."""
    words: list[str | Path] = ["--mode", "eval", "--scenario", rundir.config]
    words += ["--checkpoint", checkpoint]
    if not scenario.evaluation.episodes:
        words += ["--eval-episodes", "20"]
    return command_line(words, rundir.root / "evaluation", timed=True)
