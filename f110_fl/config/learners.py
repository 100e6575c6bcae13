"""Settings of the learning algorithms."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from f110_fl.config.common import Fraction, Positive
from sim.config import Config

Widths = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
Levels = Annotated[tuple[Annotated[float, Field(ge=-1, le=1)], ...], Field(min_length=1)]


class AlgorithmConfig(Config):
    """Settings of a learning algorithm, and what can be said of it without PyTorch.

    A subclass has a field ``algorithm``, a literal of the name that selects it.

    Attributes:
        acting: Names of the networks that choose actions: NETWORK in ``model/NETWORK/PARAMETER``.
    """

    acting: ClassVar[frozenset[str]]


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


class ConstantSchedule(Config):
    """The learning rate stays."""

    kind: Literal["constant"] = Field("constant", description="Selects this schedule. [-]")


class LinearSchedule(Config):
    """The learning rate changes linearly, then stays."""

    kind: Literal["linear"] = Field("linear", description="Selects this schedule. [-]")
    updates: int = Field(ge=1, description="Updates from the first rate to the last. [updates]")
    end: float = Field(0.0, ge=0, description="Last rate over the first. [-]")


class CosineSchedule(Config):
    """The learning rate follows half a cosine, then stays (Loshchilov and Hutter 2017)."""

    kind: Literal["cosine"] = Field("cosine", description="Selects this schedule. [-]")
    updates: int = Field(ge=1, description="Updates from the first rate to the last. [updates]")
    end: float = Field(0.0, ge=0, description="Last rate over the first. [-]")


class StepSchedule(Config):
    """The learning rate is multiplied by a factor again and again."""

    kind: Literal["step"] = Field("step", description="Selects this schedule. [-]")
    updates: int = Field(ge=1, description="Updates between two multiplications. [updates]")
    factor: Fraction = Field(0.5, description="What the rate is multiplied by. [-]")


ScheduleConfig = Annotated[
    ConstantSchedule | LinearSchedule | CosineSchedule | StepSchedule,
    Field(discriminator="kind"),
]


class OptimizerConfig(Config):
    """How gradients become steps."""

    kind: Literal["adam", "adamw"] = Field(
        "adam", description="AdamW decays weights apart from the gradient. [-]"
    )
    weight_decay: float = Field(0.0, ge=0, description="Weight of the L2 penalty. [-]")
    max_grad_norm: Positive | None = Field(
        None, description="Longest gradient of a network, L2; null: any. [-]"
    )
    schedule: ScheduleConfig = Field(
        ConstantSchedule(), description="Learning rates over the updates. [-]"
    )


class OffPolicyConfig(AlgorithmConfig):
    """What the learners with a replay buffer share."""

    hidden: Widths = Field((256, 256), description="Widths of the hidden layers. [units]")
    discount: Fraction = Field(0.99, description="Discount gamma. [-]")
    n_step: int = Field(
        1, ge=1, le=100, description="Rewards summed before the value takes over. [steps]"
    )
    batch_size: int = Field(256, ge=1, description="Transitions an update. [transitions]")
    warmup_steps: int = Field(
        25_000, ge=0, description="Steps of uniformly random actions before updates. [steps]"
    )
    update_every: int = Field(1, ge=1, description="Environment steps per update. [steps]")
    normalise_observations: bool = Field(
        False, description="Zero mean and unit variance, by running statistics. [bool]"
    )
    normalise_rewards: bool = Field(
        False, description="Divide by the running deviation of the return. [bool]"
    )
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="Of every network. [-]")
    replay: ReplayConfig = Field(ReplayConfig(), description="Replay buffer. [-]")


class TD3Config(OffPolicyConfig):
    """Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018)."""

    acting = frozenset({"actor"})
    algorithm: Literal["td3"] = Field("td3", description="Selects this learner. [-]")
    actor_learning_rate: Positive = Field(3e-4, description="Adam step of the actor. [-]")
    critic_learning_rate: Positive = Field(3e-4, description="Adam step of the critics. [-]")
    tau: Fraction = Field(0.005, description="Target networks' step towards the networks. [-]")
    policy_noise: float = Field(
        0.2, ge=0, description="Standard deviation of target policy smoothing. [action]"
    )
    noise_clip: float = Field(0.5, ge=0, description="Bound of that noise. [action]")
    policy_delay: int = Field(2, ge=1, description="Critic updates per actor update. [updates]")
    exploration: ExplorationConfig = Field(ExplorationConfig(), description="Action noise. [-]")


class TemperatureConfig(Config):
    """Weight of the entropy against the reward (Haarnoja et al. 2018b, section 5)."""

    initial: Positive = Field(1.0, description="First, or fixed, temperature alpha. [reward/nat]")
    automatic: bool = Field(True, description="Learn it, or keep it. [bool]")
    learning_rate: Positive = Field(3e-4, description="Adam step of its logarithm. [-]")
    target_entropy: float | None = Field(
        None, description="Entropy aimed at; null: minus the number of actions. [nat]"
    )


class SACConfig(OffPolicyConfig):
    """Soft actor-critic with automatic temperature (Haarnoja et al. 2018b)."""

    acting = frozenset({"actor"})
    algorithm: Literal["sac"] = Field("sac", description="Selects this learner. [-]")
    actor_learning_rate: Positive = Field(3e-4, description="Adam step of the actor. [-]")
    critic_learning_rate: Positive = Field(3e-4, description="Adam step of the critics. [-]")
    tau: Fraction = Field(0.005, description="Target critics' step towards the critics. [-]")
    temperature: TemperatureConfig = Field(TemperatureConfig(), description="Entropy bonus. [-]")


class GridConfig(Config):
    """Actions to choose from: every steering with every speed."""

    steering: Levels = Field((-1.0, -0.5, 0.0, 0.5, 1.0), description="Rising. [action]")
    speed: Levels = Field((0.0, 0.5, 1.0), description="Rising. [action]")

    @field_validator("steering", "speed")
    @classmethod
    def _rising(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if any(a >= b for a, b in pairwise(levels)):
            raise ValueError("must rise strictly")
        return levels


class EpsilonGreedy(Config):
    """Uniformly random actions with a probability that falls linearly."""

    kind: Literal["epsilon"] = Field("epsilon", description="Selects this exploration. [-]")
    start: Fraction = Field(1.0, description="Probability at step 0. [-]")
    end: Fraction = Field(0.05, description="Probability at the end. [-]")
    steps: int = Field(100_000, ge=1, description="Environment steps from start to end. [steps]")


class NoisyNets(Config):
    """Learned noise on the weights (Fortunato et al. 2018)."""

    kind: Literal["noisy"] = Field("noisy", description="Selects this exploration. [-]")
    sigma: Positive = Field(0.5, description="First deviation, times sqrt(layer's inputs). [-]")


class SoftTarget(Config):
    """The target network follows at every update."""

    kind: Literal["soft"] = Field("soft", description="Selects this rule. [-]")
    tau: Fraction = Field(0.005, description="Step towards the network. [-]")


class HardTarget(Config):
    """The target network is a copy, renewed at intervals."""

    kind: Literal["hard"] = Field("hard", description="Selects this rule. [-]")
    updates: int = Field(1000, ge=1, description="Updates between copies. [updates]")


class DQNConfig(OffPolicyConfig):
    """Deep Q-network (Mnih et al. 2015) with the extensions that Rainbow combines."""

    acting = frozenset({"q"})
    algorithm: Literal["dqn"] = Field("dqn", description="Selects this learner. [-]")
    actions: GridConfig = Field(GridConfig(), description="Actions to choose from. [-]")
    learning_rate: Positive = Field(1e-4, description="Adam step. [-]")
    double: bool = Field(True, description="The network picks, its target judges. [bool]")
    duelling: bool = Field(True, description="Value and advantages in two streams. [bool]")
    huber: Positive = Field(1.0, description="TD errors count linearly beyond this. [reward]")
    exploration: Annotated[EpsilonGreedy | NoisyNets, Field(discriminator="kind")] = Field(
        EpsilonGreedy(), description="Where actions other than the best come from. [-]"
    )
    target: Annotated[SoftTarget | HardTarget, Field(discriminator="kind")] = Field(
        HardTarget(), description="How the target network follows. [-]"
    )


class LstmConfig(Config):
    """A memory before the hidden layers of actor and critic, one each."""

    units: int = Field(128, ge=1, description="Width. [units]")
    sequence: int = Field(
        16, ge=1, description="Steps that gradients flow back; divides rollout_steps. [steps]"
    )


class PPOConfig(AlgorithmConfig):
    """Proximal policy optimisation (Schulman et al. 2017), Stable-Baselines3's defaults."""

    acting = frozenset({"actor"})
    algorithm: Literal["ppo"] = Field("ppo", description="Selects this learner. [-]")
    actor_hidden: Widths = Field((64, 64), description="Widths of the actor's layers. [units]")
    critic_hidden: Widths = Field((64, 64), description="Widths of the critic's layers. [units]")
    activation: Literal["tanh", "relu"] = Field("tanh", description="Of the hidden layers. [-]")
    lstm: LstmConfig | None = Field(None, description="Memory; null: none. [-]")
    orthogonal_init: bool = Field(
        True, description="Orthogonal initial weights, or uniform in 1/sqrt(inputs). [bool]"
    )
    initial_log_std: float = Field(
        0.0, ge=-20, le=2, description="First log of the actions' standard deviation. [-]"
    )
    learning_rate: Positive = Field(3e-4, description="Adam step of both networks. [-]")
    adam_epsilon: Positive = Field(1e-5, description="Adam's epsilon. [-]")
    schedule: ScheduleConfig = Field(
        ConstantSchedule(), description="Learning rates over the updates, one a rollout. [-]"
    )
    rollout_steps: int = Field(
        2048, ge=1, description="Steps of each environment between updates. [steps]"
    )
    epochs: int = Field(10, ge=1, description="Passes over a rollout. [passes]")
    minibatches: int = Field(32, ge=1, description="Gradient steps a pass. [steps]")
    discount: Fraction = Field(0.99, description="Discount gamma. [-]")
    gae_lambda: Fraction = Field(0.95, description="Bias against variance of advantages. [-]")
    normalise_advantages: bool = Field(
        True, description="Zero mean and unit variance in each minibatch. [bool]"
    )
    normalise_observations: bool = Field(
        False, description="Zero mean and unit variance, by running statistics. [bool]"
    )
    normalise_rewards: bool = Field(
        False, description="Divide by the running deviation of the return. [bool]"
    )
    clip_range: Positive = Field(0.2, description="Bound of the ratio's distance from 1. [-]")
    value_clip: Positive | None = Field(
        None, description="Bound of a value's change in an update; null: none. [reward]"
    )
    entropy_coefficient: float = Field(0.0, ge=0, description="Weight of the entropy. [-]")
    value_coefficient: Positive = Field(0.5, description="Weight of the value loss. [-]")
    max_grad_norm: Positive = Field(0.5, description="Longest gradient, L2. [-]")
    target_kl: Positive | None = Field(
        None, description="An update stops at 1.5 times this divergence; null: never. [nat]"
    )

    @model_validator(mode="after")
    def _sequences(self) -> PPOConfig:
        if self.lstm and self.rollout_steps % self.lstm.sequence:
            raise ValueError(
                f"rollout_steps {self.rollout_steps} is no multiple of lstm.sequence "
                f"{self.lstm.sequence}"
            )
        return self


LearnerConfig = Annotated[
    TD3Config | SACConfig | DQNConfig | PPOConfig, Field(discriminator="algorithm")
]
