"""The base of every settings model; `sim.config` has the simulator's.

It is a module of its own so that plugins can import it while `sim.config` imports them.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Base of every settings model: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
