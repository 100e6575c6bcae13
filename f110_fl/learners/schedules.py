"""Learning rates as functions of the number of updates, so that they need no state."""

from __future__ import annotations

import math

from f110_fl.learner_config import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    ScheduleConfig,
    StepSchedule,
)


def rate_factor(schedule: ScheduleConfig, update: int) -> float:
    """Return the learning rate of an update over the first one.

    Args:
        schedule: Its kind and lengths; for cosine see Loshchilov and Hutter 2017, equation 5,
            without restarts.
        update: Updates done before, 0 for the first.
    """
    match schedule:
        case ConstantSchedule():
            return 1.0
        case LinearSchedule(updates=updates, end=end):
            return end + (1.0 - end) * max(0.0, 1.0 - update / updates)
        case CosineSchedule(updates=updates, end=end):
            return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, update / updates)))
        case StepSchedule(updates=updates, factor=factor):
            return math.pow(factor, update // updates)
