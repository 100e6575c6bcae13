"""A batch of races as Stable-Baselines3 steps it, which need not be installed otherwise.

::

    envs = F110VecEnv(gymnasium.make_vec("F110-v0", num_envs=32))
    PPO("MlpPolicy", envs).learn(200_000)
"""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from sim.envs.common import Observation
from sim.envs.vector import F110VectorEnv

LAST: Final = ("outcome", "steps", "return", "laps", "lap_times", "track")  # of `last_info`


class F110VecEnv(VecEnv):  # type: ignore[misc, unused-ignore]  # it may be missing
    """`F110VectorEnv` with the interface of Stable-Baselines3's ``VecEnv``.

    Both begin the next episode in the step that ends one, and keep the last observation in the
    infos. Those are empty until an episode ends. Then they hold, for the agent of their row,

    | key | meaning |
    |---|---|
    | ``terminal_observation`` | the last observation, (D,) |
    | ``TimeLimit.truncated`` | whether its value is to be estimated |
    | ``episode`` | its return ``r``, steps ``l`` and end ``t``, s: what ``VecMonitor`` would add |
    | ``is_success`` | whether the outcome is "success" |
    | ``outcome``, ``laps``, ``lap_times``, ``track`` | as in `sim.envs` |

    Everything else about the races is in ``env.race``.

    Args:
        env: The batch, which returns copies (``copy=True``).
        grid: (K, 2) actions to choose from by their number, for algorithms such as DQN; None:
            actions are as the batch's.

    Attributes:
        env: The batch.
        grid: As given.

    Raises:
        ValueError: If observations are not copies: learners keep the latest for a step.
    """

    def __init__(self, env: F110VectorEnv, grid: NDArray[np.float32] | None = None) -> None:
        if not env.copies:
            raise ValueError("copy must be true: Stable-Baselines3 keeps the latest observations")
        self.env, self.grid = env, grid
        self._began = time.perf_counter()
        actions = env.single_action_space if grid is None else Discrete(len(grid))
        super().__init__(env.num_envs, env.single_observation_space, actions)

    def reset(self) -> Observation:
        """Start an episode everywhere: observations (N, D).

        ``seed(s)`` before it restarts the races' sequences of episodes from s, s + 1, ...;
        ``set_options(o)`` gives the options of `F110VectorEnv.reset`.
        """
        given = [options for options in self._options if options]
        if given and (len(given) < self.num_envs or any(each is not given[0] for each in given)):
            raise ValueError("options must be the same dict for all environments")
        races = self.env.race.num_envs
        observation, _ = self.env.reset(
            seed=self._seeds[:races], options=given[0] if given else None
        )
        self._reset_seeds()
        self._reset_options()
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions of the next ``step_wait``: (N, 2), or numbers (N,) in the grid."""
        self._actions = actions if self.grid is None else self.grid[actions]

    def step_wait(
        self,
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], list[dict[str, Any]]]:
        """Return observations (N, D), rewards (N,), whether episodes ended (N,), and N infos."""
        observation, reward, terminated, truncated, found = self.env.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        done = terminated | truncated
        for row in np.flatnonzero(done).tolist():
            last = {key: found["final_info"][key][row] for key in LAST}
            elapsed = round(time.perf_counter() - self._began, 6)
            steps, paid = int(last.pop("steps")), float(last.pop("return"))
            infos[row] = last | {
                "terminal_observation": found["final_obs"][row],
                "TimeLimit.truncated": bool(truncated[row] and not terminated[row]),
                "episode": {"r": paid, "l": steps, "t": elapsed},
                "is_success": last["outcome"] == "success",
            }
        return observation, reward, done, infos

    def close(self) -> None:
        """Close the environments."""
        self.env.close()

    def render(self, mode: str | None = None) -> NDArray[np.uint8] | None:
        """Return the races' frames, tiled; None where they are shown in a window."""
        if self.render_mode == "human":
            self.env.render()
            return None
        tiled: NDArray[np.uint8] | None = super().render(mode)
        return tiled

    def get_images(self) -> list[NDArray[np.uint8] | None]:
        """Return a frame of each row, for ``render`` and ``VecVideoRecorder``."""
        return list(self.env.render() or [None] * self.num_envs)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the environments, once for each of them."""
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuse: environments of a batch have no attributes of their own."""
        raise NotImplementedError("environments of a batch have no attributes of their own")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """Refuse: environments of a batch have no methods of their own."""
        raise NotImplementedError("environments of a batch have no methods of their own")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Return that no environment is wrapped."""
        return [False] * len(list(self._get_indices(indices)))
