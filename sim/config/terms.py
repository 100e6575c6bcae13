"""Settings of the terms that shape a reward; `sim.tasks.terms` has their formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from sim.plugins import union, with_plugins
from sim.settings import Config

_TARGET = "The other car; null: the task's target. [name]"
_NEAR = "Pressure needs the car this near to the target, centre to centre. [m]"
_FAST = "Pressure needs the car at least this fast, forwards. [m/s]"


class TermSettings(Config):
    """What the built-in terms have in common."""

    if TYPE_CHECKING:
        term: str  # selects the term


class ProgressTerm(TermSettings):
    """Progress along the centre line."""

    term: Literal["progress"] = Field("progress", description="Selects this term. [-]")
    weight: float = Field(
        1.0, ge=-1e6, le=1e6, description="Reward for a metre; backwards, it is lost. [reward/m]"
    )


class SpeedTerm(TermSettings):
    """Speed as a fraction of the car's speed_max."""

    term: Literal["speed"] = Field("speed", description="Selects this term. [-]")
    weight: float = Field(
        0.1, ge=-1e6, le=1e6, description="Reward for a second at speed_max. [reward/s]"
    )


class TimeTerm(TermSettings):
    """Time that passes."""

    term: Literal["time"] = Field("time", description="Selects this term. [-]")
    weight: float = Field(-0.1, ge=-1e6, le=1e6, description="Reward for a second. [reward/s]")


class LateralTerm(TermSettings):
    """Distance from the centre line, to either side."""

    term: Literal["lateral"] = Field("lateral", description="Selects this term. [-]")
    weight: float = Field(
        -0.1, ge=-1e6, le=1e6, description="Reward for a second one metre off. [reward/(m s)]"
    )


class WallClearanceTerm(TermSettings):
    """Nearness to walls."""

    term: Literal["wall_clearance"] = Field("wall_clearance", description="Selects this term. [-]")
    weight: float = Field(
        -1.0, ge=-1e6, le=1e6, description="Reward for a second with the wall at 0 m. [reward/s]"
    )
    distance: float = Field(
        0.5,
        gt=0,
        le=1e4,
        description="Distance from the car's centre to a wall beyond which nothing is paid. [m]",
    )


class SmoothnessTerm(TermSettings):
    """Change of the steering angle."""

    term: Literal["smoothness"] = Field("smoothness", description="Selects this term. [-]")
    weight: float = Field(
        -0.1, ge=-1e6, le=1e6, description="Reward for a radian, to either side. [reward/rad]"
    )


class PressureTerm(TermSettings):
    """Pressure on the target: near it, and fast enough."""

    term: Literal["pressure"] = Field("pressure", description="Selects this term. [-]")
    weight: float = Field(
        0.5, ge=-1e6, le=1e6, description="Reward for a second of pressure. [reward/s]"
    )
    target: str | None = Field(None, description=_TARGET)
    distance: float = Field(0.75, gt=0, le=1e4, description=_NEAR)
    speed: float = Field(0.1, ge=-1e3, le=1e3, description=_FAST)


class DistanceTerm(TermSettings):
    """Closing on the target: the difference of a potential; going round in circles earns nothing.

    With the learner's discount it changes no optimal policy of endless episodes (Ng, Harada and
    Russell 1999); where an episode ends, the potential reached is kept.
    """

    term: Literal["distance"] = Field("distance", description="Selects this term. [-]")
    weight: float = Field(
        0.5,
        ge=-1e6,
        le=1e6,
        description="Reward for a metre nearer; farther, it is lost. [reward/m]",
    )
    target: str | None = Field(None, description=_TARGET)
    discount: float = Field(1.0, gt=0, le=1, description="Factor of the potential reached. [-]")


class DisplacementTerm(TermSettings):
    """Moving the target off the lane centre, to either side: the difference of a potential."""

    term: Literal["displacement"] = Field("displacement", description="Selects this term. [-]")
    weight: float = Field(
        0.5,
        ge=-1e6,
        le=1e6,
        description="Reward for a metre farther off; back again, it is lost. [reward/m]",
    )
    target: str | None = Field(None, description=_TARGET)
    discount: float = Field(1.0, gt=0, le=1, description="Factor of the potential reached. [-]")


class HeadingTerm(TermSettings):
    """Cosine of the angle between the car's heading and the way to the target, or the lane."""

    term: Literal["heading"] = Field("heading", description="Selects this term. [-]")
    weight: float = Field(
        0.1, ge=-1e6, le=1e6, description="Reward for a second straight at it. [reward/s]"
    )
    toward: Literal["target", "lane"] = Field("target", description="What to head for. [-]")
    target: str | None = Field(None, description=_TARGET)


class EscapeTerm(TermSettings):
    """The target is far away."""

    term: Literal["escape"] = Field("escape", description="Selects this term. [-]")
    weight: float = Field(
        -1.0, ge=-1e6, le=1e6, description="Reward for a second beyond the distance. [reward/s]"
    )
    target: str | None = Field(None, description=_TARGET)
    distance: float = Field(4.0, gt=0, le=1e4, description="Distance, centre to centre. [m]")


class StreakTerm(TermSettings):
    """Pressure without a break: the longer it has lasted, the more it pays."""

    term: Literal["streak"] = Field("streak", description="Selects this term. [-]")
    weight: float = Field(
        0.5, ge=-1e6, le=1e6, description="Reward for a second once the cap is reached. [reward/s]"
    )
    target: str | None = Field(None, description=_TARGET)
    distance: float = Field(0.75, gt=0, le=1e4, description=_NEAR)
    speed: float = Field(0.1, ge=-1e3, le=1e3, description=_FAST)
    cap: float = Field(
        2.0, gt=0, le=1e6, description="Duration of pressure from which all is paid. [s]"
    )


class OvertakeTerm(TermSettings):
    """Gain on the target along the centre line, and a bonus for passing it."""

    term: Literal["overtake"] = Field("overtake", description="Selects this term. [-]")
    weight: float = Field(0.5, ge=-1e6, le=1e6, description="Reward for a metre gained. [reward/m]")
    target: str | None = Field(None, description=_TARGET)
    bonus: float = Field(
        5.0,
        ge=-1e6,
        le=1e6,
        description="Reward paid once, when it is passed and neither car has crashed. [reward]",
    )
    margin: float = Field(
        1.0, ge=0, le=1e4, description="Distance ahead at which it is passed. [m]"
    )


class LapTimeTerm(TermSettings):
    """Time by which a completed lap beats a slow one."""

    term: Literal["lap_time"] = Field("lap_time", description="Selects this term. [-]")
    weight: float = Field(0.2, ge=-1e6, le=1e6, description="Reward for a second saved. [reward/s]")
    par_speed: float = Field(
        2.0, gt=0, le=1e3, description="Mean speed of the slow lap; slower ones pay nothing. [m/s]"
    )


TERMS: Final = with_plugins(
    "terms",
    "term",
    (
        ProgressTerm,
        SpeedTerm,
        TimeTerm,
        LateralTerm,
        WallClearanceTerm,
        SmoothnessTerm,
        PressureTerm,
        DistanceTerm,
        DisplacementTerm,
        HeadingTerm,
        EscapeTerm,
        StreakTerm,
        OvertakeTerm,
        LapTimeTerm,
    ),
)
if TYPE_CHECKING:
    TermConfig = TermSettings
else:
    TermConfig = union(TERMS, "term")
