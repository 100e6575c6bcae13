"""The settings of a scenario, as frozen pydantic models.

A scenario's file contains only what differs from the defaults below. ``f110_fl.loading`` reads
one from YAML, and applies ``FED_*`` variables and command-line flags over it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, Tag, TypeAdapter, ValidationError, ValidationInfo, model_validator
from pydantic_core import ErrorDetails

from f110_fl.config.common import by_shape, check_placeholders
from f110_fl.config.curriculum import CurriculumConfig
from f110_fl.config.federated import FederatedConfig
from f110_fl.config.keys import Key, KeyPath, join, laid, overlaps, parse_key
from f110_fl.config.learners import LearnerConfig
from f110_fl.config.opponents import LeagueOpponentsConfig
from f110_fl.config.variation import client_settings
from sim.config import Config, EnvConfig, TrackConfig

Metric = Literal["success_rate", "return", "lap_time"]
MAX_SEED = 2**63  # below it
Seed = Annotated[int, Field(ge=0, lt=MAX_SEED)]


class SeedSteps(Config):
    """Seeds at equal steps: client k has ``base + k * step``."""

    base: Seed = Field(description="Seed of client 0. [-]")
    step: int = Field(1, ge=1, lt=MAX_SEED, description="Step from seed to seed. [-]")
    shared: Seed | None = Field(
        None, description="Seed of what clients share, such as the first model; null: base. [-]"
    )


class CollectConfig(Config):
    """How training episodes are collected."""

    num_envs: int = Field(
        1, ge=1, le=4096, description="Number of environments stepped together. [environments]"
    )
    prefetch: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="Most episodes under way; null: num_envs. [episodes]",
    )
    seed_stride: int = Field(
        1, ge=1, lt=2**31, description="Step from an episode's seed to the next. [-]"
    )


class EvaluationConfig(Config):
    """Greedy episodes between training episodes, on seeds of their own."""

    every: int = Field(
        10, ge=1, le=1_000_000_000, description="Training episodes between evaluations. [episodes]"
    )
    episodes: int = Field(
        5, ge=0, le=1_000_000_000, description="Episodes of an evaluation; 0: none. [episodes]"
    )
    track: TrackConfig | None = Field(
        None, description="Track of evaluations; null: that of training. [-]"
    )
    best: Metric = Field(
        "success_rate", description="Metric of the best checkpoint; return breaks ties. [-]"
    )


class WandbConfig(Config):
    """Weights & Biases; offline unless an API key is set."""

    enabled: bool = Field(True, description="Whether to record the run with W&B. [bool]")
    project: str = Field("f110-fl", min_length=1, description="W&B project. [name]")
    group_template: str = Field(
        "{scenario}-{time}",
        description="W&B group; fills in {scenario}, {time}, {seed}, {prefix}. [template]",
    )
    name_template: str = Field(
        "{prefix}{role}", description="W&B run; also {role} (server, client_00). [template]"
    )
    prefix: str = Field("", description="Text for {prefix} in W&B names. [text]")

    @model_validator(mode="after")
    def _placeholders(self) -> WandbConfig:
        allowed = {
            "group_template": ("scenario", "time", "seed", "prefix"),
            "name_template": ("scenario", "time", "seed", "prefix", "role"),
        }
        for name, words in allowed.items():
            check_placeholders(name, getattr(self, name), words)
        return self


class Scenario(Config):
    """A whole experiment.

    The message of a validator names the settings by their keys, by which the loader finds the
    variable or flag that is to blame.
    """

    name: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="Name of the scenario. [name]",
    )
    seed: Annotated[
        Annotated[Seed, Tag("scalar")]
        | Annotated[tuple[Seed, ...], Tag("list")]
        | Annotated[SeedSteps, Tag("mapping")],
        by_shape("scalar", "list", "mapping"),
    ] = Field(
        0, description="Root of all random streams: a number, one per client, or base and step. [-]"
    )
    episodes: int = Field(
        5000, ge=1, le=1_000_000_000, description="Training episodes per client. [episodes]"
    )
    threads: int = Field(1, ge=1, le=256, description="PyTorch threads per client. [threads]")
    device: Literal["cpu", "cuda", "auto"] = Field(
        "cpu", description="Device of the networks; auto: a GPU if there is one. [-]"
    )
    env: EnvConfig = Field(EnvConfig(), description="The environment. [-]")
    learners: dict[str, LearnerConfig] = Field(
        {}, description="Learner of each car that has no driver, by car. [-]"
    )
    collect: CollectConfig = Field(CollectConfig(), description="Collection of experience. [-]")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="Greedy episodes. [-]")
    curriculum: CurriculumConfig | None = Field(
        None, description="Curriculum of the training episodes; null: none. [-]"
    )
    checkpoint_every: int = Field(
        50,
        ge=1,
        le=1_000_000_000,
        description="Episodes between an unfederated replica's checkpoints. [episodes]",
    )
    federated: FederatedConfig = Field(FederatedConfig(), description="Federation. [-]")
    wandb: WandbConfig = Field(WandbConfig(), description="Weights & Biases. [-]")

    @model_validator(mode="after")
    def _rules(self, info: ValidationInfo) -> Scenario:
        self._check_agents()
        self._check_opponents()
        self._check_seeds()
        self._check_private()
        if self.federated.evaluate_on != "none":
            self._check_evaluable()
        return _checked_clients(self, info.context)

    def _check_agents(self) -> None:
        free = [car.name for car in self.env.cars if car.driver is None]
        for name in self.learners:
            if name not in free:
                raise ValueError(f"learners names {name!r}; cars without a driver are {free}")
        for name in free:
            if name not in self.learners:
                raise ValueError(f"car {name!r} has neither a driver nor one of the learners")
        for name in self.federated.agents:
            if name not in self.learners:
                raise ValueError(
                    f"federated.agents names {name!r}; learners are {list(self.learners)}"
                )
        if self.curriculum is not None:
            if self.curriculum.agent not in free:
                raise ValueError(
                    f"curriculum.agent is {self.curriculum.agent!r}; cars without a driver are "
                    f"{free}"
                )
            for stage in self.curriculum.stages:
                stage.indices(self.env)

    def _check_opponents(self) -> None:
        """Refuse to meet snapshots of nobody, or in more episodes than there are."""
        fractions = {
            f"learners.{agent}.opponents": learner.opponents.fraction
            for agent, learner in self.learners.items()
            if learner.opponents is not None
        }
        if self.league_opponents is not None:
            if len(fractions) > 1:
                raise ValueError(f"{' and '.join(fractions)}: only one, where there is a league")
            self._check_league(*self.league_opponents)
            return
        if fractions and len(self.learners) == 1:
            raise ValueError(f"{next(iter(fractions))}: there is no other learner to meet")
        total = math.fsum(fractions.values())
        if total > 1.0:
            names = " and ".join(f"{name}.fraction" for name in fractions)
            raise ValueError(f"{names} add up to {total:g}; allowed: at most 1")

    def _check_league(self, agent: str, config: LeagueOpponentsConfig) -> None:
        """Refuse a league whose entries would drive no car, or which of several is not said."""
        key = f"learners.{agent}.opponents"
        scripted = [car.name for car in self.env.cars if car.driver is not None]
        if config.car is not None and config.car not in scripted:
            raise ValueError(f"{key}.car is {config.car!r}; cars with a driver are {scripted}")
        if config.car is None and len(scripted) != 1:
            raise ValueError(f"{key}.car is missing; cars with a driver are {scripted}")

    @property
    def league_opponents(self) -> tuple[str, LeagueOpponentsConfig] | None:
        """The learner that meets the entries of a league, and how; None: there is none."""
        for agent, learner in self.learners.items():
            if isinstance(learner.opponents, LeagueOpponentsConfig):
                return agent, learner.opponents
        return None

    def _check_seeds(self) -> None:
        clients = self.federated.clients
        if isinstance(self.seed, tuple) and len(self.seed) != clients:
            raise ValueError(
                f"seed lists {len(self.seed)}, but federated.clients is {clients}; "
                "allowed: one seed per client"
            )
        last = clients - 1
        if isinstance(self.seed, SeedSteps) and self.client_seed(last) >= MAX_SEED:
            raise ValueError(
                f"seed.base + {last} * seed.step, the seed of client {last}, is "
                f"{self.client_seed(last)}; allowed: below 2^63"
            )

    def _check_private(self) -> None:
        """Refuse to put noise on statistics, of which variances would fall below 0."""
        federated = self.federated
        if federated.privacy is None or federated.share != "all":
            return
        for agent in self.federated_agents:
            learner = self.learners[agent]
            if learner.normalise_observations or getattr(learner, "normalise_rewards", False):
                raise ValueError(
                    f"federated.privacy with federated.share 'all' and learners.{agent}, which "
                    "normalises: noise would make its statistics meaningless; allowed: share "
                    "'all_but_normaliser', 'all_but_head', 'actor'"
                )

    def _check_evaluable(self) -> None:
        """Refuse to evaluate a model that lacks parts, or in no episodes."""
        if not self.evaluation.episodes:
            raise ValueError("federated.evaluate_on needs evaluation.episodes above 0")
        if not self.federated.evaluated_on_server:
            return  # clients add their own parts
        missing, share = self.missing_on_server, self.federated.share
        if missing == "learners":
            raise ValueError(
                "federated.evaluate_on: the server has not all learners' models; "
                "allowed: clients, or no federated.agents"
            )
        if missing:
            raise ValueError(
                f"federated.evaluate_on: with federated.share {share!r} the server has no "
                f"{missing}; allowed: clients, or share: all"
            )

    @property
    def missing_on_server(self) -> Literal["", "learners", "heads", "normalisers"]:
        """What a global model lacks to act in the place of all learners; "" for nothing."""
        share = self.federated.share
        if set(self.federated_agents) != set(self.learners):
            return "learners"
        if share == "all_but_head":
            return "heads"
        normalised = any(learner.normalise_observations for learner in self.learners.values())
        return "normalisers" if normalised and share != "all" else ""

    def for_client(self, client_id: int) -> Scenario:
        """Return a client's scenario, with its values of ``federated.vary``."""
        if not self.federated.vary:
            return self
        return _client_scenario(self, client_id, _sections(self), None)

    def client_seed(self, client_id: int) -> int:
        """Return the seed of a client's own random streams."""
        if isinstance(self.seed, SeedSteps):
            return self.seed.base + client_id * self.seed.step
        return self.seed[client_id] if isinstance(self.seed, tuple) else self.seed

    def with_client_seed(self, seed: int) -> Scenario:
        """Return the scenario with ``seed`` as every client's own; the shared seed stays."""
        own = SeedSteps(base=seed, shared=self.shared_seed)
        return self.model_copy(update={"seed": own.model_copy(update={"step": 0})})

    @property
    def shared_seed(self) -> int:
        """The seed of what clients share: the first model, evaluations, the draws.

        It is 0 if the seeds are a list, so that it depends on no single client.
        """
        if isinstance(self.seed, SeedSteps):
            return self.seed.base if self.seed.shared is None else self.seed.shared
        return 0 if isinstance(self.seed, tuple) else self.seed

    @property
    def evaluation_env(self) -> EnvConfig:
        """The environment of evaluations."""
        track = self.evaluation.track
        return self.env if track is None else self.env.model_copy(update={"track": track})

    @property
    def federated_agents(self) -> tuple[str, ...]:
        """Names of the learners that are averaged."""
        return self.federated.agents or tuple(self.learners)

    @property
    def rounds(self) -> int:
        """Number of rounds in which clients train ``episodes`` episodes each.

        In mode asynchronous a round is one client's, and ``episodes`` the mean over clients.
        """
        if self.federated.mixed is None:
            return -(-self.episodes // self.federated.round_interval)
        return -(-self.federated.clients * self.episodes // self.round_episodes(1))

    def round_episodes(self, server_round: int) -> int:
        """Return the episodes that each client asked trains in a round, counted from 1."""
        if self.federated.mixed is not None:
            return min(self.federated.round_interval, self.episodes)
        done = (server_round - 1) * self.federated.round_interval
        return min(self.federated.round_interval, self.episodes - done)

    def episodes_after(self, server_round: int) -> int:
        """Return the episodes that clients have trained after a round, rounded mean over them."""
        if self.federated.mixed is None:
            return min(server_round * self.federated.round_interval, self.episodes)
        return server_round * self.round_episodes(1) // self.federated.clients


class ClientSettingsError(ValueError):
    """A client's own settings are invalid.

    Args:
        client_id: The first such client.
        reason: The reason in words.
        key: The key of ``federated.vary`` that is to blame, if it is only one.
        error: The models' error with its location in the client's scenario, if there is one.
    """

    def __init__(
        self, client_id: int, reason: str, key: str = "", error: ErrorDetails | None = None
    ) -> None:
        super().__init__(f"client {client_id}: {reason}")
        self.client_id = client_id
        self.error = error
        self.path: KeyPath = ("federated", "vary", key) if key else ("federated", "vary")


def _checked_clients(scenario: Scenario, folder: Path | None) -> Scenario:
    """Validate every client's settings, with file names relative to a folder if one is given.

    Returns:
        The scenario, with absolute file names in ``federated.vary``.

    Raises:
        ClientSettingsError: For the first client with invalid settings.
    """
    federated, seen = scenario.federated, set[str]()
    vary, sections = dict(federated.vary), _sections(scenario)
    for client_id in range(federated.clients if vary else 0):
        settings = repr(client_settings(federated.vary, scenario.shared_seed, client_id))
        if settings in seen:  # short lists repeat
            continue
        seen.add(settings)
        own = _client_scenario(scenario, client_id, sections, folder)
        for key, values in vary.items():
            if isinstance(values, tuple):
                n = client_id % len(values)
                value = reduce(_entry, parse_key(key) or (), own)
                given = _ANYTHING.dump_python(value, exclude_unset=True)
                vary[key] = (*values[:n], given, *values[n + 1 :])
    if vary == federated.vary:
        return scenario
    return scenario.model_copy(update={"federated": federated.model_copy(update={"vary": vary})})


_ANYTHING: Final = TypeAdapter[Any](Any)


def _entry(value: Any, key: Key) -> Any:
    return value[key] if isinstance(key, int) else getattr(value, key)


def _sections(scenario: Scenario) -> dict[str, Any]:
    """Return the sections in which clients differ, as plain values."""
    paths = [parse_key(key) or () for key in scenario.federated.vary]
    return scenario.model_dump(include={str(path[0]) for path in paths})


def _client_scenario(
    scenario: Scenario, client_id: int, sections: Mapping[str, Any], folder: Path | None
) -> Scenario:
    """Return a client's scenario, with its ``sections`` validated again."""
    settings = client_settings(scenario.federated.vary, scenario.shared_seed, client_id)
    update: dict[str, Config] = {}
    key, name = "", ""
    try:
        for key, value in settings.items():
            sections = laid(sections, parse_key(key) or (), value)  # type: ignore[assignment]
        for name, data in sections.items():
            model: type[Config] = type(getattr(scenario, name))
            update[name] = model.model_validate(data, strict=True, context=folder)
        own = scenario.model_copy(update=update)
        _check_interface(own.env, scenario.env)
        for stage in own.curriculum.stages if own.curriculum else ():
            stage.indices(own.env)
    except LookupError as error:
        raise ClientSettingsError(client_id, error.args[0], key) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        first["loc"] = (name, *first["loc"])
        keys = [key for key in settings if _set_by(key, first["loc"])]
        reason = f"{join(first['loc'])}: {first['msg']}"
        blamed = keys[0] if len(keys) == 1 else ""
        raise ClientSettingsError(client_id, reason, blamed, first) from None
    except ValueError as error:
        raise ClientSettingsError(client_id, str(error)) from None
    return own


def _check_interface(own: EnvConfig, common: EnvConfig) -> None:
    """Raise ValueError if a client's networks would have other sizes or other owners."""
    cars, others = ([(car.name, car.driver is None) for car in env.cars] for env in (own, common))
    for what, differs in (
        ("env.lidar.beams", own.lidar.beams != common.lidar.beams),
        ("env.observation", own.observation != common.observation),
        ("the cars' names and which of them have a driver", cars != others),
    ):
        if differs:
            raise ValueError(f"{what} must be the same for all clients, which share networks")


def _set_by(key: str, loc: KeyPath) -> bool:
    """Return whether a dotted key sets the value at a pydantic location, or a part of it."""
    path = parse_key(key) or ()
    parts = iter(loc)  # between the keys, there may be tags of a union's members
    return overlaps(path, loc) or all(part in parts for part in path)
