"""What ``bench_learner.py`` times: updates of our learners, and of the peer's in turns."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from f110_fl.config.common import AlgorithmConfig
from f110_fl.config.learners import LearnerConfig
from f110_fl.errors import UserError
from f110_fl.learners.base import Learner, LearnerSetup, ObservationParts, Transitions
from f110_fl.learners.device import choose, use_threads
from f110_fl.learners.factory import make_learner
from sim.config import CarConfig, EnvConfig, LidarConfig, SecondaryViconConfig
from sim.envs import F110VectorEnv

ROWS: Final = 10_000  # transitions in a replay buffer
ENVS: Final = 8  # of PPO
STEPS: Final = 256  # of each of them in a rollout
ACTIONS: Final = 2

Update = Callable[[], float]  # does one update, returns the seconds it took


class Sizes(NamedTuple):
    """The settings that both programs share."""

    observation: int
    hidden: tuple[int, ...]
    batch: int
    encoder: str | None = None  # kind of ours


def configure(algorithm: str, sizes: Sizes) -> AlgorithmConfig:
    """Return settings of the sizes that Stable-Baselines3 has, too."""
    settings: dict[str, Any] = {"algorithm": algorithm}
    if algorithm == "ppo":
        settings |= {"actor_hidden": sizes.hidden, "critic_hidden": sizes.hidden}
        settings |= {"rollout_steps": STEPS, "minibatches": ENVS * STEPS // sizes.batch}
    else:
        settings |= {"hidden": sizes.hidden, "batch_size": sizes.batch, "warmup_steps": ROWS}
        settings["replay"] = {"capacity": ROWS}
        settings["encoder"] = sizes.encoder and {"kind": sizes.encoder}
    if algorithm == "dqn":
        settings |= {"double": False, "duelling": False, "optimizer": {"max_grad_norm": 10.0}}
    config: AlgorithmConfig = TypeAdapter[Any](LearnerConfig).validate_python(settings)
    return config


def build(algorithm: str, sizes: Sizes, device: torch.device) -> Learner:
    """Return a learner with the sizes and with settings comparable to Stable-Baselines3's."""
    envs = ENVS if algorithm == "ppo" else ROWS
    seed = np.random.SeedSequence(0)
    parts: ObservationParts = (("lidar", sizes.observation),)
    setup = LearnerSetup(sizes.observation, ACTIONS, seed, envs, device=device, observation=parts)
    return make_learner(configure(algorithm, sizes), setup)


def random_step(learner: Learner, rng: np.random.Generator, envs: int, size: int) -> None:
    """Let the learner act in and observe ``envs`` environments with random responses."""
    numbers = np.arange(envs)
    observation, following = rng.standard_normal((2, envs, size), dtype=np.float32)
    action = learner.act(observation, numbers)
    reward, ends = rng.standard_normal(envs), rng.random(envs) < 0.01
    learner.observe(
        Transitions(numbers, observation, action, reward, following, ends, np.zeros_like(ends))
    )


def own_update(algorithm: str, sizes: Sizes, device: torch.device) -> Update:
    """Return an update of ours: on a full replay buffer, or on a full rollout."""
    learner, rng = build(algorithm, sizes, device), np.random.default_rng(0)
    finish = torch.cuda.synchronize if device.type == "cuda" else torch.cpu.synchronize
    envs, steps = (ENVS, STEPS) if algorithm == "ppo" else (1, 1)
    if algorithm != "ppo":
        random_step(learner, rng, ROWS, sizes.observation)

    def update() -> float:
        for _ in range(steps):
            random_step(learner, rng, envs, sizes.observation)
        begin = time.perf_counter()
        learner.update()
        finish()
        return time.perf_counter() - begin

    return update


def race_config() -> EnvConfig:
    """One learning car and a scripted one, 54 beams: the shipped scenario's."""
    cars = (CarConfig(name="car_0"), CarConfig(name="car_1", driver=SecondaryViconConfig()))
    return EnvConfig(cars=cars, lidar=LidarConfig(beams=54))


