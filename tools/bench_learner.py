#!/usr/bin/env python3
"""Time a learner's updates, and print updates a second.

Observations and rewards are made up; collecting them is not timed. Figures are medians of
``--repeats`` measurements of ``--seconds`` each, after one to warm up. An update of PPO is a
whole one: advantages, and every epoch over a rollout of 2048 steps in minibatches of 64.

``--peer`` also times Stable-Baselines3, which must be importable, with the same algorithm,
networks, batch and number of threads, in turns with ours, and adds its rate and the median
of the ratios.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from f110_fl.learner_config import DQNConfig, LearnerConfig, SACConfig, TD3Config
from f110_fl.learners import Learner, make_learner
from f110_fl.learners.base import Transitions

ROWS: Final = 10_000  # transitions in the replay buffer
ACTIONS: Final = 2

Update = Callable[[], float]  # does one update, returns the seconds it took


class InputError(ValueError):
    """What was asked for cannot be timed; one line says why."""


def build_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog="bench_learner.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--algo", choices=tuple(OFF_POLICY), default="td3")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default: 1)")
    parser.add_argument("--observation", type=int, default=62, help="its size (default: 62)")
    parser.add_argument("--hidden", default="256,256,128", help="widths (default: 256,256,128)")
    parser.add_argument("--batch", type=int, default=256, help="transitions (default: 256)")
    parser.add_argument("--seconds", type=float, default=2.0, help="a measurement (default: 2)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements (default: 5)")
    parser.add_argument("--peer", action="store_true", help="time Stable-Baselines3 too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def random_step(learner: Learner, rng: np.random.Generator, envs: int, size: int) -> None:
    """Let the learner act in and observe ``envs`` environments that answer at random."""
    numbers = np.arange(envs)
    observation, following = rng.standard_normal((2, envs, size), dtype=np.float32)
    action = learner.act(observation, numbers)
    reward, ends = rng.standard_normal(envs), rng.random(envs) < 0.01
    learner.observe(
        Transitions(numbers, observation, action, reward, following, ends, np.zeros_like(ends))
    )


def off_policy(algorithm: str, size: int, hidden: Sequence[int], batch: int) -> Update:
    """Return an update of a learner with a full replay buffer.

    Raises:
        InputError: If there is no such learner.
    """
    shared: dict[str, Any] = {
        "hidden": hidden,
        "batch_size": batch,
        "warmup_steps": ROWS,
        "replay": {"capacity": ROWS},
    }
    if algorithm == "dqn":  # what Stable-Baselines3 has
        shared |= {"double": False, "duelling": False, "optimizer": {"max_grad_norm": 10.0}}
    try:
        config = TypeAdapter(LearnerConfig).validate_python({"algorithm": algorithm, **shared})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{first['loc'][0]}: {first['msg']}") from error
    learner = make_learner(config, size, ACTIONS, np.random.SeedSequence(0), num_envs=ROWS)
    rng = np.random.default_rng(0)
    random_step(learner, rng, ROWS, size)

    def update() -> float:
        random_step(learner, rng, 1, size)
        begin = time.perf_counter()
        learner.update()
        return time.perf_counter() - begin

    return update


class _Spaces(gymnasium.Env[Any, Any]):
    """What Stable-Baselines3 needs of an environment that is never stepped."""

    def __init__(self, size: int, *, discrete: bool) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = (
            gymnasium.spaces.Discrete(15)
            if discrete
            else gymnasium.spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)
        )

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return np.zeros(self.observation_space.shape, np.float32), {}


def peer_off_policy(algorithm: str, size: int, hidden: Sequence[int], batch: int) -> Update:
    """Return an update of Stable-Baselines3's learner with a full replay buffer."""
    peer = import_peer()
    model = getattr(peer, algorithm.upper())(
        "MlpPolicy",
        _Spaces(size, discrete=algorithm == "dqn"),
        buffer_size=ROWS,
        batch_size=batch,
        policy_kwargs={"net_arch": list(hidden)},
        device="cpu",
        seed=0,
    )
    model.set_logger(importlib.import_module("stable_baselines3.common.logger").Logger(None, []))
    rng, buffer = np.random.default_rng(0), model.replay_buffer
    for _ in range(ROWS):
        observation, following = rng.standard_normal((2, 1, size), dtype=np.float32)
        action = np.array([[model.action_space.sample()]]).reshape(1, -1)
        reward, ends = rng.standard_normal(1), rng.random(1) < 0.01
        buffer.add(observation, following, action, reward, ends, [{}])

    def update() -> float:
        begin = time.perf_counter()
        model.train(gradient_steps=1, batch_size=batch)
        return time.perf_counter() - begin

    return update


def import_peer() -> Any:
    """Return Stable-Baselines3.

    Raises:
        InputError: If it cannot be imported.
    """
    try:
        return importlib.import_module("stable_baselines3")
    except ImportError as error:
        message = f"--peer: Stable-Baselines3 cannot be imported: {error}"
        raise InputError(message) from error


def rate(update: Update, seconds: float) -> float:
    """Return updates a second, of at least ``seconds`` of updates."""
    count, elapsed = 0, 0.0
    while elapsed < seconds:
        elapsed += update()
        count += 1
    return count / elapsed


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Return the figures, by the names they are printed with.

    Raises:
        InputError: If what was asked for cannot be timed.
    """
    if arguments.seconds <= 0 or arguments.repeats < 1 or arguments.threads < 1:
        raise InputError("--seconds, --repeats and --threads must be positive")
    if arguments.observation < 1:
        raise InputError("--observation must be positive")
    try:
        hidden = [int(width) for width in arguments.hidden.split(",")]
    except ValueError as error:
        raise InputError(f"--hidden: numbers between commas, found {arguments.hidden}") from error
    torch.set_num_threads(arguments.threads)
    what = arguments.algo, arguments.observation, hidden, arguments.batch
    updates = [off_policy(*what)]
    if arguments.peer:
        updates.append(peer_off_policy(*what))
    for update in updates:
        rate(update, arguments.seconds / 2)
    rates: list[list[float]] = [[] for _ in updates]
    for _ in range(arguments.repeats):
        for update, found in zip(updates, rates, strict=True):
            found.append(rate(update, arguments.seconds))
    result = {"updates_per_s": statistics.median(rates[0])}
    if arguments.peer:
        result["peer_updates_per_s"] = statistics.median(rates[1])
        result["ratio"] = statistics.median(a / b for a, b in zip(*rates, strict=True))
    return {name: round(value, 3) for name, value in result.items()}


OFF_POLICY: Final = {"td3": TD3Config, "sac": SACConfig, "dqn": DQNConfig}


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0, or 2 if what was asked for cannot be timed."""
    arguments = build_parser().parse_args(argv)
    try:
        result = measure(arguments)
    except InputError as error:
        print(f"bench_learner.py: {error}", file=sys.stderr)  # noqa: T201
        return 2
    if arguments.json:
        print(json.dumps(result))  # noqa: T201
    else:
        for name, value in result.items():
            print(f"{name:20} {value:12,.3f}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
