"""Environments over `sim.race.Race`: one race behind three interfaces.

| class | interface | for |
|---|---|---|
| `F110ParallelEnv` | `pettingzoo.ParallelEnv` | several learning cars |
| `F110Env` | `gymnasium.Env`, ``F110-v0`` | one learning car, the others scripted |
| `F110VectorEnv` | `gymnasium.vector.VectorEnv`, ``F110-v0`` | a batch of races at full speed |

Importing this package registers ``F110-v0`` with Gymnasium, whose ``config`` is an `EnvConfig` or
a dict of its settings; `sim.envs.stable_baselines` has an interface more. The cars without a
driver are the agents. Their actions, observations and rewards are the same in all three:

**Actions**: ``Box(-1, 1, (2,), float32)``; values outside are clipped, NaN is an error.

| index | meaning | -1 | 1 | unit |
|---|---|---|---|---|
| 0 | steering angle, left positive | -steer_max | steer_max | rad |
| 1 | speed | speed_min, or 0 if ``reverse`` is off | speed_max | m/s |

With ``control: rates`` they are the steering rate, -steer_rate_max to steer_rate_max rad/s, and
the acceleration, -acceleration_max to acceleration_max m/s^2.

**Observations**: ``Box(low, high, (D,), float32)``, the parts that ``observation`` lists, in
that order; each starts where the one before ends. B beams, C cars.

| part | index | meaning | bounds | 1 stands for |
|---|---|---|---|---|
| lidar | 0 ... B-1 | distance along each beam, right to left | [0, 1] | max_range m |
| pose | 0 | x from the centre of its track's free bounding box | [-1, 1] | half its length, m |
| pose | 1 | y from the centre of its track's free bounding box | [-1, 1] | half its width, m |
| pose | 2 | sine of yaw | [-1, 1] | - |
| pose | 3 | cosine of yaw | [-1, 1] | - |
| motion | 0 | speed along the body, as odometry reads it | [-1, 1] | speed_max m/s |
| motion | 1 | steering angle | [-1, 1] | steer_max rad |
| motion | 2 | yaw rate, as odometry reads it | [-1, 1] | 2 pi rad/s |
| motion | 3 | slip angle | [-1, 1] | pi/4 rad |
| others | 4k | f / (abs(f) + 2), f m ahead of the agent's car | [-1, 1] | infinity; 2 m: 0.5 |
| others | 4k+1 | l / (abs(l) + 2), l m left of the agent's car | [-1, 1] | infinity |
| others | 4k+2 | sine of the other car's yaw less the agent's | [-1, 1] | - |
| others | 4k+3 | cosine of the other car's yaw less the agent's | [-1, 1] | - |
| others_velocity | 2k | its velocity less the agent's, forwards | [-1, 1] | speed_max m/s |
| others_velocity | 2k+1 | its velocity less the agent's, to the left | [-1, 1] | speed_max m/s |

k = 0 ... C-2 counts the other cars in the order of the configuration, beginning with the one
after the agent's; the first car follows the last. Values of ``pose``, ``motion`` and
``others_velocity`` beyond the bounds are clipped. The first two have the errors of the car's
odometry, if it has any; what is seen of others has none.
What `F110Env` and `F110VectorEnv` make without a configuration has two cars,
54 beams to 10 m, and shows lidar, motion and others: D = 54 + 4 + 4 = 62. A configuration that does
not say otherwise has the defaults of `sim.config.EnvConfig`, among them 1,080 beams to 30 m.

**Rewards** are those of each car's task (`sim.tasks`); without a task, 0.

**Episode end**: an agent is terminated when it crashes, finishes (see `sim.physics.laps`),
accomplishes its task or can no longer do so, and truncated when its task gives up on it, at
``max_steps`` or, with ``end_when="any"``, when any other car is done.

**Infos** of every reset and step hold ``car``, the index of the agent's car, and ``cars``, arrays
of all C cars in the order of the configuration; those of `F110VectorEnv` have a row for each row
of the batch before that.

| key of ``cars`` | shape | meaning |
|---|---|---|
| ``pose`` | (C, 3) | x m, y m of the centre of gravity, yaw rad in [0, 2 pi) |
| ``speed`` | (C,) | along the body, m/s |
| ``arc_length`` | (C,) | along the centre line, m; left out if a track has none |
| ``lateral_offset`` | (C,) | left of the centre line, m; left out if a track has none |
| ``laps`` | (C,) | laps completed in the episode, int32 |
| ``wall_contact`` | (C,) | whether the car has touched a wall, bool |
| ``car_contact`` | (C,) | index of the car that it has touched, -1 for none, int32 |
| ``target_distance`` | (C,) | to the target of its task, or else of its driver, centre to centre, \
m; infinite if it has none, left out if no car has one |

An agent's last info, which is ``infos["final_info"]`` of `F110VectorEnv`, also holds

| key | meaning |
|---|---|
| ``outcome`` | `sim.episodes.Outcome` in lower case: "success", "crash", "finished", "idle", ... |
| ``steps`` | actions taken in the episode |
| ``return`` | sum of the episode's rewards |
| ``laps`` | number of laps completed, at most what the configuration asks for |
| ``lap_times`` | list of how long each of them took, s |
| ``track`` | index of the track that the episode was on, 0 if there is only one |

**Seeds**: ``reset(seed=s)`` starts an environment's sequence of episodes anew, ``reset()`` goes
on with it; all three interfaces give the same episodes for the same seed. Of a reset's options,
``{"spawn_set": i, "track": j}`` asks for these instead of drawn ones, and ``{"poses": p}`` starts
the cars, at rest, from poses (C, 3) of x m, y m and yaw rad: (E, C, 3) for E races at once.
"""

from __future__ import annotations

import gymnasium

from sim.envs.parallel import F110ParallelEnv
from sim.envs.single import F110Env
from sim.envs.vector import F110VectorEnv

__all__ = ["F110Env", "F110ParallelEnv", "F110VectorEnv"]

# Names only: nothing is built until `gymnasium.make` asks for it. Who can read scenarios' files
# may have registered it already.
if "F110-v0" not in gymnasium.registry:
    gymnasium.register(
        id="F110-v0", entry_point="sim.envs:F110Env", vector_entry_point="sim.envs:F110VectorEnv"
    )
