"""Settings of the learning algorithms."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sim.config import Config

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Widths = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


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


class PPOConfig(Config):
    """Proximal policy optimisation (Schulman et al. 2017), Stable-Baselines3's defaults."""

    algorithm: Literal["ppo"] = Field("ppo", description="Selects this learner. [-]")
    actor_hidden: Widths = Field((64, 64), description="Widths of the actor's layers. [units]")
    critic_hidden: Widths = Field((64, 64), description="Widths of the critic's layers. [units]")
    activation: Literal["tanh", "relu"] = Field("tanh", description="Of the hidden layers. [-]")
    orthogonal_init: bool = Field(
        True, description="Orthogonal initial weights, or uniform in 1/sqrt(inputs). [bool]"
    )
    initial_log_std: float = Field(
        0.0, ge=-20, le=2, description="First log of the actions' standard deviation. [-]"
    )
    learning_rate: Positive = Field(3e-4, description="Adam step of both networks. [-]")
    anneal_steps: int | None = Field(
        None, ge=1, description="Learning rate falls linearly to 0 in so many; null: not. [steps]"
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


LearnerConfig = Annotated[TD3Config | PPOConfig, Field(discriminator="algorithm")]
