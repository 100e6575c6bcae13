"""Settings of tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field, model_validator

from sim.plugins import union, with_plugins
from sim.settings import Config, FilePath

IMAGES: Final = (".png", ".pgm")  # of maps: one stands in for the other
LONE_LINE: Final = "centerline.csv"  # of a folder's only map


class TrackSettings(Config):
    """What the built-in tracks have in common."""

    if TYPE_CHECKING:
        kind: str  # selects the track


class Line2Track(TrackSettings):
    """A straight corridor 97.9 m long and 2.55 m wide with six spawn poses."""

    kind: Literal["line2"] = Field("line2", description="Selects this track. [-]")


class CircleTrack(TrackSettings):
    """A circular lane around the origin, driven counter-clockwise."""

    kind: Literal["circle"] = Field("circle", description="Selects this track. [-]")
    radius: float = Field(10.0, gt=1, le=500, description="Radius of the centre line. [m]")
    width: float = Field(3.0, gt=0.5, le=1e4, description="Distance between the walls. [m]")
    resolution: float = Field(0.05, gt=0, le=0.5, description="Edge of a grid cell. [m]")

    @model_validator(mode="after")
    def _inner_wall(self) -> CircleTrack:
        if self.width / 2 >= self.radius:
            raise ValueError(f"width must be below twice the radius, {2 * self.radius:g} m")
        return self


class MapTrack(TrackSettings):
    """A track from a ROS map, as F1TENTH publishes them."""

    kind: Literal["map"] = Field("map", description="Selects this track. [-]")
    file: Annotated[str, FilePath("a map's YAML file")] = Field(
        description="The map's YAML file, relative to the scenario that names it. [path]"
    )
    centerline: Annotated[str, FilePath("a centre line's CSV file")] | None = Field(
        None,
        description="CSV file of the centre line, relative to the scenario that names it; null: "
        "the one beside the map, if any. [path]",
    )
    raceline: Annotated[str, FilePath("a racing line's CSV file")] | None = Field(
        None,
        description="CSV file of a racing line, relative to the scenario that names it, which "
        "pure_pursuit and stanley follow instead of the centre line. [path]",
    )
    reverse: bool = Field(
        False, description="Whether the lines are driven from their last point to their first. [-]"
    )


class OvalTrack(TrackSettings):
    """Two straights joined by half circles, driven counter-clockwise."""

    kind: Literal["oval"] = Field("oval", description="Selects this track. [-]")
    straight: float = Field(20.0, gt=0, le=1000, description="Length of each straight. [m]")
    radius: float = Field(6.0, gt=0.5, le=500, description="Radius of the bends' centre line. [m]")
    width: float = Field(3.0, gt=0.5, le=1e4, description="Distance between the walls. [m]")
    resolution: float = Field(0.05, gt=0, le=0.2, description="Edge of a grid cell. [m]")

    @model_validator(mode="after")
    def _inner_wall(self) -> OvalTrack:
        if self.width / 2 > self.radius - 0.2:
            raise ValueError(f"width must be at most {2 * self.radius - 0.4:g} m at this radius")
        return self


class RandomTrack(TrackSettings):
    """A closed circuit, a different one for each seed."""

    kind: Literal["random"] = Field("random", description="Selects this track. [-]")
    seed: int = Field(
        0, ge=0, lt=2**62, description="Seed that decides the course, with the other settings. [-]"
    )
    count: int = Field(
        1,
        ge=1,
        le=1000,
        description="Number of circuits, of seeds seed, seed + 1, ...; each episode draws one. [-]",
    )
    length: float = Field(80.0, ge=10, le=1000, description="Length of the centre line. [m]")
    width: float = Field(3.0, ge=0.8, le=20, description="Distance between the walls. [m]")
    min_radius: float = Field(
        3.0, gt=0.5, le=1e4, description="Smallest radius of the centre line's bends. [m]"
    )
    corners: int = Field(
        12, ge=3, le=60, description="Random points that the course is drawn around. [-]"
    )
    bends: Literal["smooth", "arcs"] = Field(
        "smooth",
        description="Points joined by a smooth curve, or by straights and arcs, hairpins too. [-]",
    )
    resolution: float = Field(0.05, gt=0, le=0.2, description="Edge of a grid cell. [m]")

    @model_validator(mode="after")
    def _room(self) -> RandomTrack:
        least = self.width / 2 + (0.1 if self.bends == "arcs" else 0.3)  # of the inner wall
        if self.bends == "arcs" and self.length >= 40 * self.width:
            least = 0.35 * self.width  # it may be a point: there is room for gates elsewhere
        if self.min_radius < least:
            raise ValueError(f"min_radius must be at least {least:g} m at this width")
        if self.length < 8 * self.min_radius:
            raise ValueError(f"length must be at least 8 min_radius, {8 * self.min_radius:g} m")
        return self


class CenterlineTrack(TrackSettings):
    """A lane from a CSV file of x, y, w_right, w_left, as TUM's racetrack database has it."""

    kind: Literal["centerline"] = Field("centerline", description="Selects this track. [-]")
    file: Annotated[str, FilePath("a centre line's CSV file")] = Field(
        description="The CSV file, relative to the scenario that names it. [path]"
    )
    scale: float = Field(
        1.0, gt=0, le=100, description="Factor of all lengths; 0.1 suits full-size tracks. [-]"
    )
    resolution: float = Field(0.05, gt=0, le=0.5, description="Edge of a grid cell. [m]")


TRACKS: Final = with_plugins(
    "tracks",
    "kind",
    (Line2Track, CircleTrack, OvalTrack, RandomTrack, CenterlineTrack, MapTrack),
    reserved=("several",),
)
if TYPE_CHECKING:
    SingleTrack = TrackSettings
else:
    SingleTrack = union(TRACKS, "kind")


class SeveralTracks(TrackSettings):
    """Tracks of which each episode draws one; all closed, or all open."""

    kind: Literal["several"] = Field("several", description="Selects these tracks. [-]")
    tracks: tuple[SingleTrack, ...] = Field(
        min_length=1, max_length=1000, description="The tracks, of any kinds. [-]"
    )


if TYPE_CHECKING:
    TrackConfig = TrackSettings
else:
    TrackConfig = union((*TRACKS, SeveralTracks), "kind")