def own_loop(sizes: Sizes, device: torch.device) -> Update:
    """Return a rollout of our PPO in the racing environment, and the update on it."""
    env = F110VectorEnv(race_config(), ENVS)
    space = env.single_observation_space.shape
    learner = build("ppo", sizes._replace(observation=space[0] if space else 0), device)
    observation, _ = env.reset(seed=0)
    numbers = np.arange(ENVS)

    def update() -> float:
        nonlocal observation
        begin = time.perf_counter()
        for _ in range(STEPS):
            action = learner.act(observation, numbers)
            following, reward, terminated, truncated, infos = env.step(action)
            last = following
            if "final_obs" in infos:
                last = following.copy()
                for row in np.flatnonzero(infos["_final_obs"]):
                    last[row] = infos["final_obs"][row]
            ended = np.asarray(truncated & ~terminated)
            learner.observe(
                Transitions(numbers, observation, action, reward, last, terminated, ended)
            )
            learner.update()
            observation = following
        return time.perf_counter() - begin

    return update


def rate(update: Update, seconds: float) -> float:
    """Return updates per second, measured over at least ``seconds`` of updates."""
    count, elapsed = 0, 0.0
    while elapsed < seconds:
        elapsed += update()
        count += 1
    return count / elapsed


def parse_sizes(arguments: argparse.Namespace) -> Sizes:
    """Return the sizes of the flags.

    Raises:
        UserError: If they are invalid.
    """
    batch = arguments.batch or (64 if arguments.algo == "ppo" else 256)
    try:
        words = arguments.hidden or ("64,64" if arguments.algo == "ppo" else "256,256,128")
        hidden = tuple(int(width) for width in words.split(","))
    except ValueError as error:
        raise UserError(f"--hidden: numbers between commas, found {arguments.hidden}") from error
    if min(batch, arguments.observation, *hidden) < 1:
        raise UserError("--batch, --observation and --hidden must be positive")
    if arguments.algo == "ppo" and ENVS * STEPS % batch:
        raise UserError(f"--batch: must divide {ENVS * STEPS}, found {batch}")
    if arguments.encoder and arguments.algo == "ppo":
        raise UserError("--encoder: is for --algo td3, sac and dqn, found ppo")
    return Sizes(arguments.observation, hidden, batch, arguments.encoder)


def _device(arguments: argparse.Namespace) -> torch.device:
    try:
        return choose(arguments.device)
    except UserError as error:
        raise UserError(f"--{error}") from None


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Return the figures by name.

    Raises:
        UserError: If the measurement is not possible.
    """
    if arguments.seconds <= 0 or arguments.repeats < 1 or arguments.threads < 1:
        raise UserError("--seconds, --repeats and --threads must be positive")
    if arguments.env and arguments.algo != "ppo":
        raise UserError(f"--env: is for --algo ppo, found {arguments.algo}")
    sizes = parse_sizes(arguments)
    use_threads(arguments.threads)
    try:
        device = _device(arguments)
        own = own_loop(sizes, device) if arguments.env else None
        updates = [own or own_update(arguments.algo, sizes, device)]
        if arguments.peer:
            updates.append(peer_update(arguments.algo, sizes, racing=arguments.env))
    except ValidationError as error:
        raise UserError(error.errors()[0]["msg"]) from error
    for update in updates:
        rate(update, arguments.seconds / 2)
    rates: list[list[float]] = [[] for _ in updates]
    for _ in range(arguments.repeats):
        for update, found in zip(updates, rates, strict=True):
            found.append(rate(update, arguments.seconds))
    name, factor = ("env_steps_per_s", ENVS * STEPS) if arguments.env else ("updates_per_s", 1)
    result = {name: factor * statistics.median(rates[0])}
    if arguments.peer:
        result[f"peer_{name}"] = factor * statistics.median(rates[1])
        result["ratio"] = statistics.median(a / b for a, b in zip(*rates, strict=True))
    return {name: round(value, 3) for name, value in result.items()}


def peer_update(algorithm: str, sizes: Sizes, *, racing: bool) -> Update:
    """Return an update of Stable-Baselines3's learner.

    Raises:
        UserError: If it cannot be imported.
    """
    try:
        import parts.bench_learner_peer as peer
    except ImportError as error:
        message = f"--peer: Stable-Baselines3 cannot be imported: {error}"
        raise UserError(message) from error
    config: Any = configure(algorithm, sizes)
    if racing:
        return peer.loop(config, F110VectorEnv(race_config(), ENVS))
    if algorithm == "ppo":
        return peer.on_policy(config, sizes.observation, ENVS)
    return peer.off_policy(config, sizes.observation)
