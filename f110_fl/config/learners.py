"""Settings of the learning algorithms."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from f110_fl.config.common import AlgorithmConfig, Fraction, Positive
from sim.plugins import union, with_plugins
from sim.settings import Config

Widths = Annotated[  # two layers of the widest are 1 GB of weights
    tuple[Annotated[int, Field(ge=1, le=16_384)], ...], Field(min_length=1, max_length=16)
]
Levels = Annotated[
    tuple[Annotated[float, Field(ge=-1, le=1)], ...], Field(min_length=1, max_length=1000)
]


class ReplayConfig(Config):
    """Experience replay; ``alpha`` 0 samples uniformly (Schaul et al. 2016)."""

    capacity: int = Field(
        1_000_000, ge=1, le=100_000_000, description="Number of transitions kept. [transitions]"
    )
    alpha: Fraction = Field(0.0, description="Exponent of the priorities. [-]")
    beta: Fraction = Field(0.4, description="First exponent of the importance weights. [-]")
    beta_step: float = Field(
        0.0, ge=0, le=1, description="Rise of beta at an environment step. [1/step]"
    )
    epsilon: Positive = Field(1e-6, description="Number added to every absolute TD error. [reward]")


class ExplorationConfig(Config):
    """Gaussian action noise, falling linearly."""

    start: float = Field(0.1, ge=0, le=10, description="Standard deviation at step 0. [action]")
    end: float = Field(0.1, ge=0, le=10, description="Standard deviation at the end. [action]")
    steps: int = Field(
        1, ge=1, le=1_000_000_000, description="Environment steps from start to end. [steps]"
    )


class ConstantSchedule(Config):
    """The learning rate stays."""

    kind: Literal["constant"] = Field("constant", description="Selects this schedule. [-]")


class LinearSchedule(Config):
    """The learning rate changes linearly, then stays."""

    kind: Literal["linear"] = Field("linear", description="Selects this schedule. [-]")
    updates: int = Field(
        ge=1, le=1_000_000_000, description="Updates from the first rate to the last. [updates]"
    )
    end: float = Field(0.0, ge=0, le=1e6, description="Last rate, as a part of the first. [-]")


class CosineSchedule(Config):
    """The learning rate follows half a cosine, then stays (Loshchilov and Hutter 2017)."""

    kind: Literal["cosine"] = Field("cosine", description="Selects this schedule. [-]")
    updates: int = Field(
        ge=1, le=1_000_000_000, description="Updates from the first rate to the last. [updates]"
    )
    end: float = Field(0.0, ge=0, le=1e6, description="Last rate, as a part of the first. [-]")


class StepSchedule(Config):
    """The learning rate is multiplied by a factor again and again."""

    kind: Literal["step"] = Field("step", description="Selects this schedule. [-]")
    updates: int = Field(
        ge=1, le=1_000_000_000, description="Updates between two multiplications. [updates]"
    )
    factor: Fraction = Field(0.5, description="Factor of the rate. [-]")


ScheduleConfig = Annotated[
    ConstantSchedule | LinearSchedule | CosineSchedule | StepSchedule,
    Field(discriminator="kind"),
]


class OptimizerConfig(Config):
    """How gradients become steps."""

    kind: Literal["adam", "adamw"] = Field(
        "adam", description="Optimizer; AdamW decays weights apart from the gradient. [-]"
    )
    weight_decay: float = Field(0.0, ge=0, le=1e6, description="Weight of the L2 penalty. [-]")
    max_grad_norm: Positive | None = Field(
        None, description="Largest L2 norm of a network's gradient; null: any. [-]"
    )
    schedule: ScheduleConfig = Field(
        ConstantSchedule(), description="Learning rates over the updates. [-]"
    )


class ConvConfig(Config):
    """Convolutions along the LiDAR scan, then all else that is observed.

    Kernels and strides are those of Long et al. 2018 (arXiv 1709.10082), section III, for 512
    beams; they have 32 channels.
    """

    kind: Literal["conv"] = Field("conv", description="Selects this encoder. [-]")
    channels: Widths = Field((16, 16), description="Filters of each layer. [filters]")
    kernels: Widths = Field((5, 3), description="Widths of each layer's filters. [beams]")
    strides: Widths = Field((2, 2), description="Steps of each layer's filters. [beams]")

    @model_validator(mode="after")
    def _layers(self) -> ConvConfig:
        if not len(self.channels) == len(self.kernels) == len(self.strides):
            raise ValueError("channels, kernels and strides must be as many as there are layers")
        return self


ENCODERS: Final = with_plugins("encoders", "kind", (ConvConfig,))
if TYPE_CHECKING:
    EncoderConfig = Config
else:
    EncoderConfig = union(ENCODERS, "kind")


class OffPolicyConfig(AlgorithmConfig):
    """What the learners with a replay buffer share."""

    encoder: EncoderConfig | None = Field(
        None, description="Network before each network's hidden layers; null: none. [-]"
    )
    hidden: Widths = Field((256, 256), description="Widths of the hidden layers. [units]")
    discount: Fraction = Field(0.99, description="Discount factor; CleanRL's gamma. [-]")
    n_step: int = Field(
        1, ge=1, le=100, description="Rewards summed before the value estimate. [steps]"
    )
    batch_size: int = Field(
        256, ge=1, le=1_000_000, description="Transitions of an update. [transitions]"
    )
    warmup_steps: int = Field(
        25_000,
        ge=0,
        le=1_000_000_000,
        description="Random steps before updates; CleanRL's learning_starts. [steps]",
    )
    update_every: int = Field(
        1, ge=1, le=1_000_000_000, description="Environment steps between updates. [steps]"
    )
    normalise_rewards: bool = Field(
        False, description="Divide rewards by the running deviation of the return. [bool]"
    )
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="Optimizer of networks. [-]")
    replay: ReplayConfig = Field(ReplayConfig(), description="Replay buffer. [-]")
    mirror: bool = Field(
        False,
        description="Exchange left and right in every other transition drawn, at random. [bool]",
    )

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """Widths of all hidden layers."""
        return self.hidden


class TD3Config(OffPolicyConfig):
    """Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018)."""

    acting = frozenset({"actor"})
    algorithm: Literal["td3"] = Field("td3", description="Selects this learner. [-]")
    actor_learning_rate: Positive = Field(3e-4, description="Learning rate of the actor. [-]")
    critic_learning_rate: Positive = Field(3e-4, description="Learning rate of the critics. [-]")
    layer_norm: bool = Field(
        False, description="Normalise the critics' hidden layers before ReLU. [bool]"
    )
    tau: Fraction = Field(0.005, description="Step of the target networks; CleanRL's tau. [-]")
    policy_noise: float = Field(
        0.2, ge=0, le=10, description="Standard deviation of target policy smoothing. [action]"
    )
    noise_clip: float = Field(
        0.5, ge=0, le=10, description="Bound of the target policy's noise. [action]"
    )
    policy_delay: int = Field(
        2,
        ge=1,
        le=1_000_000_000,
        description="Critic updates per actor update; CleanRL's policy_frequency. [updates]",
    )
    exploration: ExplorationConfig = Field(ExplorationConfig(), description="Noise on actions. [-]")


class TemperatureConfig(Config):
    """Weight of the entropy against the reward (Haarnoja et al. 2018b, section 5)."""

    initial: Positive = Field(1.0, description="First, or fixed, temperature alpha. [reward/nat]")
    automatic: bool = Field(True, description="Learn the temperature, or keep it. [bool]")
    learning_rate: Positive = Field(3e-4, description="Learning rate of its logarithm. [-]")
    target_entropy: float | None = Field(
        None,
        ge=-1e6,
        le=1e6,
        description="Entropy aimed at; null: minus the number of actions. [nat]",
    )


class SACConfig(OffPolicyConfig):
    """Soft actor-critic with automatic temperature (Haarnoja et al. 2018b)."""

    acting = frozenset({"actor"})
    algorithm: Literal["sac"] = Field("sac", description="Selects this learner. [-]")
    actor_learning_rate: Positive = Field(3e-4, description="Learning rate of the actor. [-]")
    critic_learning_rate: Positive = Field(3e-4, description="Learning rate of the critics. [-]")
    layer_norm: bool = Field(
        False, description="Normalise the critics' hidden layers before ReLU. [bool]"
    )
    tau: Fraction = Field(0.005, description="Step of the target critics; CleanRL's tau. [-]")
    temperature: TemperatureConfig = Field(TemperatureConfig(), description="Entropy bonus. [-]")


class ActionGridConfig(Config):
    """Actions to choose from: every steering with every speed."""

    steering: Levels = Field((-1.0, -0.5, 0.0, 0.5, 1.0), description="Steering, rising. [action]")
    speed: Levels = Field((0.0, 0.5, 1.0), description="Speeds, rising. [action]")

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
    steps: int = Field(
        100_000, ge=1, le=1_000_000_000, description="Environment steps from start to end. [steps]"
    )


class NoisyNets(Config):
    """Learned noise on the weights (Fortunato et al. 2018)."""

    kind: Literal["noisy"] = Field("noisy", description="Selects this exploration. [-]")
    sigma: Positive = Field(0.5, description="First deviation, times sqrt(layer's inputs). [-]")


class SoftTarget(Config):
    """The target network follows at every update."""

    kind: Literal["soft"] = Field("soft", description="Selects this rule. [-]")
    tau: Fraction = Field(0.005, description="Step towards the network; CleanRL's tau. [-]")


class HardTarget(Config):
    """The target network is a copy, renewed at intervals."""

    kind: Literal["hard"] = Field("hard", description="Selects this rule. [-]")
    updates: int = Field(
        1000, ge=1, le=1_000_000_000, description="Updates between copies. [updates]"
    )


class DQNConfig(OffPolicyConfig):
    """Deep Q-network (Mnih et al. 2015) with the extensions that Rainbow combines."""

    acting = frozenset({"q"})
    algorithm: Literal["dqn"] = Field("dqn", description="Selects this learner. [-]")
    actions: ActionGridConfig = Field(ActionGridConfig(), description="Actions to choose from. [-]")
    learning_rate: Positive = Field(1e-4, description="Learning rate of the network. [-]")
    double: bool = Field(True, description="Let the network pick and its target judge. [bool]")
    duelling: bool = Field(True, description="Value and advantages in two streams. [bool]")
    huber: Positive = Field(1.0, description="TD error beyond which the loss is linear. [reward]")
    exploration: Annotated[EpsilonGreedy | NoisyNets, Field(discriminator="kind")] = Field(
        EpsilonGreedy(), description="Where actions other than the best come from. [-]"
    )
    target: Annotated[SoftTarget | HardTarget, Field(discriminator="kind")] = Field(
        HardTarget(), description="How the target network follows. [-]"
    )

    @model_validator(mode="after")
    def _symmetric(self) -> DQNConfig:
        steering = self.actions.steering
        if self.mirror and steering != tuple(-level for level in reversed(steering)):
            raise ValueError(
                f"mirror: actions.steering {list(steering)} lacks the opposite of a level"
            )
        return self


class LstmConfig(Config):
    """A memory before the hidden layers of actor and critic, one each."""

    units: int = Field(128, ge=1, le=16_384, description="Width of the memory. [units]")
    sequence: int = Field(
        16,
        ge=1,
        le=1_000_000,
        description="Steps that gradients flow back; it divides rollout_steps. [steps]",
    )


class PPOConfig(AlgorithmConfig):
    """Proximal policy optimisation (Schulman et al. 2017), Stable-Baselines3's defaults."""

    acting = frozenset({"actor"})
    algorithm: Literal["ppo"] = Field("ppo", description="Selects this learner. [-]")
    actor_hidden: Widths = Field((64, 64), description="Widths of the actor's layers. [units]")
    critic_hidden: Widths = Field((64, 64), description="Widths of the critic's layers. [units]")
    activation: Literal["tanh", "relu"] = Field("tanh", description="Layers' nonlinearity. [-]")
    lstm: LstmConfig | None = Field(None, description="Memory; null: none. [-]")
    orthogonal_init: bool = Field(
        True, description="Orthogonal initial weights, or uniform in 1/sqrt(inputs). [bool]"
    )
    initial_log_std: float = Field(
        0.0, ge=-20, le=2, description="First logarithm of the actions' deviation. [-]"
    )
    learning_rate: Positive = Field(3e-4, description="Learning rate of both networks. [-]")
    adam_epsilon: Positive = Field(1e-5, description="Epsilon of Adam. [-]")
    schedule: ScheduleConfig = Field(
        ConstantSchedule(), description="Learning rate over the updates, one a rollout. [-]"
    )
    rollout_steps: int = Field(
        2048, ge=1, le=1_000_000, description="Steps of each environment between updates. [steps]"
    )
    epochs: int = Field(10, ge=1, le=10_000, description="Passes over a rollout. [passes]")
    minibatches: int = Field(
        32, ge=1, le=1_000_000, description="Gradient steps of a pass. [steps]"
    )
    discount: Fraction = Field(0.99, description="Discount factor; CleanRL's gamma. [-]")
    gae_lambda: Fraction = Field(0.95, description="Lambda: 0 is least variance, 1 least bias. [-]")
    normalise_advantages: bool = Field(
        True, description="Scale advantages to mean 0, variance 1 in each minibatch. [bool]"
    )
    normalise_rewards: bool = Field(
        False, description="Divide rewards by the running deviation of the return. [bool]"
    )
    clip_range: Positive = Field(0.2, description="Bound of the ratio's distance from 1. [-]")
    value_clip: Positive | None = Field(
        None, description="Bound of a value's change in an update; null: none. [reward]"
    )
    entropy_coefficient: float = Field(0.0, ge=0, le=1e6, description="Weight of the entropy. [-]")
    value_coefficient: Positive = Field(0.5, description="Weight of the value loss. [-]")
    max_grad_norm: Positive = Field(0.5, description="Largest L2 norm of the gradient. [-]")
    target_kl: Positive | None = Field(
        None, description="An update stops at 1.5 times this divergence; null: never. [nat]"
    )

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """Widths of all hidden layers."""
        return self.actor_hidden + self.critic_hidden

    @model_validator(mode="after")
    def _sequences(self) -> PPOConfig:
        if self.lstm and self.rollout_steps % self.lstm.sequence:
            raise ValueError(
                f"rollout_steps {self.rollout_steps} is not a multiple of lstm.sequence "
                f"{self.lstm.sequence}"
            )
        return self


LEARNERS: Final = with_plugins(
    "learners", "algorithm", (TD3Config, SACConfig, DQNConfig, PPOConfig)
)
if TYPE_CHECKING:
    LearnerConfig = AlgorithmConfig
else:
    LearnerConfig = union(LEARNERS, "algorithm")
