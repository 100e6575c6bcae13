"""One client: its environment, its learners, and everything that it keeps between rounds.

The same object serves a Flower client, simulated or deployed, and an unfederated replica.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch

from f110_fl.config.scenario import Scenario
from f110_fl.federation.digests import file_digest
from f110_fl.files import count_lines
from f110_fl.learners.device import use_threads
from f110_fl.rundir import BEST, EPISODES, STATE
from f110_fl.seeding import Use, stream
from f110_fl.tensors import TensorName, owned, prefixed, read_tensors, unprefixed
from f110_fl.training.agents import (
    check_mirrors,
    make_learners,
    replay_path,
    tensors_of,
    write_models,
)
from f110_fl.training.checkpoint import load_initial, started_on_clients
from f110_fl.training.collector import Collector, EndedEpisode, Explorer, Player
from f110_fl.training.curriculum import Curriculum
from f110_fl.training.evaluation import Evaluator, ModelEvaluator
from f110_fl.training.league_opponents import LeagueOpponents, league_entries
from f110_fl.training.metrics import improved, score
from f110_fl.training.opponents import Opponents
from f110_fl.training.records import EpisodeKind, EpisodeRecord, EpisodeResult
from f110_fl.training.state_file import (
    Progress,
    check_state,
    saved_progress,
    state_being_written,
    trim_episodes,
)
from sim.race import Race

Tensors = dict[str, torch.Tensor]
UPDATE: Final = "update"  # in a state file, after the agent: what is to be sent of it


class Coming(NamedTuple):
    """The averaged tensors of a round, which a client is given before anything else happens to it.

    Attributes:
        server_round: The round.
        names: Of the tensors.
    """

    server_round: int
    names: Collection[str]


class Trainer:
    """Runs episodes, learns from them and keeps everything needed to go on exactly.

    Its directory holds ``state.safetensors`` (networks, optimizers, counters, random
    states), a memory-mapped replay file for each learner, ``best.safetensors`` (the models of the
    best evaluation) and ``episodes.jsonl``. The state file is the commit point: whatever is
    newer than it is discarded, or made again, when the client is opened.

    Attributes:
        update: What is to be sent of the last round, by tensor, if it is rounded on its way
            (`f110_fl.federation.compression`); kept with the state.
    """

    def __init__(self, scenario: Scenario, client_id: int, directory: Path) -> None:
        use_threads(scenario.threads)
        directory.mkdir(parents=True, exist_ok=True)
        self.scenario = scenario
        self.own = scenario.for_client(client_id)
        self._set_client(client_id, directory)
        self._entries = league_entries(self.own, held_out=False)
        race = Race(
            self.own.env,
            num_envs=scenario.collect.num_envs,
            num_threads=scenario.threads,
            alternatives=self._entries.alternatives if self._entries else None,
        )
        self._observation_size = len(race.observation_low)
        check_state(self._state_path, scenario, self._observation_size)
        check_mirrors(scenario, race.tracks)
        self._collector = Collector(race, scenario.collect.prefetch)
        self._begin()
        self.reload()

    def _begin(self) -> None:
        """Make the learners, and whatever else a client starts with."""
        scenario, race = self.scenario, self._collector.race
        self._curriculum: Curriculum | None = None
        if scenario.curriculum is not None:
            self._curriculum = Curriculum(scenario.curriculum, self.own.env)
        seed = partial(stream, self.seed, Use.LEARNER, self.client_id)
        self.learners = make_learners(scenario, race, seed, self.directory, scenario.device)
        self._opponents: Opponents | LeagueOpponents | None = None
        if self._entries is not None:
            self._opponents = LeagueOpponents(scenario, self._entries, race.num_envs)
        elif any(config.opponents for config in scenario.learners.values()):
            self._opponents = Opponents(scenario, self.learners, race.num_envs)
        if not self._state_path.exists():
            load_initial(self.learners, scenario, started_on_clients(scenario))

    def _set_client(self, client_id: int, directory: Path) -> None:
        """Note which client this is."""
        self.client_id = client_id
        self.directory = directory
        self.seed = self.scenario.client_seed(client_id)
        self.progress = Progress()
        self.update: Tensors = {}
        self._episodes_path = directory / EPISODES
        self._state_path = directory / STATE
        self._signature: tuple[int, int, int] | None = None
        self._digest = ""  # of the state on disk; empty: not known

    # ------------------------------------------------------------------ persistence

    def save(self) -> None:
        """Commit the present state, from which the client goes on when it is opened again."""
        self.progress.log_lines = count_lines(self._episodes_path)
        if self._curriculum is not None:
            self.progress.curriculum = self._curriculum.state()
        tensors = tensors_of(self.learners)
        for agent, learner in self.learners.items():
            tensors |= prefixed(f"{agent}/local", learner.local_state())
            tensors |= prefixed(f"{agent}/{UPDATE}", unprefixed(agent, self.update))
        if self._opponents is not None:
            tensors |= self._opponents.state()
        state = self._state_path, tensors, self.progress, self.own, self._observation_size
        with state_being_written(*state) as digest:
            for learner in self.learners.values():
                learner.write_journal()
        for learner in self.learners.values():
            learner.apply_journal()
        self._signature, self._digest = self._signature_on_disk(), digest

    def state_digest(self) -> str:
        """Return the SHA-256 of the state that was saved or loaded last, in hexadecimal."""
        return self._digest or file_digest(self._state_path)

    def is_current(self) -> bool:
        """Whether the state on disk is the one this object saved or loaded last."""
        return self._signature is not None and self._signature == self._signature_on_disk()

    def reload(self, coming: Coming | None = None) -> None:
        """Go on from the directory's state, which another process may have made.

        Nothing may have been learned since this object was made, saved or reloaded: it would
        be lost only in part.

        Args:
            coming: What `load_shared` is called with next, unless the client has completed that
                round; it need not be read.
        """
        if self._state_path.exists():
            self._load(coming)
        trim_episodes(self.directory, self.progress)
        if self._curriculum is not None:
            self._curriculum.apply(self._collector.race)

    def switch_client(self, client_id: int, directory: Path, coming: Coming | None = None) -> None:
        """Go on as another client with the same settings, from its directory's state.

        Environments, networks and buffers, which take most of the time to open a client, are kept;
        their contents are loaded as by `reload`. A new client gets its own networks and buffers.

        Args:
            client_id: The client.
            directory: Directory of the client; created if missing.
            coming: See `reload`.

        Raises:
            UserError: If its state is of another format or of other learners.
        """
        directory.mkdir(parents=True, exist_ok=True)
        check_state(directory / STATE, self.scenario, self._observation_size)
        self._set_client(client_id, directory)
        if not self._state_path.exists():
            self._begin()
        else:
            for agent, learner in self.learners.items():
                learner.use_file(replay_path(directory, agent))
        self.reload(coming)

    def _load(self, coming: Coming | None) -> None:
        self.progress = saved_progress(self.directory)
        given: set[str] = set()
        if coming is not None and self.progress.round < coming.server_round:
            agents = self.scenario.federated_agents
            given = {name for name in coming.names if TensorName.parse(name).agent in agents}
        tensors = read_tensors(self._state_path, given)
        self.update = {}
        if self._curriculum is not None:
            self._curriculum.load_state(self.progress.curriculum)
        for agent, learner in self.learners.items():
            learner.load_tensors(owned(tensors, agent, "model", "optimizer"))
            learner.load_local_state(unprefixed(f"{agent}/local", tensors))
            self.update |= prefixed(agent, unprefixed(f"{agent}/{UPDATE}", tensors))
        if self._opponents is not None:
            self._opponents.load_state(tensors)
        self._signature, self._digest = self._signature_on_disk(), ""

    def _signature_on_disk(self) -> tuple[int, int, int] | None:
        try:
            stat = self._state_path.stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    # ------------------------------------------------------------------ federation

    def shared_tensors(self) -> Tensors:
        """Return what a federation may average: the learners' networks and optimizer moments."""
        return tensors_of({a: self.learners[a] for a in self.scenario.federated_agents})

    def load_shared(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Load averaged tensors, any subset of `shared_tensors`.

        Raises:
            ValueError: If a name or shape is not the learner's.
        """
        for agent in self.scenario.federated_agents:
            self.learners[agent].load_tensors(unprefixed(agent, tensors))

    def set_proximal(self, mu: float) -> None:
        """Pull the federated learners' networks towards what they are now; see ``Learner``."""
        for agent in self.scenario.federated_agents:
            self.learners[agent].set_proximal(mu)

    def evaluate_shared(self, tensors: Mapping[str, torch.Tensor]) -> list[EpisodeResult]:
        """Evaluate averaged models, completed by the client's own, in the client's environment.

        Nothing that the client keeps changes.

        Args:
            tensors: Any subset of `shared_tensors`.

        Returns:
            The episodes, in the order of their seeds.
        """
        self._models.load(tensors_of(self.learners))
        self._models.load(tensors)
        return self._models.run()

    # ------------------------------------------------------------------ training

    def train(self, episodes: int) -> list[EpisodeRecord]:
        """Run training episodes, and evaluations when they are due.

        Returns:
            The records, in the order in which the episodes ended; each is appended to
            ``episodes.jsonl`` when its episode ends.
        """
        records: list[EpisodeRecord] = []
        evaluation = self.scenario.evaluation
        players: dict[str, Player] = {a: Explorer(a, own) for a, own in self.learners.items()}
        opponents = self._opponents
        if opponents is not None:
            seed = partial(stream, self.seed, Use.OPPONENTS, self.client_id)
            players = opponents.start(self.progress.episodes, seed, players)
        with self._episodes_path.open("a", encoding="utf-8", buffering=1) as log:
            done = self._updates()
            for ended in self._collector.run(self._seeds(episodes), players, opponents):
                before, done = done, self._updates()
                new = [self._trained(ended, {a: done[a] - before[a] for a in done})]
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

    def _updates(self) -> dict[str, int]:
        return {agent: learner.updates for agent, learner in self.learners.items()}

    def _trained(self, ended: EndedEpisode, updates: dict[str, int]) -> EpisodeRecord:
        """Count a training episode, during which the learners did so many updates."""
        result = ended.result
        if self._opponents is not None:
            result = self._opponents.record(ended.env, result)
        self.progress.episodes += 1
        self.progress.env_steps += result.steps
        losses: dict[str, float] = {}
        for agent, learner in self.learners.items():
            losses |= prefixed(agent, learner.pop_metrics())
        curriculum = self._curriculum
        if curriculum is not None:
            agent = curriculum.config.agent
            outcome = None if agent in result.snapshots else result.outcomes[agent]
            if curriculum.observe(outcome, ended.env):
                curriculum.apply(self._collector.race)
        return replace(self._record("train", result, losses), updates=updates)

    def _evaluate(self) -> list[EpisodeRecord]:
        """Evaluate the greedy policies, and keep the models if they are the best so far."""
        players = {agent: learner.policy for agent, learner in self.learners.items()}
        episodes = self._evaluator.run(players)
        found = score(episodes, self.learners, self.scenario.evaluation.best)
        choice = improved(found, self.progress.best)
        if choice.kept:
            self.progress.best = choice.score
            metadata = {
                "episodes": str(self.progress.episodes),
                "score": json.dumps(choice.score),
                "why": choice.why,
            }
            write_models(self.directory / BEST, self.learners, self.own, metadata)
        return [self._record("evaluate", result) for result in episodes]

    @cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator(self.own, self.own.evaluation.episodes)

    @cached_property
    def _models(self) -> ModelEvaluator:
        return ModelEvaluator(self.own, self._evaluator)

    def _record(
        self, kind: EpisodeKind, result: EpisodeResult, losses: dict[str, float] | None = None
    ) -> EpisodeRecord:
        return EpisodeRecord(
            kind=kind,
            round=self.progress.round + 1,
            episode=self.progress.episodes,
            env_steps=self.progress.env_steps,
            result=result,
            losses=losses or {},
            stage=self._curriculum.number if self._curriculum else 0,
        )
