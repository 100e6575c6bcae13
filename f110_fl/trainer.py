"""One client: its environment, its learners, and all that it keeps between rounds.

The same object serves a Flower client, simulated or deployed, and an unfederated replica.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

from f110_fl import checkpoint
from f110_fl.collector import Collector, Explorer, Finished
from f110_fl.curriculum import Curriculum
from f110_fl.evaluation import Evaluator, score
from f110_fl.export import checkpoint_metadata
from f110_fl.files import read_tensors, write_tensors
from f110_fl.learners import Learner, make_learner
from f110_fl.learners.device import Device, choose
from f110_fl.records import (
    EpisodeKind,
    EpisodeRecord,
    Progress,
    count_lines,
    prefixed,
    saved_progress,
    trim_episodes,
    unprefixed,
)
from f110_fl.rundir import BEST, EPISODES, STATE
from f110_fl.scenario import Scenario
from f110_fl.seeding import Use, stream
from sim.layout import COMMAND_SIZE
from sim.race import Race

Tensors = dict[str, torch.Tensor]


def make_learners(
    scenario: Scenario,
    race: Race,
    seed: Callable[[int], np.random.SeedSequence],
    directory: Path | None = None,
    device: Device = "cpu",
) -> dict[str, Learner]:
    """Return the scenario's learners, by agent.

    Args:
        scenario: Whose learners.
        race: The environments that they collect from.
        seed: Of the learner with a given index.
        directory: Where their experience survives a restart; None: in memory only.
        device: Where they learn.

    Raises:
        UserError: If that is not on this machine.
    """
    place = choose(device)
    return {
        agent: make_learner(
            config,
            len(race.observation_low),
            COMMAND_SIZE,
            seed(index),
            num_envs=race.num_envs,
            replay_path=directory and directory / f"{agent}.replay",
            place=place,
        )
        for index, (agent, config) in enumerate(scenario.learners.items())
    }


def initial_tensors(scenario: Scenario) -> Tensors:
    """Return the tensors that every client's learners start a federation from."""
    race = Race(scenario.env)
    learners = make_learners(scenario, race, partial(stream, scenario.seed, Use.MODEL))
    tensors: Tensors = {}
    for agent, learner in learners.items():
        tensors |= prefixed(agent, learner.tensors())
    return tensors


