"""What a scenario file says, as frozen pydantic models.

A scenario states only what differs from the defaults below. ``f110_fl.loading`` reads
one from YAML and applies ``FED_*`` variables and command-line flags over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sim.config import Config, EnvConfig

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def check_placeholders(name: str, template: str, allowed: Sequence[str]) -> None:
    """Raise ValueError if a template has other placeholders than those in ``allowed``."""
    choices = ", ".join(f"{{{word}}}" for word in allowed)
    try:
        parts = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"{name} {template!r}: {error}; placeholders are {choices}") from None
    for word, specification, conversion in parts:
        if word not in allowed or specification or conversion:
            raise ValueError(f"{name} {template!r}: placeholders are {choices}")


class ReplayConfig(Config):
    """Experience replay; ``alpha`` 0 samples uniformly (Schaul et al. 2016)."""

    capacity: int = Field(1_000_000, ge=1, description="Transitions kept. [transitions]")
    alpha: Fraction = Field(0.0, description="Exponent of the priorities. [-]")
    beta: Fraction = Field(0.4, description="First exponent of the importance weights. [-]")
    beta_step: float = Field(0.0, ge=0, description="Rise of beta per environment step. [1/step]")
    epsilon: Positive = Field(1e-6, description="Added to every absolute TD error. [reward]")


class ExplorationConfig(Config):
    """Gaussian action noise, falling linearly."""

    start: float = Field(0.1, ge=0, description="Standard deviation at step 0. [action]")
    end: float = Field(0.1, ge=0, description="Standard deviation at the end. [action]")
    steps: int = Field(1, ge=1, description="Environment steps from start to end. [steps]")


class TD3Config(Config):
    """Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018)."""

    algorithm: Literal["td3"] = Field("td3", description="Selects this learner. [-]")
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (256, 256), min_length=1, description="Widths of the hidden layers. [units]"
    )
    actor_learning_rate: Positive = Field(3e-4, description="Adam step of the actor. [-]")
    critic_learning_rate: Positive = Field(3e-4, description="Adam step of the critics. [-]")
    discount: Fraction = Field(0.99, description="Discount gamma. [-]")
    tau: Fraction = Field(0.005, description="Target networks' step towards the networks. [-]")
    policy_noise: float = Field(
        0.2, ge=0, description="Standard deviation of target policy smoothing. [action]"
    )
    noise_clip: float = Field(0.5, ge=0, description="Bound of that noise. [action]")
    policy_delay: int = Field(2, ge=1, description="Critic updates per actor update. [updates]")
    batch_size: int = Field(256, ge=1, description="Transitions an update. [transitions]")
    warmup_steps: int = Field(
        25_000, ge=0, description="Steps of uniformly random actions before updates. [steps]"
    )
    update_every: int = Field(1, ge=1, description="Environment steps per update. [steps]")
    exploration: ExplorationConfig = Field(ExplorationConfig(), description="Action noise. [-]")
    replay: ReplayConfig = Field(ReplayConfig(), description="Replay buffer. [-]")


LearnerConfig = TD3Config


class EvaluationConfig(Config):
    """Greedy episodes between training episodes, on seeds of their own."""

    every: int = Field(10, ge=1, description="Training episodes between evaluations. [episodes]")
    episodes: int = Field(5, ge=0, description="Episodes an evaluation; 0: none. [episodes]")


OptimizerStrategy = Literal["local", "average", "reset", "average_second_moment"]
Weighting = Literal["equal", "env_steps", "weights"]
Share = Literal["all", "actor", "all_but_normaliser", "all_but_head"]


class FedAvgConfig(Config):
    """Weighted mean (McMahan et al. 2017)."""

    name: Literal["fedavg"] = Field("fedavg", description="Selects this strategy. [-]")


class FedAvgMConfig(Config):
    """Server momentum (Hsu et al. 2019)."""

    name: Literal["fedavgm"] = Field("fedavgm", description="Selects this strategy. [-]")
    learning_rate: Positive = Field(1.0, description="Server's step. [-]")
    momentum: Fraction = Field(0.9, description="Server's momentum. [-]")


class _AdaptiveConfig(Config):
    learning_rate: Positive = Field(0.1, description="Server's step eta. [-]")
    beta_1: float = Field(0.9, ge=0, lt=1, description="Decay of the first moment. [-]")
    beta_2: float = Field(0.99, ge=0, lt=1, description="Decay of the second moment. [-]")
    tau: Positive = Field(1e-3, description="Degree of adaptivity. [-]")


class FedAdamConfig(_AdaptiveConfig):
    """Adam on the server (Reddi et al. 2021)."""

    name: Literal["fedadam"] = Field("fedadam", description="Selects this strategy. [-]")


class FedYogiConfig(_AdaptiveConfig):
    """Yogi on the server (Reddi et al. 2021)."""

    name: Literal["fedyogi"] = Field("fedyogi", description="Selects this strategy. [-]")


class FedMedianConfig(Config):
    """Coordinate-wise median (Yin et al. 2018)."""

    name: Literal["fedmedian"] = Field("fedmedian", description="Selects this strategy. [-]")


class FedTrimmedAvgConfig(Config):
    """Coordinate-wise trimmed mean (Yin et al. 2018)."""

    name: Literal["fedtrimmedavg"] = Field(
        "fedtrimmedavg", description="Selects this strategy. [-]"
    )
    cut: float = Field(0.2, ge=0, lt=0.5, description="Fraction cut off at either end. [-]")


class _ByzantineConfig(Config):
    malicious: int = Field(1, ge=0, description="Malicious clients to withstand. [clients]")


class KrumConfig(_ByzantineConfig):
    """The one update nearest to the others (Blanchard et al. 2017)."""

    name: Literal["krum"] = Field("krum", description="Selects this strategy. [-]")


class MultiKrumConfig(_ByzantineConfig):
    """The mean of the updates nearest to the others (Blanchard et al. 2017)."""

    name: Literal["multikrum"] = Field("multikrum", description="Selects this strategy. [-]")
    selected: int = Field(2, ge=1, description="Updates averaged. [clients]")


class BulyanConfig(_ByzantineConfig):
    """Krum's selection, then a trimmed mean (El Mhamdi et al. 2018)."""

    name: Literal["bulyan"] = Field("bulyan", description="Selects this strategy. [-]")


