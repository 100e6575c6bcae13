"""Settings of tasks: what agents are rewarded for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sim.config.terms import (
    DistanceTerm,
    EscapeTerm,
    HeadingTerm,
    LapTimeTerm,
    OvertakeTerm,
    PressureTerm,
    ProgressTerm,
    SpeedTerm,
    StreakTerm,
    TermConfig,
)
from sim.settings import Config

_SHAPING = "Terms paid at each step, on top of the objective's rewards. [-]"
_CRASH = "Reward paid when the car crashes. [reward]"
_LATE = "Reward paid when the time limit ends the episode. [reward]"


class Objective(Config):
    """What decides success, and what is paid for how an episode ends."""

    kind: str = Field(description="Selects this task. [-]")
    shaping: tuple[TermConfig, ...] = Field((), max_length=100, description=_SHAPING)

    @model_validator(mode="after")
    def _targets(self) -> Objective:
        if getattr(self, "target", None) is None:
            for term in self.shaping:
                lane = getattr(term, "toward", "target") == "lane"
                if getattr(term, "target", "none needed") is None and not lane:
                    raise ValueError(f"term {term.term} needs a target: {self.kind} has none")
        return self


class Goal(Objective):
    """What objectives that a car reaches, or does not, have in common."""

    success_reward: float = Field(
        10.0, ge=-1e6, le=1e6, description="Reward paid once, on success. [reward]"
    )
    crash_reward: float = Field(-10.0, ge=-1e6, le=1e6, description=_CRASH)
    truncation_reward: float = Field(0.0, ge=-1e6, le=1e6, description=_LATE)


class Lock(Goal):
    """What `ConvoyLockConfig` and `GapLockConfig` share."""

    target: str = Field("car_1", description="The defender. [name]")
    success_reward: float = Field(
        60.0, ge=-1e6, le=1e6, description="Reward paid once, on success. [reward]"
    )
    truncation_reward: float = Field(-25.0, ge=-1e6, le=1e6, description=_LATE)
    pressure_distance: float = Field(
        0.75,
        gt=0,
        le=1e4,
        description="Pressure needs the attacker this near, centre to centre. [m]",
    )
    pressure_speed: float = Field(
        0.1,
        ge=-1e3,
        le=1e3,
        description="Pressure needs the attacker at least this fast, forwards. [m/s]",
    )
    pressure_window: float = Field(
        0.5, ge=0, le=1e6, description="Time for which pressure counts after it was applied. [s]"
    )
    forced_offset: float = Field(
        1.1,
        gt=0,
        le=1e4,
        description="Success: this offset of the defender from the lane centre. [m]",
    )
    idle_speed: float = Field(
        0.02, ge=0, le=1e3, description="Speed below which a step is idle. [m/s]"
    )
    idle_limit_reward: float = Field(
        -35.0,
        ge=-1e6,
        le=1e6,
        description="Reward paid instead of truncation_reward at the idle limit. [reward]",
    )


class ConvoyLockConfig(Lock):
    """Press a defender into a wall or out of its lane."""

    kind: Literal["convoy_lock"] = Field("convoy_lock", description="Selects this task. [-]")
    idle_grace: int = Field(
        18,
        ge=0,
        le=1_000_000_000,
        description="Idle steps in a row before idle_reward is paid. [steps]",
    )
    idle_reward: float = Field(
        -0.08, ge=-1e6, le=1e6, description="Reward paid at each further idle step. [reward]"
    )
    idle_limit: int = Field(
        90,
        ge=1,
        le=1_000_000_000,
        description="Idle steps in a row that truncate the episode. [steps]",
    )


class GapLockConfig(Lock):
    """As `ConvoyLockConfig`, with shaping, and with idleness measured in seconds."""

    kind: Literal["gap_lock"] = Field("gap_lock", description="Selects this task. [-]")
    idle_grace: float = Field(
        1.0, ge=0, le=1e6, description="Idle time before idle_reward is paid. [s]"
    )
    idle_reward: float = Field(
        -1.0, ge=-1e6, le=1e6, description="Reward for a second of further idling. [reward/s]"
    )
    idle_limit: float = Field(
        5.0,
        gt=0,
        le=1e6,
        description="Idle time that truncates the episode, rounded up to a step. [s]",
    )
    shaping: tuple[TermConfig, ...] = Field(
        (PressureTerm(), DistanceTerm(), HeadingTerm(), SpeedTerm(), EscapeTerm(), StreakTerm()),
        description=_SHAPING,
    )


class SoloLapConfig(Goal):
    """Drive the laps; other cars do not count."""

    kind: Literal["solo_lap"] = Field("solo_lap", description="Selects this task. [-]")
    shaping: tuple[TermConfig, ...] = Field((ProgressTerm(), LapTimeTerm()), description=_SHAPING)


class RaceConfig(Goal):
    """Drive the laps before any other car has driven its own."""

    kind: Literal["race"] = Field("race", description="Selects this task. [-]")
    loss_reward: float = Field(
        -10.0,
        ge=-1e6,
        le=1e6,
        description="Reward paid once, when another car is the first. [reward]",
    )
    shaping: tuple[TermConfig, ...] = Field((ProgressTerm(), LapTimeTerm()), description=_SHAPING)


class OvertakeConfig(Goal):
    """Pass another car without touching anything."""

    kind: Literal["overtake"] = Field("overtake", description="Selects this task. [-]")
    target: str = Field("car_1", description="The car to pass. [name]")
    margin: float = Field(
        1.0, ge=0, le=1e4, description="Success: this distance ahead along the centre line. [m]"
    )
    until_end: bool = Field(
        False,
        description="Drive on after the pass: who is that far ahead at the time limit, succeeds. "
        "[bool]",
    )
    shaping: tuple[TermConfig, ...] = Field((OvertakeTerm(bonus=0.0),), description=_SHAPING)


class PursuitConfig(Goal):
    """Stay close behind another car without touching anything."""

    kind: Literal["pursuit"] = Field("pursuit", description="Selects this task. [-]")
    target: str = Field("car_1", description="The car to follow. [name]")
    near: float = Field(
        0.8, gt=0, le=1e4, description="Least distance along the centre line, centre to centre. [m]"
    )
    far: float = Field(
        2.0,
        gt=0,
        le=1e4,
        description="Largest distance along the centre line, centre to centre. [m]",
    )
    hold_time: float = Field(
        3.0,
        gt=0,
        le=1e6,
        description="Success: this time without a break, rounded up to a step. [s]",
    )
    shaping: tuple[TermConfig, ...] = Field((DistanceTerm(),), description=_SHAPING)

    @model_validator(mode="after")
    def _window(self) -> PursuitConfig:
        if self.near > self.far:
            raise ValueError(f"near, {self.near:g} m, is above far, {self.far:g} m")
        return self


class EvadeConfig(Objective):
    """Survive an attacker: `ConvoyLockConfig` mirrored."""

    kind: Literal["evade"] = Field("evade", description="Selects this task. [-]")
    target: str = Field("car_0", description="The attacker. [name]")
    forced_offset: float = Field(
        1.1, gt=0, le=1e4, description="Offset from the lane centre that counts as a crash. [m]"
    )
    success_reward: float = Field(
        25.0,
        ge=-1e6,
        le=1e6,
        description="Reward paid at the time limit or the finish line. [reward]",
    )
    attacker_crash_reward: float = Field(
        10.0,
        ge=-1e6,
        le=1e6,
        description="Reward paid instead when the attacker alone crashes. [reward]",
    )
    crash_reward: float = Field(-60.0, ge=-1e6, le=1e6, description=_CRASH)


TaskConfig = Annotated[
    ConvoyLockConfig
    | GapLockConfig
    | SoloLapConfig
    | RaceConfig
    | OvertakeConfig
    | PursuitConfig
    | EvadeConfig,
    Field(discriminator="kind"),
]
