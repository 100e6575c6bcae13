"""One client: its environment, its learners, and all that it keeps between rounds.

The same object serves a Flower client, simulated or deployed, and an unfederated replica.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from f110_fl import checkpoint
from f110_fl.files import read_tensors
from f110_fl.learners import Learner, make_learner
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
from f110_fl.rundir import EPISODES, STATE
from f110_fl.scenario import Scenario
from f110_fl.seeding import Use, integer, stream
from sim.envs import F110ParallelEnv

Tensors = dict[str, torch.Tensor]


def initial_tensors(scenario: Scenario) -> Tensors:
    """Return the tensors that every client's learners start a federation from."""
    env = F110ParallelEnv(scenario.env)
    tensors: Tensors = {}
    for index, (agent, config) in enumerate(scenario.learners.items()):
        learner = make_learner(
            config,
            env.observation_space(agent).shape[0],
            env.action_space(agent).shape[0],
            stream(scenario.seed, Use.MODEL, index),
            replay_path=None,
        )
        tensors |= prefixed(agent, learner.tensors())
    return tensors


class Trainer:
    """Run episodes, learns from them and keeps everything needed to go on exactly.

    Its directory holds ``state.safetensors`` (networks, optimizers, counters, random
    states), one memory-mapped replay file a learner and ``episodes.jsonl``. The state file
    is the commit point: whatever is newer than it is discarded when the client is opened.
    """

    def __init__(self, scenario: Scenario, client_id: int, directory: Path) -> None:
        torch.set_num_threads(scenario.threads)
        directory.mkdir(parents=True, exist_ok=True)
        self.scenario = scenario
        self.client_id = client_id
        self.directory = directory
        self.seed = scenario.seeds[client_id] if scenario.seeds else scenario.seed
        self.progress = Progress()
        self.env = F110ParallelEnv(scenario.env)
        checkpoint.check(directory / STATE, scenario, self.env)
        self.learners: dict[str, Learner] = {
            agent: make_learner(
                config,
                self.env.observation_space(agent).shape[0],
                self.env.action_space(agent).shape[0],
                stream(self.seed, Use.LEARNER, client_id, index),
                replay_path=directory / f"{agent}.replay",
            )
            for index, (agent, config) in enumerate(scenario.learners.items())
        }
        self._episodes_path = directory / EPISODES
        self._state_path = directory / STATE
        self._signature: tuple[int, int, int] | None = None
        if self._state_path.exists():
            self._load()
        trim_episodes(directory)

    # ------------------------------------------------------------------ persistence

    def save(self) -> None:
        """Make the present the state that the client is opened with next time."""
        self.progress.log_lines = count_lines(self._episodes_path)
        tensors: Tensors = {}
        for agent, learner in self.learners.items():
            learner.write_journal()
            tensors |= prefixed(agent, learner.tensors())
            tensors |= prefixed(f"{agent}/local", learner.local_state())
        checkpoint.write(self._state_path, tensors, self.progress, self.scenario, self.env)
        for learner in self.learners.values():
            learner.apply_journal()
        self._signature = self._signature_on_disk()

    def is_current(self) -> bool:
        """Whether the state on disk is the one this object saved or loaded last."""
        return self._signature is not None and self._signature == self._signature_on_disk()

    def _load(self) -> None:
        tensors = read_tensors(self._state_path)
        self.progress = saved_progress(self.directory)
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
        with self._episodes_path.open("a", encoding="utf-8", buffering=1) as log:
            for _ in range(episodes):
                records.append(self._train_episode())
                log.write(records[-1].to_json() + "\n")
                if self.progress.episodes % evaluation.every == 0:
                    for index in range(evaluation.episodes):
                        records.append(self._evaluation_episode(index))
                        log.write(records[-1].to_json() + "\n")
        return records

    def _train_episode(self) -> EpisodeRecord:
        sequence = stream(self.seed, Use.TRAIN_EPISODE, self.client_id, self.progress.episodes)
        return self._run_episode("train", sequence)

    def _evaluation_episode(self, index: int) -> EpisodeRecord:
        """Run the greedy policy; episode ``index`` has the same seed every time."""
        sequence = stream(self.scenario.seed, Use.EVALUATION_EPISODE, index)
        return self._run_episode("evaluate", sequence)

    def _run_episode(self, kind: EpisodeKind, sequence: np.random.SeedSequence) -> EpisodeRecord:
        """Run one episode; only training explores, learns and counts as progress."""
        started = time.perf_counter()
        training = kind == "train"
        env, learners, progress = self.env, self.learners, self.progress
        returns = dict.fromkeys(learners, 0.0)
        outcomes = dict.fromkeys(learners, "none")
        steps = 0
        observations, _ = env.reset(seed=integer(sequence))
        while env.agents:
            actions = {a: learners[a].act(observations[a], explore=training) for a in env.agents}
            after, rewards, terminated, truncated, infos = env.step(actions)
            steps += 1
            for agent, action in actions.items():
                if training:
                    learners[agent].observe(
                        observations[agent],
                        action,
                        rewards[agent],
                        after[agent],
                        terminated=terminated[agent],
                        truncated=truncated[agent],
                    )
                    learners[agent].update()
                returns[agent] += rewards[agent]
                if terminated[agent] or truncated[agent]:
                    outcomes[agent] = infos[agent]["outcome"]
            observations = after
        losses: dict[str, float] = {}
        if training:
            progress.episodes += 1
            progress.env_steps += steps
            for agent, learner in learners.items():
                losses |= prefixed(agent, learner.pop_metrics())
        return EpisodeRecord(
            kind=kind,
            round=progress.round + 1,
            episode=progress.episodes,
            steps=steps,
            env_steps=progress.env_steps,
            seconds=time.perf_counter() - started,
            returns=returns,
            outcomes=outcomes,
            losses=losses,
        )
