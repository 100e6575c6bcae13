"""What a scenario file says, as frozen pydantic models.

A scenario states only what differs from the defaults below. ``f110_fl.loading`` reads
one from YAML and applies ``FED_*`` variables and command-line flags over it.
"""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import (
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from f110_fl import vary
from f110_fl.federated_config import FederatedConfig
from f110_fl.learner_config import LearnerConfig
from f110_fl.templates import check_placeholders
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


def _spawn_set(value: object, handler: ValidatorFunctionWrapHandler) -> int | tuple[str, ...]:
    """Give one error for both kinds of spawn sets; JSON's lists are tuples, as YAML's are."""
    try:
        names = tuple(value) if isinstance(value, list) else value
        return cast("int | tuple[str, ...]", handler(names))
    except ValidationError:
        raise ValueError(
            f"found {value!r}; allowed: a spawn set's index from 0, or its list of spawn names"
        ) from None


SpawnSet = Annotated[Annotated[int, Field(ge=0)] | tuple[str, ...], WrapValidator(_spawn_set)]


class StageConfig(Config):
    """What training episodes are like at a stage of the curriculum."""

    spawn_sets: tuple[SpawnSet, ...] = Field(
        (),
        description="Those of env.spawn_sets that are drawn from, as they are written there or "
        "by index from 0; none: all. [-]",
    )
    difficulty: float = Field(1.0, gt=0, description="Factor of the scripted cars' speeds. [-]")

    def indices(self, env: EnvConfig) -> tuple[int, ...] | None:
        """Indices of the stage's spawn sets among the environment's; None: all.

        Raises:
            ValueError: If there is no such spawn set.
        """
        known = list(env.spawn_sets)
        found = []
        for chosen in self.spawn_sets:
            if chosen in known:
                found.append(known.index(chosen))
            elif isinstance(chosen, int) and chosen < len(known):
                found.append(chosen)
            else:
                what = chosen if isinstance(chosen, int) else list(chosen)
                shown = f"0 to {len(known) - 1}" if known else "none"
                raise ValueError(f"spawn set {what} is not in env.spawn_sets: {shown}")
        return tuple(found) or None


class CurriculumConfig(Config):
    """Stages of growing difficulty, by an agent's success rate in training."""

    agent: str = Field(description="Whose success counts. [name]")
    window: int = Field(
        50, ge=1, description="Latest episodes of a stage that the rate is taken over. [episodes]"
    )
    raise_above: float = Field(
        0.7, ge=0, lt=1, description="Success rate above which the stage rises. [-]"
    )
    lower_below: float = Field(
        0.2, ge=0, le=1, description="Success rate below which the stage falls. [-]"
    )
    patience: int = Field(
        10, ge=1, description="Episodes in a row that the rate must be so. [episodes]"
    )
    stages: tuple[StageConfig, ...] = Field(
        min_length=1, description="The stages, easiest first. [-]"
    )

    @model_validator(mode="after")
    def _order(self) -> CurriculumConfig:
        if self.lower_below > self.raise_above:
            raise ValueError(
                f"lower_below, {self.lower_below:g}, is above raise_above, {self.raise_above:g}"
            )
        return self


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
        vary.check(self)
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
        return vary.client_scenario(self, client_id) if self.federated.vary else self

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
