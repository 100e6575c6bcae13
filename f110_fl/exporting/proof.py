"""Whether an exported policy acts as the learner that it was taken out of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from f110_fl.exporting.bundle import Exported
from f110_fl.exporting.drives import Runtime, drive
from f110_fl.exporting.reference import Reference
from f110_fl.learners.base import Policy
from f110_fl.robot.contract import GRAPH, Contract
from f110_fl.robot.network import Memory, Network
from f110_fl.robot.policy import load_network
from f110_fl.training.evaluation import Evaluator, ModelEvaluator
from f110_fl.training.records import EpisodeResult

Array = NDArray[np.float32]

DOUBLE: Final = 1e-6  # of an action's numbers, in [-1, 1], from those of double precision
SINGLE: Final = 1e-5  # the same in single precision, whose sums round differently in any order
COMPARED: Final = 1000  # observations of each kind
ONNX: Final = "onnxruntime"


class OnnxNetwork:
    """A `Runtime`: onnxruntime.

    Args:
        path: The graph.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime  # makes a folder in the user's home when it is imported

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        units = [each.shape[1] for each in self._session.get_inputs() if each.name == "h"]
        self._units = units[0] if units else 0

    def memory(self) -> Memory:
        """What it remembers before the first observation; see `Network.memory`."""
        return Memory(np.zeros(self._units), np.zeros(self._units))

    def act(self, observation: Array, memory: Memory) -> tuple[Array, Memory]:
        """Choose an action; see `Network.act`."""
        given = {"observation": observation[None]}
        if not self._units:
            (action,) = self._session.run(["action"], given)
            return action[0], memory
        given |= {name: x[None].astype(np.float32) for name, x in memory._asdict().items()}
        action, h, c = self._session.run(["action", "next_h", "next_c"], given)
        return action[0], Memory(h[0], c[0])


def runtimes(directory: Path, contract: Contract) -> dict[str, Runtime]:
    """Return what runs an exported policy, by name.

    Args:
        directory: Of the policy.
        contract: Its contract.
    """
    numpy: Network = load_network(directory, contract.policy)
    return {"NumPy": numpy, ONNX: OnnxNetwork(directory / GRAPH)}


@dataclass(frozen=True)
class Proof:
    """What a comparison with the policy in PyTorch, double precision, found.

    Attributes:
        runtime: Name of what was compared.
        random: Largest difference of an action's numbers on ``COMPARED`` random observations.
        real: The same on those of real episodes.
        real_count: How many these are.
        allowed: Of both.
        episodes: Whole episodes that it drove; 0 for PyTorch in single precision, as in training.
        equal: Those that took as many steps and ended alike, for every car.
        exact: Whether all must; single precision rounds differently, and drives apart in the end.
    """

    runtime: str
    random: float
    real: float
    real_count: int
    allowed: float
    episodes: int = 0
    equal: int = 0
    exact: bool = True

    @property
    def holds(self) -> bool:
        """Whether it acts as PyTorch does."""
        alike = self.equal == self.episodes or not self.exact
        return max(self.random, self.real) <= self.allowed and alike


def prove(
    directory: Path,
    exported: Exported,
    evaluator: ModelEvaluator,
    episodes: Evaluator,
    *,
    single: bool = False,
) -> Iterator[Proof]:
    """Compare what runs an exported policy, and the learner, with the policy in PyTorch.

    Args:
        directory: Of the exported policy.
        exported: What was exported.
        evaluator: Has the learners, with their models loaded.
        episodes: Whole episodes to drive.
        single: Whether the graph computes in single precision; it then may drive differently.

    Yields:
        What each did: first PyTorch in single precision, then the runtimes.
    """
    contract = exported.contract
    agent, in_order = contract.agent, exported.form.memory is not None
    reference = Reference(exported.form, exported.tensors)
    driven = drive(evaluator, episodes, agent, reference)
    rng = np.random.default_rng(0)
    real, _ = driven.seen.some(COMPARED, rng, in_order=in_order)
    low, high = evaluator.race.observation_low, evaluator.race.observation_high
    random = rng.uniform(low, high, (COMPARED, len(low))).astype(np.float32)
    wanted = [actions(reference, rows) for rows in (random, real)]

    def compare(runtime: Runtime) -> tuple[float, float, int]:
        found = [actions(runtime, rows) for rows in (random, real)]
        largest = [float(np.abs(a - b).max()) for a, b in zip(found, wanted, strict=True)]
        return largest[0], largest[1], len(real)

    trained = Alone(evaluator.learners[agent].policy(1))
    yield Proof("PyTorch", *compare(trained), allowed=SINGLE)
    for name, runtime in runtimes(directory, contract).items():
        found = drive(evaluator, episodes, agent, runtime).results
        rounded = single and name == ONNX
        yield Proof(
            name,
            *compare(runtime),
            allowed=SINGLE if rounded else DOUBLE,
            episodes=len(found),
            equal=sum(map(alike, found, driven.results)),
            exact=not rounded,
        )


class Alone:
    """A policy of one environment as a `Runtime`, which remembers by itself.

    Args:
        policy: Chooses the actions.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._env = np.zeros(1, np.int64)

    def memory(self) -> Memory:
        """Forget; what it remembers is its own."""
        self._policy.reset(self._env)
        return Memory(np.zeros(0), np.zeros(0))

    def act(self, observation: Array, memory: Memory) -> tuple[Array, Memory]:
        """Choose an action; see `Runtime.act`."""
        return self._policy.act(observation[None], self._env)[0], memory


def actions(runtime: Runtime, observations: Array) -> Array:
    """Return the actions (K, 2) on observations (K, D), one after the other."""
    memory, found = runtime.memory(), []
    for observation in observations:
        action, memory = runtime.act(observation, memory)
        found.append(action)
    return np.array(found)


def alike(one: EpisodeResult, other: EpisodeResult) -> bool:
    """Whether two episodes took the same steps, and ended alike for all cars."""
    return (one.steps, one.outcomes) == (other.steps, other.outcomes)
