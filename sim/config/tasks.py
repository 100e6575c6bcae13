"""Settings of tasks: what agents are rewarded for."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sim.config.base import Config


class ConvoyLockConfig(Config):
    """Reward of an attacker that presses a defender into a wall or out of its lane."""

    kind: Literal["convoy_lock"] = Field("convoy_lock", description="Selects this task. [-]")
    target: str = Field("car_1", description="The defender. [name]")
    success_reward: float = Field(60.0, description="Paid once, on success. [reward]")
    crash_reward: float = Field(-10.0, description="Paid when the attacker crashes. [reward]")
    truncation_reward: float = Field(
        -25.0, description="Paid when the time limit ends the episode. [reward]"
    )
    pressure_distance: float = Field(
        0.75, gt=0, description="Pressure needs the attacker this near. [m]"
    )
    pressure_speed: float = Field(
        0.1, description="Pressure needs the attacker at least this fast. [m/s]"
    )
    pressure_window: float = Field(
        0.5, ge=0, description="Pressure counts for this long after it was applied. [s]"
    )
    forced_offset: float = Field(
        1.1, gt=0, description="Defender this far off the lane centre: success. [m]"
    )
    idle_speed: float = Field(0.02, ge=0, description="Below this speed a step is idle. [m/s]")
    idle_grace: int = Field(18, ge=0, description="Idle steps in a row before paying. [steps]")
    idle_reward: float = Field(-0.08, description="Paid at each further idle step. [reward]")
    idle_limit: int = Field(
        90, ge=1, description="Idle steps in a row that truncate the episode. [steps]"
    )
    idle_limit_reward: float = Field(
        -35.0, description="Paid instead of truncation_reward at the idle limit. [reward]"
    )


TaskConfig = ConvoyLockConfig
