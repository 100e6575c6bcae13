"""What a scenario file says, as frozen pydantic models.

A scenario states only what differs from the defaults below. ``f110_fl.loading`` reads
one from YAML and applies ``FED_*`` variables and command-line flags over it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from f110_fl.config.common import check_placeholders
from f110_fl.config.curriculum import CurriculumConfig
from f110_fl.config.federated import FederatedConfig
from f110_fl.config.keys import KeyPath, join, laid, overlaps, parse_key
from f110_fl.config.learners import LearnerConfig
from f110_fl.config.variation import client_settings
from sim.config import Config, EnvConfig, TrackConfig

Metric = Literal["success_rate", "return", "lap_time"]


class CollectConfig(Config):
    """How training episodes are run."""

    workers: int = Field(
        1, ge=1, le=4096, description="Environments stepped together, an episode each. [episodes]"
    )
    prefetch: int | None = Field(
        None, ge=1, description="Episodes under way at most; null: one a worker. [episodes]"
    )
    seed_stride: int = Field(
        1, ge=1, lt=2**31, description="From an episode's seed to the next one's. [-]"
    )


class EvaluationConfig(Config):
    """Greedy episodes between training episodes, on seeds of their own."""

    every: int = Field(10, ge=1, description="Training episodes between evaluations. [episodes]")
    episodes: int = Field(5, ge=0, description="Episodes an evaluation; 0: none. [episodes]")
    track: TrackConfig | None = Field(
        None, description="Where to evaluate; null: where training takes place. [-]"
    )
    best: Metric = Field(
        "success_rate",
        description="What the best checkpoint is best at; ties go by return. [-]",
    )


class WandbConfig(Config):
    """Weights & Biases; offline unless an API key is set."""

    enabled: bool = Field(True, description="Record the run with W&B. [bool]")
    project: str = Field("f110-fl", min_length=1, description="W&B project. [name]")
    group_template: str = Field(
        "{scenario}-{time}", description="Group; {scenario}, {time}, {seed}. [template]"
    )
    name_template: str = Field(
        "{prefix}{role}", description="Run; also {prefix}, {role} (server, client_00). [template]"
    )
    prefix: str = Field("", description="Fills {prefix}. [text]")

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
    """A whole experiment."""

    name: str = Field(
        min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Its name. [name]"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Root of every random stream. [-]")
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(
        (), description="One a client, instead of seed. [-]"
    )
    episodes: int = Field(5000, ge=1, description="Training episodes a client. [episodes]")
    threads: int = Field(1, ge=1, le=256, description="PyTorch threads a client. [threads]")
    device: Literal["cpu", "cuda", "auto"] = Field(
        "cpu", description="Where networks learn; auto: on a GPU where there is one. [-]"
    )
    env: EnvConfig = Field(EnvConfig(), description="The environment. [-]")
    learners: dict[str, LearnerConfig] = Field(
        {}, description="Learner of each car that has no driver, by car. [-]"
    )
    collect: CollectConfig = Field(CollectConfig(), description="Collecting experience. [-]")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="Evaluation. [-]")
    curriculum: CurriculumConfig | None = Field(
        None, description="Curriculum of the training episodes; null: none. [-]"
    )
    checkpoint_every: int = Field(
        50, ge=1, description="Episodes between an unfederated replica's checkpoints. [episodes]"
    )
    federated: FederatedConfig = Field(FederatedConfig(), description="Federation. [-]")
    wandb: WandbConfig = Field(WandbConfig(), description="Weights & Biases. [-]")

    @model_validator(mode="after")
    def _names(self) -> Scenario:
        free = [car.name for car in self.env.cars if car.driver is None]
        for name in self.learners:
            if name not in free:
                raise ValueError(f"learner of {name!r}: cars without a driver are {free}")
        for name in free:
            if name not in self.learners:
                raise ValueError(f"car {name!r} has neither a driver nor a learner")
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
        if self.seeds and len(self.seeds) != self.federated.clients:
            raise ValueError(
                f"seeds needs one a client: {self.federated.clients}, found {len(self.seeds)}"
            )
        if self.federated.evaluate_on != "none":
            self._check_evaluable()
        check(self)
        return self

    def _check_evaluable(self) -> None:
        """Stop before a model would be evaluated that lacks parts, or in no episodes."""
        if not self.evaluation.episodes:
            raise ValueError("federated.evaluate_on needs evaluation.episodes above 0")
        if not self.federated.evaluated_on_server:
            return  # clients fill in with what is theirs
        if set(self.federated_agents) != set(self.learners):
            raise ValueError("federated.evaluate_on: the server has not all learners' models")
        share, normalised = (
            self.federated.share,
            [agent for agent, own in self.learners.items() if own.normalise_observations],
        )
        if share == "all_but_head" or (normalised and share != "all"):
            what = "heads" if share == "all_but_head" else "normalisers"
            raise ValueError(
                f"federated.evaluate_on: with share {share!r} the server has no {what}; "
                "allowed: clients, or share: all"
            )

    def for_client(self, client_id: int) -> Scenario:
        """Return the scenario as a client has it, ``federated.vary`` laid over it."""
        return client_scenario(self, client_id) if self.federated.vary else self

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
        """Rounds that give every client at least ``episodes`` training episodes."""
        return -(-self.episodes // self.federated.round_interval)

    def round_episodes(self, server_round: int) -> int:
        """Episodes each client trains in round ``server_round``, counted from 1."""
        done = (server_round - 1) * self.federated.round_interval
        return min(self.federated.round_interval, self.episodes - done)


def client_scenario(scenario: Scenario, client_id: int) -> Scenario:
    """Return a scenario as one of its clients has it.

    Raises:
        ValidationError: If the client's environment or evaluation cannot be.
        ValueError: If a key leads nowhere, or the client could not share networks with others.
    """
    federated = scenario.federated
    sections: dict[str, Any] = {
        "env": scenario.env.model_dump(),
        "evaluation": scenario.evaluation.model_dump(),
    }
    for key, value in client_settings(federated.vary, scenario.seed, client_id).items():
        try:
            sections = laid(sections, parse_key(key) or (), value)  # type: ignore[assignment]
        except LookupError as error:
            raise ValueError(f"{key}: {error.args[0]}") from None
    env = EnvConfig.model_validate(sections["env"], strict=True)
    evaluation = type(scenario.evaluation).model_validate(sections["evaluation"], strict=True)
    for what, own, common in zip(
        ("env.lidar.beams", "env.observation", "the cars' names and who has a driver"),
        _interface(env),
        _interface(scenario.env),
        strict=True,
    ):
        if own != common:
            raise ValueError(f"{what} must be the same for all clients, which share networks")
    return scenario.model_copy(update={"env": env, "evaluation": evaluation})


def _interface(env: EnvConfig) -> tuple[object, ...]:
    """Return what decides the sizes of networks, and whose they are."""
    cars = [(car.name, car.driver is None) for car in env.cars]
    return env.lidar.beams, env.observation, cars


class ClientSettingsError(ValueError):
    """What one client has of its own cannot be.

    Args:
        client_id: The first such client.
        reason: Why, in words.
        key: The key of ``federated.vary`` that is to blame, if one alone is.
        error: What the models say, with its place in the client's scenario, if they do.
    """

    def __init__(
        self, client_id: int, reason: str, key: str = "", error: ErrorDetails | None = None
    ) -> None:
        super().__init__(f"client {client_id}: {reason}")
        self.client_id = client_id
        self.error = error
        self.path: KeyPath = ("federated", "vary", key) if key else ("federated", "vary")


def check(scenario: Scenario) -> None:
    """Make sure that every client's settings can be.

    Raises:
        ClientSettingsError: If not; it names the first such client.
    """
    variation, seen = scenario.federated.vary, set[str]()
    for client_id in range(scenario.federated.clients if variation else 0):
        settings = repr(client_settings(variation, scenario.seed, client_id))
        if settings not in seen:  # short lists repeat
            seen.add(settings)
            _check_client(scenario, client_id)


def _check_client(scenario: Scenario, client_id: int) -> None:
    try:
        own = client_scenario(scenario, client_id)
        for stage in own.curriculum.stages if own.curriculum else ():
            stage.indices(own.env)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        section = "env" if error.title == EnvConfig.__name__ else "evaluation"
        first["loc"] = (section, *first["loc"])
        keys = [key for key in scenario.federated.vary if _made(key, first["loc"])]
        reason = f"{join(first['loc'])}: {first['msg']}"
        raise ClientSettingsError(
            client_id, reason, keys[0] if len(keys) == 1 else "", first
        ) from None
    except ValueError as error:
        raise ClientSettingsError(client_id, str(error)) from None


def _made(key: str, loc: KeyPath) -> bool:
    """Whether what a dotted key sets is at a pydantic location, in it or around it."""
    path = parse_key(key) or ()
    parts = iter(loc)  # in which names of a union's members may stand between the keys
    return overlaps(path, loc) or all(part in parts for part in path)