class Trainer:
    """Run episodes, learns from them and keeps everything needed to go on exactly.

    Its directory holds ``state.safetensors`` (networks, optimizers, counters, random
    states), one memory-mapped replay file a learner, ``best.safetensors`` (the models of the
    best evaluation) and ``episodes.jsonl``. The state file is the commit point: whatever is
    newer than it is discarded, or made again, when the client is opened.
    """

    def __init__(self, scenario: Scenario, client_id: int, directory: Path) -> None:
        torch.set_num_threads(scenario.threads)
        directory.mkdir(parents=True, exist_ok=True)
        self.scenario = scenario
        self.client_id = client_id
        self.directory = directory
        self.seed = scenario.seeds[client_id] if scenario.seeds else scenario.seed
        self.progress = Progress()
        race = Race(scenario.env, num_envs=scenario.collect.workers, num_threads=scenario.threads)
        checkpoint.check(directory / STATE, scenario, len(race.observation_low))
        self._collector = Collector(race, scenario.collect.prefetch)
        self._evaluator: Evaluator | None = None
        self._curriculum: Curriculum | None = None
        if scenario.curriculum is not None:
            self._curriculum = Curriculum(scenario.curriculum, scenario.env)
        seed = partial(stream, self.seed, Use.LEARNER, client_id)
        self.learners = make_learners(scenario, race, seed, directory, scenario.device)
        self._episodes_path = directory / EPISODES
        self._state_path = directory / STATE
        self._signature: tuple[int, int, int] | None = None
        if self._state_path.exists():
            self._load()
        trim_episodes(directory)
        if self._curriculum is not None:
            self._curriculum.apply(race)

    # ------------------------------------------------------------------ persistence

    def save(self) -> None:
        """Make the present the state that the client is opened with next time."""
        self.progress.log_lines = count_lines(self._episodes_path)
        if self._curriculum is not None:
            self.progress.curriculum = self._curriculum.state()
        tensors: Tensors = {}
        for agent, learner in self.learners.items():
            learner.write_journal()
            tensors |= prefixed(agent, learner.tensors())
            tensors |= prefixed(f"{agent}/local", learner.local_state())
        size = len(self._collector.race.observation_low)
        checkpoint.write(self._state_path, tensors, self.progress, self.scenario, size)
        for learner in self.learners.values():
            learner.apply_journal()
        self._signature = self._signature_on_disk()

    def is_current(self) -> bool:
        """Whether the state on disk is the one this object saved or loaded last."""
        return self._signature is not None and self._signature == self._signature_on_disk()

    def _load(self) -> None:
        tensors = read_tensors(self._state_path)
        self.progress = saved_progress(self.directory)
        if self._curriculum is not None:
            self._curriculum.load_state(self.progress.curriculum)
        for agent, learner in self.learners.items():
            own = unprefixed(agent, tensors)
            local = unprefixed("local", own)
            learner.load_tensors({k: v for k, v in own.items() if not k.startswith("local/")})
            learner.load_local_state(local)
        self._signature = self._signature_on_disk()

    def _signature_on_disk(self) -> tuple[int, int, int] | None:
        try:
            stat = self._state_path.stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    # ------------------------------------------------------------------ federation

    def shared_tensors(self) -> Tensors:
        """Return what a federation may average: networks and optimizer moments."""
        tensors: Tensors = {}
        for agent in self.scenario.federated_agents:
            tensors |= prefixed(agent, self.learners[agent].tensors())
        return tensors

    def load_shared(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over averaged tensors, any subset of `shared_tensors`.

        Raises:
            ValueError: If a name or shape is not the learner's.
        """
        for agent in self.scenario.federated_agents:
            self.learners[agent].load_tensors(unprefixed(agent, tensors))

    def hold_near(self, mu: float) -> None:
        """Pull the federated learners' networks to where they are now; see ``Learner``."""
        for agent in self.scenario.federated_agents:
            self.learners[agent].hold_near(mu)

    # ------------------------------------------------------------------ training

    def train(self, episodes: int) -> list[EpisodeRecord]:
        """Run training episodes, and evaluations where they are due.

        Returns:
            The records, in the order in which the episodes ended; each is appended to
            ``episodes.jsonl`` when its episode ends.
        """
        records: list[EpisodeRecord] = []
        evaluation = self.scenario.evaluation
        players = {agent: Explorer(agent, own) for agent, own in self.learners.items()}
        with self._episodes_path.open("a", encoding="utf-8", buffering=1) as log:
            for finished in self._collector.run(self._seeds(episodes), players):
                new = [self._trained(finished)]
                if evaluation.episodes and self.progress.episodes % evaluation.every == 0:
                    new += self._evaluate()
                for record in new:
                    log.write(record.to_json() + "\n")
                records += new
        return records

    def _seeds(self, episodes: int) -> Iterator[np.random.SeedSequence]:
        first, stride = self.progress.episodes, self.scenario.collect.seed_stride
        for number in range(first, first + episodes):
            yield stream(self.seed, Use.TRAIN_EPISODE, self.client_id, number * stride)

    def _trained(self, finished: Finished) -> EpisodeRecord:
        """Count a training episode."""
        self.progress.episodes += 1
        self.progress.env_steps += finished.steps
        losses: dict[str, float] = {}
        for agent, learner in self.learners.items():
            losses |= prefixed(agent, learner.pop_metrics())
        curriculum = self._curriculum
        if curriculum is not None:
            outcome = finished.outcomes[curriculum.config.agent]
            if curriculum.observe(outcome, finished.env):
                curriculum.apply(self._collector.race)
        return self._record("train", finished, losses)

    def _evaluate(self) -> list[EpisodeRecord]:
        """Evaluate the greedy policies, and keep the models if none were better."""
        evaluation = self.scenario.evaluation
        if self._evaluator is None:
            self._evaluator = Evaluator(self.scenario, evaluation.episodes)
        episodes = self._evaluator.run({a: own.policy for a, own in self.learners.items()})
        found = score(episodes, self.learners, evaluation.best)
        if not self.progress.best or found > self.progress.best:
            self.progress.best = found
            self._save_best(found)
        return [self._record("evaluate", finished) for finished in episodes]

    def _save_best(self, found: tuple[float, ...]) -> None:
        models: Tensors = {}
        for agent, learner in self.learners.items():
            own = learner.tensors()
            models |= prefixed(agent, {k: v for k, v in own.items() if k.startswith("model/")})
        metadata = checkpoint_metadata(self.scenario)
        metadata |= {"episodes": str(self.progress.episodes), "score": json.dumps(found)}
        write_tensors(self.directory / BEST, models, metadata)

    def _record(
        self, kind: EpisodeKind, finished: Finished, losses: dict[str, float] | None = None
    ) -> EpisodeRecord:
        return EpisodeRecord(
            kind=kind,
            round=self.progress.round + 1,
            episode=self.progress.episodes,
            steps=finished.steps,
            env_steps=self.progress.env_steps,
            seconds=finished.seconds,
            returns=finished.returns,
            outcomes=finished.outcomes,
            losses=losses or {},
            lap_times=finished.lap_times,
            collect=finished.shares.metrics(),
            stage=self._curriculum.number if self._curriculum else 0,
        )
