"""How episodes are judged: outcomes, and the rewards of tasks.

A task is an objective (`sim.tasks.objectives`), which decides success and pays for how an
episode ends, and any number of shaping terms (`sim.tasks.terms`), which are paid at each step.
"""

from __future__ import annotations

from sim.tasks.outcomes import (
    CRASH,
    FAILED,
    FINISHED,
    IDLE,
    NONE,
    OTHER_DONE,
    SUCCESS,
    TIME_LIMIT,
    Episodes,
    Outcome,
    world_outcome,
)
from sim.tasks.task import Task

__all__ = [
    "CRASH",
    "FAILED",
    "FINISHED",
    "IDLE",
    "NONE",
    "OTHER_DONE",
    "SUCCESS",
    "TIME_LIMIT",
    "Episodes",
    "Outcome",
    "Task",
    "world_outcome",
]
