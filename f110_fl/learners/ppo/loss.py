"""PPO's loss and its gradient with respect to the networks' outputs."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from f110_fl.config.learners import PPOConfig
from f110_fl.learners.base import Array

Float = NDArray[np.float64]
Int = NDArray[np.int64]

LOG_SQRT_2_PI: Final = 0.5 * math.log(2.0 * math.pi)


class Samples(NamedTuple):
    """What the loss needs of a rollout's S steps."""

    action: Array  # (S, A), as drawn, before it was clipped
    log_prob: Array  # (S,), of the action under the policy that drew it
    value: Array  # (S,), of the critic at the start of the update
    advantage: Array  # (S,)


class Losses(NamedTuple):
    """Means over a minibatch."""

    policy_loss: float  # clipped surrogate (Schulman et al. 2017, equation 7), negated
    value_loss: float  # squared error
    kl: float  # E[r - 1 - log r], an estimate of KL(old, new) that is never negative
    clip_fraction: float  # share of ratios outside the clip range


class Surrogate:
    """Loss of minibatches of one size, B.

    Policy, value and entropy terms are equation 9 of Schulman et al. 2017, with the value loss
    clipped as in the authors' code where ``value_clip`` says so. Compiled: as tensor operations
    the 30 steps for 64 samples would take longer than a network's backward pass.

    Args:
        config: Clip ranges and coefficients.
        rows: B.
        action_size: A.

    Attributes:
        d_mean: (B, A), gradient of the loss with respect to the action means; `evaluate` renews
            all three.
        d_value: (B, 1), with respect to the values.
        d_log_std: (A,), with respect to the logarithms of the standard deviations.
    """

    def __init__(self, config: PPOConfig, rows: int, action_size: int) -> None:
        self.rows = rows
        self._normalise = config.normalise_advantages and rows > 1
        self._coefficients = np.array(
            [
                config.clip_range,
                math.inf if config.value_clip is None else config.value_clip,
                config.value_coefficient,
                config.entropy_coefficient,
            ]
        )
        self.d_mean = np.zeros((rows, action_size), np.float32)
        self.d_value = np.zeros((rows, 1), np.float32)
        self.d_log_std = np.zeros(action_size, np.float32)
        self._losses = np.zeros(len(Losses._fields))

    def evaluate(
        self, samples: Samples, chosen: Int, mean: Array, log_std: Array, value: Array
    ) -> Losses:
        """Compute the loss and its gradient.

        Args:
            samples: The rollout.
            chosen: (B,), indices of the minibatch in it.
            mean: (B, A), of the present policy.
            log_std: (A,), of the present policy.
            value: (B, 1), of the present critic.
        """
        _gradients(
            *samples,
            chosen,
            mean,
            log_std,
            value,
            self._coefficients,
            self._normalise,
            self.d_mean,
            self.d_log_std,
            self.d_value,
            self._losses,
        )
        return Losses(*self._losses.tolist())


def entropy(log_std: Array) -> float:
    """Return the differential entropy, in nat, of a policy with log standard deviations (A,)."""
    return float(log_std.sum() + len(log_std) * (0.5 + LOG_SQRT_2_PI))


@njit(cache=True, nogil=True, error_model="numpy")
def _gradients(
    action: Array,
    old_log_prob: Array,
    old_value: Array,
    advantage: Array,
    chosen: Int,
    mean: Array,
    log_std: Array,
    value: Array,
    coefficients: Float,
    normalise: bool,
    d_mean: Array,
    d_log_std: Array,
    d_value: Array,
    losses: Float,
) -> None:
    clip_range, value_clip, value_coefficient, entropy_coefficient = coefficients
    rows, actions = mean.shape
    offset, scale = _standardisation(advantage, chosen) if normalise else (0.0, 1.0)
    constant = 0.0
    for j in range(actions):
        constant -= log_std[j] + LOG_SQRT_2_PI
        d_log_std[j] = -entropy_coefficient
    losses[:] = 0.0
    for i in range(rows):
        k = chosen[i]
        log_prob = constant
        for j in range(actions):
            z = (action[k, j] - mean[i, j]) * math.exp(-log_std[j])
            log_prob -= 0.5 * z * z
        log_ratio = log_prob - old_log_prob[k]
        ratio = math.exp(log_ratio)
        a = (advantage[k] - offset) * scale
        clipped = min(max(ratio, 1.0 - clip_range), 1.0 + clip_range)
        losses[0] -= min(ratio * a, clipped * a) / rows
        losses[2] += (ratio - 1.0 - log_ratio) / rows
        losses[3] += (1.0 if ratio != clipped else 0.0) / rows
        # Where the clipped term is the smaller one, it is constant.
        slope = -ratio * a / rows if ratio * a <= clipped * a else 0.0
        for j in range(actions):
            z = (action[k, j] - mean[i, j]) * math.exp(-log_std[j])
            d_mean[i, j] = slope * z * math.exp(-log_std[j])
            d_log_std[j] += slope * (z * z - 1.0)

        error = value[i, 0] - old_value[k] - advantage[k]
        change = value[i, 0] - old_value[k]
        if abs(change) > value_clip:
            held = math.copysign(value_clip, change) - advantage[k]
            if held * held > error * error:  # constant, too
                losses[1] += held * held / rows
                d_value[i, 0] = 0.0
                continue
        losses[1] += error * error / rows
        d_value[i, 0] = 2.0 * value_coefficient * error / rows


@njit(cache=True, nogil=True, error_model="numpy")
def _standardisation(advantage: Array, chosen: Int) -> tuple[float, float]:
    """Return the mean of the chosen and the reciprocal of their standard deviation."""
    mean = 0.0
    for k in chosen:
        mean += advantage[k]
    mean /= len(chosen)
    squares = 0.0
    for k in chosen:
        squares += (advantage[k] - mean) ** 2
    return mean, 1.0 / (math.sqrt(squares / (len(chosen) - 1)) + 1e-8)
