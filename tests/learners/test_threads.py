"""One learner on several cores learns the same, to the byte."""

from __future__ import annotations

import os
import subprocess
import sys

from small import REPOSITORY

# Sizes that no number of threads divides: products of such are summed in another order, otherwise.
LEARN = """
import hashlib, sys
import numpy as np
import torch
from pydantic import TypeAdapter
from f110_fl.config.learners import LearnerConfig
from f110_fl.learners.base import LearnerSetup, Transitions
from f110_fl.learners.device import use_threads
from f110_fl.learners.factory import make_learner

algorithms, threads = sys.argv[1].split(), int(sys.argv[2])
use_threads(threads)
for algorithm in algorithms:
    settings = {"algorithm": algorithm, "hidden": [130, 70], "batch_size": 300}
    settings["warmup_steps"] = 1000
    config = TypeAdapter(LearnerConfig).validate_python(settings | {"replay": {"capacity": 2000}})
    setup = LearnerSetup(61, 2, np.random.SeedSequence(1), 1000, observation=(("lidar", 61),))
    learner = make_learner(config, setup)
    rng, numbers = np.random.default_rng(0), np.arange(1000)
    for rows in (1000, *[1] * 40):
        numbers = np.arange(rows)
        seen, following = rng.standard_normal((2, rows, 61), dtype=np.float32)
        ends = rng.random(rows) < 0.01
        reward = rng.standard_normal(rows)
        action = learner.act(seen, numbers)
        learner.observe(
            Transitions(numbers, seen, action, reward, following, ends, np.zeros_like(ends))
        )
        learner.update()
    digest = hashlib.sha256()
    for name, tensor in sorted(learner.tensors().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    print(algorithm, learner.updates, digest.hexdigest())
"""


ALGORITHMS = ("td3", "sac", "dqn")


def test_the_number_of_threads_changes_nothing() -> None:
    plain = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    plain |= {"PYTHONPATH": str(REPOSITORY), "OMP_WAIT_POLICY": "passive"}

    def learn(threads: int, **variables: str) -> list[list[str]]:
        """Return each algorithm's name, how often it learned, and the digest of its tensors."""
        command = [sys.executable, "-c", LEARN, " ".join(ALGORITHMS), str(threads)]
        environment = plain | variables
        done = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=120
        )
        return [line.split() for line in done.stdout.splitlines()]

    two = learn(2)
    assert [line[0] for line in two] == list(ALGORITHMS)
    assert all(int(line[1]) >= 40 for line in two)
    assert learn(3) == learn(4) == two
    assert learn(1, MKL_CBWR="AUTO,STRICT") == two
