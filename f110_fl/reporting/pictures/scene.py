"""A part of a track, and what an episode shows of it: trails, cars, what the LiDAR hits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from f110_fl.reporting.pages.recording import EpisodeReplay, Recording, TrackShape
from sim.layout import YAW, V, X, Y
from sim.rendering.canvas import CARS, CRASHED, OUTLINE, Canvas, Color, Point, Points, scan_hits
from sim.rendering.renderer import CENTERLINE, FINISH, FREE, WALL

Box = tuple[Point, Point]  # lower left and upper right corner, m

AROUND: Final = 2.5  # car lengths around where cars drive that a picture shows
BEYOND: Final = 0.5  # car lengths of it beyond the outermost wall
NEARLY: Final = 0.6  # of a track's width and height: where cars drive in more, all is shown
TRAIL: Final = 4.5  # px
CASING: Final = 2.0  # px on either side of a trail: the car's colour, where there are several
HIT: Final = 2.5  # px, radius
SPACING: Final = 4.0  # px between the points of a trail: Pillow's are whole pixels
STOPS: Final = ((48, 86, 211), (15, 157, 143), (229, 154, 12), (215, 38, 61))  # slow to fast
SHADES: Final = 24


@dataclass(frozen=True)
class Look:
    """Colours of what does not move."""

    ground: Color  # beyond the walls
    free: Color
    wall: Color  # a line where they meet
    centerline: Color
    text: Color
    muted: Color  # less important text


SCREEN: Final = Look(WALL, FREE, WALL, CENTERLINE, (244, 245, 246), (173, 181, 189))
PAPER: Final = Look(
    (226, 229, 233), (255, 255, 255), (60, 64, 70), (206, 210, 215), (20, 20, 20), (80, 84, 90)
)


def speed_colors() -> list[Color]:
    """The colours of speed, evenly from 0 to the highest, `SHADES` of them."""
    places = np.linspace(0, len(STOPS) - 1, SHADES)
    parts = [np.interp(places, range(len(STOPS)), channel) for channel in zip(*STOPS, strict=True)]
    return [(round(r), round(g), round(b)) for r, g, b in zip(*parts, strict=True)]


def top_speed(episode: EpisodeReplay) -> float:
    """The highest speed of an episode's cars, rounded up to one digit or to a half of it, m/s."""
    highest = float(np.abs(episode.states[:, :, V]).max())
    step = 10.0 ** np.floor(np.log10(max(highest, 0.1))) / 2
    return float(np.ceil(round(highest / step, 6)) * step)


def action_box(recording: Recording, episode: EpisodeReplay) -> Box:
    """What a picture of a whole episode shows: where its cars drive, and some of what is around."""
    places = episode.states[:, :, [X, Y]].reshape(-1, 2)
    length = max(car.length for car in recording.cars)
    walls = np.concatenate(recording.tracks[episode.track].walls)
    low, high = walls.min(axis=0) - BEYOND * length, walls.max(axis=0) + BEYOND * length
    if (np.ptp(places, axis=0) < NEARLY * np.ptp(walls, axis=0)).any():
        low = np.maximum(low, places.min(axis=0) - AROUND * length)
        high = np.minimum(high, places.max(axis=0) + AROUND * length)
    return (float(low[0]), float(low[1])), (float(high[0]), float(high[1]))


def middle(box: Box) -> Point:
    """The middle of a box, m."""
    (left, bottom), (right, top) = box
    return (left + right) / 2, (bottom + top) / 2


def fit(box: Box, size: tuple[int, int]) -> float:
    """The largest scale at which a box fits into a picture, px/m."""
    (left, bottom), (right, top) = box
    return min(size[0] / (right - left), size[1] / (top - bottom))


