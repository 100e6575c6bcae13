"""The policies of a run's rounds, driving from the same start."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.reporting.pages.replay import describe
from f110_fl.rundir import BEST, STATE, RunDir

if TYPE_CHECKING:
    from f110_fl.reporting.pages.recording import EpisodeReplay, Recording
    from f110_fl.training.evaluation import ModelEvaluator

ROUNDS: Final = 10  # replayed, unless asked for others
MOST_STEPS: Final = 20_000  # driven at most, by all policies together: a few seconds
MOST_CLIENTS: Final = 4  # of a round
MOST_RUNS: Final = 6  # side by side
PERIOD: Final = 0.05  # s between two frames, at least


@dataclass(frozen=True)
class Candidate:
    """A policy's file."""

    name: str
    path: Path
    client: int | None  # None: the global model


@dataclass(frozen=True)
class Moment:
    """The policies of one moment of a run."""

    round: int | None
    label: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Replays:
    """What a report shows of policies, for JSON, and what is missing of it, in words."""

    shown: dict[str, Any] | None = None
    missing: str | None = None


def replays(runs: Sequence[tuple[Scenario, RunDir]], rounds: int = ROUNDS) -> Replays:
    """Drive the policies of runs' rounds greedily from the start of the first evaluation.

    Of one run, rounds are taken at equal steps, the first and the last among them, with as many
    clients as take no more than `MOST_STEPS` steps. Of several in the same environment, the
    global models stand side by side.

    Args:
        runs: Scenario and directory of each.
        rounds: Rounds at most.
    """
    scenario = runs[0][0]
    alike = [r for r in runs if r[0].evaluation_env == scenario.evaluation_env][:MOST_RUNS]
    kept = [(own, list(moments_of(own, rundir)), rundir) for own, rundir in alike]
    kept = [entry for entry in kept if entry[1]]
    if not scenario.learners or not kept:
        return Replays(missing="no policy is kept in the run's directory")
    policies = MOST_STEPS // scenario.evaluation_env.max_steps
    if len(runs) == 1:
        chosen = choose(kept[0][1], rounds, policies)
        plans = [[(moment.label, c, kept[0][0]) for c in moment.candidates] for moment in chosen]
        numbers = [moment.round for moment in chosen]
    else:
        columns = [choose(m, rounds, max(1, policies // len(kept))) for _, m, _ in kept]
        steps = min(len(column) for column in columns)
        plans, numbers = [], []
        for step in range(steps):
            place = [round(step * (len(c) - 1) / max(steps - 1, 1)) for c in columns]
            label = f"{step + 1} of {steps}"
            plans.append(
                [
                    (label, replace(c[k].candidates[0], name=f"{d.root.name}, {c[k].label}"), own)
                    for c, k, (own, _, d) in zip(columns, place, kept, strict=True)
                ]
            )
            numbers.append(None)
    return _driven(plans, numbers)


Plan = list[tuple[str, Candidate, Scenario]]


def _driven(plans: Sequence[Plan], numbers: Sequence[int | None]) -> Replays:
    evaluators: dict[int, ModelEvaluator] = {}
    recordings: list[Recording] = []
    shown, missing = [], dict[str, None]()
    for plan, number in zip(plans, numbers, strict=True):
        policies = []
        for _, candidate, scenario in plan:
            if id(scenario) not in evaluators:
                evaluators[id(scenario)] = _evaluator(scenario)
            try:
                recordings.append(_drive(evaluators[id(scenario)], scenario, candidate.path))
            except UserError as error:
                missing[str(error)] = None
                continue
            place = len(recordings) - 1
            policies.append({"client": candidate.client, "name": candidate.name, "episode": place})
        if policies:
            shown.append({"round": number, "label": plan[0][0], "policies": policies})
    lack = "; ".join(missing) or None
    if not shown:
        return Replays(missing=lack)
    return Replays({"recording": describe(_joined(recordings)), "rounds": shown}, lack)


def moments_of(scenario: Scenario, rundir: RunDir) -> Iterator[Moment]:
    """Yield the moments of which policies are kept, in their order."""
    if scenario.federated.enabled:
        for path in sorted(rundir.root.glob("round_*/global.safetensors")):
            digits = path.parent.name.removeprefix("round_")
            if not digits.isdecimal():
                continue
            number = int(digits)
            files = (
                (k, rundir.client_tensors(number, k)) for k in range(scenario.federated.clients)
            )
            clients = (Candidate(f"client {k:02d}", file, k) for k, file in files if file.is_file())
            model = Candidate("global", rundir.published(number), None)
            yield Moment(number, f"round {number}", (model, *clients))
        if rundir.best.is_file():
            yield Moment(None, "best", (Candidate("global", rundir.best, None),))
        return
    for name, label in ((BEST, "best"), (STATE, "last")):
        files = ((k, rundir.client(k) / name) for k in range(scenario.federated.clients))
        own = tuple(Candidate(f"replica {k:02d}", file, k) for k, file in files if file.is_file())
        if own:
            yield Moment(None, label, own)


def choose(moments: Sequence[Moment], rounds: int, policies: int) -> list[Moment]:
    """Take moments at equal steps, and of each as many policies as are allowed in all.

    Args:
        moments: All, at least one.
        rounds: Moments at most.
        policies: Policies of all moments together at most; one a moment at least.
    """
    count = max(1, min(rounds, len(moments), policies))
    last = len(moments) - 1
    places = {round(k * last / max(count - 1, 1)) for k in range(count)} if count > 1 else {last}
    each = min(max(1, policies // len(places)), 1 + MOST_CLIENTS)
    return [
        replace(m, candidates=m.candidates[:each]) for m in (moments[k] for k in sorted(places))
    ]


def _evaluator(scenario: Scenario) -> ModelEvaluator:
    from f110_fl.training.evaluation import Evaluator, ModelEvaluator

    return ModelEvaluator(scenario, Evaluator(scenario, 1))


def _drive(evaluator: ModelEvaluator, scenario: Scenario, path: Path) -> Recording:
    """Record an episode of a file's policies; a `UserError` says why it cannot be."""
    from f110_fl.reporting.pages.recording import ReplayRecorder
    from f110_fl.tensors import read_tensors
    from f110_fl.training.checkpoint import load_models

    tensors = read_tensors(path)
    for agent, learner in evaluator.learners.items():
        load_models(learner, agent, tensors, path)
    recorder = ReplayRecorder(max_beams=0)
    evaluator.run(recorder)
    return recorder.recording(scenario.name, scenario.name, scenario.shared_seed)


def _joined(recordings: Sequence[Recording]) -> Recording:
    """One recording of all, whose episodes are numbered in their order."""
    first = recordings[0]
    every = max(1, math.ceil(PERIOD / first.period - 1e-9))
    episodes = [
        thinned(replace(r.episodes[0], number=k, terms={}), every) for k, r in enumerate(recordings)
    ]
    return replace(first, period=every * first.period, episodes=tuple(episodes))


def thinned(episode: EpisodeReplay, every: int) -> EpisodeReplay:
    """Keep every so many frames of an episode, and its last; rewards are added up."""
    last = len(episode.states) - 1
    kept = np.unique([*range(0, last, every), last])
    starts = np.concatenate([[0], kept[:-1] + 1])
    return replace(
        episode,
        states=episode.states[kept],
        scans=episode.scans[kept],
        rewards=np.add.reduceat(episode.rewards, starts, axis=0),
        terms={name: np.add.reduceat(v, starts, axis=0) for name, v in episode.terms.items()},
        ends=tuple(replace(e, frame=int(np.searchsorted(kept, e.frame))) for e in episode.ends),
        lap_frames=tuple(
            tuple(int(frame) for frame in np.searchsorted(kept, frames))
            for frames in episode.lap_frames
        ),
    )