class FedProxConfig(Config):
    """Weighted mean of clients held near the global model (Li et al. 2020)."""

    name: Literal["fedprox"] = Field("fedprox", description="Selects this strategy. [-]")
    proximal_mu: Positive = Field(0.01, description="Weight of the proximal term. [-]")


StrategyConfig = Annotated[
    FedAvgConfig
    | FedAvgMConfig
    | FedAdamConfig
    | FedYogiConfig
    | FedMedianConfig
    | FedTrimmedAvgConfig
    | KrumConfig
    | MultiKrumConfig
    | BulyanConfig
    | FedProxConfig,
    Field(discriminator="name"),
]


class CentralPrivacyConfig(Config):
    """Central differential privacy: the server clips updates and adds noise to their mean."""

    kind: Literal["central"] = Field("central", description="Selects this mechanism. [-]")
    clipping_norm: Positive = Field(1.0, description="Longest update, L2. [-]")
    noise_multiplier: Positive = Field(1.0, description="Noise per clipping_norm. [-]")


class LocalPrivacyConfig(Config):
    """Local differential privacy: every client clips its update and adds noise to it."""

    kind: Literal["local"] = Field("local", description="Selects this mechanism. [-]")
    clipping_norm: Positive = Field(1.0, description="Longest update, L2. [-]")
    sensitivity: Positive = Field(1.0, description="Sensitivity of the update, L2. [-]")
    epsilon: Positive = Field(1.0, description="Privacy budget of a round. [-]")
    delta: float = Field(1e-5, gt=0, lt=1, description="Failure probability. [-]")


PrivacyConfig = Annotated[CentralPrivacyConfig | LocalPrivacyConfig, Field(discriminator="kind")]


class FederatedConfig(Config):
    """Federated averaging (McMahan et al. 2017) between clients."""

    enabled: bool = Field(True, description="Average, or run independent replicas. [bool]")
    clients: int = Field(3, ge=1, le=10_000, description="Parallel learners. [clients]")
    round_interval: int = Field(50, ge=1, description="Episodes between averages. [episodes]")
    strategy: StrategyConfig = Field(FedAvgConfig(), description="How to aggregate. [-]")
    fraction: float = Field(
        1.0, gt=0, le=1, description="Clients drawn each round, at least min_clients. [-]"
    )
    min_clients: int = Field(1, ge=1, description="Fewer usable replies fail the round. [clients]")
    max_update_norm: Positive | None = Field(
        None, description="Larger L2 distances from the global model are dropped. [-]"
    )
    privacy: PrivacyConfig | None = Field(
        None, description="Differential privacy; its noise is not seeded. [-]"
    )
    share: Share = Field("all", description="Networks that are averaged. [-]")
    weighting: Weighting = Field(
        "equal", description="Clients count equally, by steps taken, or by weights. [-]"
    )
    weights: tuple[Positive, ...] = Field((), description="One a client, for 'weights'. [-]")
    optimizer_strategy: OptimizerStrategy = Field(
        "local", description="Optimizer moments at a sync: keep, average or zero. [-]"
    )
    agents: tuple[str, ...] = Field((), description="Learners averaged; none: all. [names]")
    checkpoint_after_sync: bool = Field(
        True, description="Write global and client tensors of every round. [bool]"
    )
    timeout: Positive = Field(86_400.0, description="Longest wait for a round's replies. [s]")
    connect_timeout: Positive = Field(
        300.0, description="Longest wait for all clients at the start. [s]"
    )
    root: str = Field(
        "outputs/{name}/{time}",
        min_length=1,
        description="Directory of the run; {name} and {time} are filled in. [path]",
    )

    @model_validator(mode="after")
    def _weights(self) -> FederatedConfig:
        if self.privacy and self.optimizer_strategy not in ("local", "reset"):
            raise ValueError(
                f"privacy with optimizer_strategy {self.optimizer_strategy!r} would send moments "
                "that no noise protects; allowed: 'local', 'reset'"
            )
        if self.min_clients > self.clients:
            raise ValueError(f"min_clients {self.min_clients} exceeds clients {self.clients}")
        if self.weighting == "weights" and len(self.weights) != self.clients:
            raise ValueError(
                f"weighting 'weights' needs one weight a client: {self.clients}, "
                f"found {len(self.weights)}"
            )
        if self.weights and self.weighting != "weights":
            raise ValueError(f"weights are given, but weighting is {self.weighting!r}")
        check_placeholders("root", self.root, ("name", "time"))
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
        min_length=1, description="Learner of each car that has no driver, by car. [-]"
    )
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="Evaluation. [-]")
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
        if self.seeds and len(self.seeds) != self.federated.clients:
            raise ValueError(
                f"seeds needs one a client: {self.federated.clients}, found {len(self.seeds)}"
            )
        return self

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