class Scene:
    """Draws an episode around a point.

    Args:
        recording: What the episode is of.
        episode: The episode.
        size: Width and height of the pictures, px.
        zoom: Scale, px/m.
        look: Colours.
        ratio: Pictures are drawn this many times larger, to be scaled down.
        stroke: Lines are as many times wider than on a screen.

    Attributes:
        size: Width and height of the pictures, px.
        top_speed: What the last colour of speed stands for, m/s.
    """

    def __init__(
        self,
        recording: Recording,
        episode: EpisodeReplay,
        size: tuple[int, int],
        zoom: float,
        look: Look,
        ratio: int = 3,
        stroke: float = 1.0,
    ) -> None:
        self._recording, self._episode, self._look = recording, episode, look
        self.size, self._zoom, self._ratio, self._stroke = size, zoom, ratio, stroke
        self._track = recording.tracks[episode.track]
        self._colors = speed_colors()
        self.top_speed = top_speed(episode)

    def background(self, centre: Point) -> Canvas:
        """What does not move, around a point, m."""
        width, height = self.size
        image = Image.new("RGB", (width * self._ratio, height * self._ratio), self._look.ground)
        canvas, track = Canvas(image, centre, self._zoom * self._ratio, self._ratio), self._track
        walls = sorted(track.walls, key=_area, reverse=True)  # what is inside another comes later
        for wall in walls:
            free = _turns_left(wall)
            pixels = canvas.to_pixels(wall).ravel().tolist()
            canvas.draw.polygon(pixels, self._look.free if free else self._look.ground)
        if self._look.wall != self._look.ground:
            for wall in walls:
                canvas.line(np.vstack([wall, wall[:2]]), self._look.wall, 2 * self._stroke)
        if len(track.centerline):
            canvas.line(_centerline(track), self._look.centerline, self._stroke)
        if len(track.finish_line):
            canvas.line(track.finish_line, FINISH, 4 * self._stroke)
        return canvas

    def trails(self, canvas: Canvas, first: int, last: int) -> None:
        """Draw where the cars were from a frame to another, in the colours of their speeds.

        Of several cars, each has its own colour along both sides.
        """
        states = self._episode.states[first : last + 1]
        ways = [self._thinned(states[:, car]) for car in range(states.shape[1])]
        for car, way in enumerate(ways):
            if len(ways) > 1:
                canvas.line(
                    way[:, [X, Y]], CARS[car % len(CARS)], self._stroke * (TRAIL + 2 * CASING)
                )
        for way in ways:
            for points, shade in self._runs(way):
                canvas.line(points, self._colors[shade], self._stroke * TRAIL)

    def cars(self, canvas: Canvas, frame: int, least: float) -> None:
        """Draw the cars, with a red outline once they have touched something.

        Args:
            canvas: Drawn on.
            frame: Of the episode.
            least: px; cars that are shorter are drawn enlarged.
        """
        for car, shape in enumerate(self._recording.cars):
            end = self._episode.ends[car]
            crashed = frame >= end.frame and (end.wall or end.touched is not None)
            pose, size = self._pose(frame, car), (shape.length, shape.width)
            outline, edge = (CRASHED, 3.0) if crashed else (OUTLINE, 1.0)
            edge *= self._stroke
            canvas.car(pose, size, CARS[car % len(CARS)], outline, least=least, edge=edge)

    def hits(self, canvas: Canvas, frame: int) -> None:
        """Mark what the agents' LiDARs hit, or the first car's if nothing learns."""
        lidar = self._recording.lidar
        for car in self._recording.agents or (0,):
            scan, pose = self._episode.scans[frame, car], self._pose(frame, car)
            hits = scan_hits(scan, pose, lidar.angles, lidar.mount_x, lidar.max_range)
            canvas.discs(hits, _lighter(CARS[car % len(CARS)]), HIT)

    def finished(self, canvas: Canvas) -> Image.Image:
        """The picture, scaled down to its size."""
        return canvas.image.reduce(self._ratio)

    def _pose(self, frame: int, car: int) -> Points:
        pose: Points = self._episode.states[frame, car][[X, Y, YAW]]
        return pose

    def _thinned(self, states: NDArray[np.float64]) -> NDArray[np.float64]:
        """A car's states (T, 7) `SPACING` apart, those of a longer way beginning alike."""
        way = np.cumsum(np.hypot(*np.diff(states[:, [X, Y]], axis=0, prepend=states[:1, [X, Y]]).T))
        marks = np.floor(way * self._zoom / SPACING)
        keep = np.diff(marks, prepend=-1) > 0
        keep[-1] = True
        return states[keep]

    def _runs(self, states: NDArray[np.float64]) -> Iterator[tuple[Points, int]]:
        """Split a car's way (T, 7) into pieces of one shade."""
        if len(states) < 2:
            return
        speeds = np.abs(states[:-1, V] + states[1:, V]) / 2
        shares = np.clip(speeds / self.top_speed, 0.0, 1.0)
        shades = np.minimum((shares * SHADES).astype(int), SHADES - 1)
        starts = [0, *(np.flatnonzero(np.diff(shades)) + 1).tolist(), len(shades)]
        for begin, end in pairwise(starts):
            yield states[begin : end + 1][:, [X, Y]], int(shades[begin])


def _lighter(color: Color) -> Color:
    """A colour that can be seen on a dark ground as well."""
    red, green, blue = ((value + 255) // 2 for value in color)
    return red, green, blue


def _signed_area(loop: Points) -> float:
    x, y = loop.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def _area(loop: Points) -> float:
    return abs(_signed_area(loop))


def _turns_left(loop: Points) -> bool:
    """Whether what is inside an outline is free: see `outlines`."""
    return _signed_area(loop) > 0


def _centerline(track: TrackShape) -> Points:
    line = track.centerline
    return np.vstack([line, line[:1]]) if track.closed else line
