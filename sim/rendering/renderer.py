"""Frames of a race seen from above, drawn with Pillow: no display is needed."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFont

from sim.config import RenderConfig
from sim.layout import YAW, V, X, Y
from sim.observation import free_box
from sim.physics.lidar import make_beams
from sim.physics.vehicle import LENGTH, WIDTH
from sim.race import Race
from sim.rendering.canvas import (
    CARS,
    CRASHED,
    OUTLINE,
    Canvas,
    Color,
    Point,
    Points,
    scan_hits,
    to_pixels,
)
from sim.tracks.track import Track

Frame = NDArray[np.uint8]

FOLLOW_ZOOM: Final = 40.0  # px/m
MARGIN: Final = 0.04  # of a frame that shows the whole track, kept free
MIN_CAR: Final = 12.0  # px; a car that is shorter at this scale is drawn enlarged

FREE: Final[Color] = (246, 246, 242)
WALL: Final[Color] = (52, 58, 64)
CENTERLINE: Final[Color] = (190, 194, 200)
FINISH: Final[Color] = (46, 139, 87)


class _View:
    """How a track lies in frames, and what of them does not move.

    Args:
        track: The track.
        size: Width and height of a frame, px.
        zoom: Scale, px/m; None: the whole track fits.
        still: Whether the middle of a frame is always that of the track.

    Attributes:
        middle: What lies in the middle of a frame that shows the whole track, m.
        zoom: Scale, px/m.
    """

    def __init__(
        self, track: Track, size: tuple[int, int], zoom: float | None, still: bool
    ) -> None:
        low, high = free_box(track)
        middle = (low + high) / 2
        self.middle: Point = float(middle[0]), float(middle[1])
        self._track, self._size = track, size
        self.zoom = zoom or float(np.min((1.0 - MARGIN) * np.array(size) / (high - low)))
        # One pixel a cell, row 0 lowest; walls are at least a frame's pixel thick: none is lost.
        free = track.distance > 0.5 / self.zoom
        self._map = Image.fromarray(free.astype(np.uint8))
        self._map.putpalette([*WALL, *FREE])
        self._still = self._draw(self.middle) if still else None

    def to_pixels(self, points: Points, centre: Point) -> Points:
        """Find where points lie in a frame.

        Args:
            points: (N, 2) m.
            centre: What lies in the middle of the frame, m.

        Returns:
            (N, 2) px to the right of and below the upper left corner.
        """
        return to_pixels(points, centre, self.zoom, self._size)

    def background(self, centre: Point) -> Image.Image:
        """What does not move, in a frame around a point; the caller's to draw on."""
        return self._draw(centre) if self._still is None else self._still.copy()

    def _draw(self, centre: Point) -> Image.Image:
        track, (width, height) = self._track, self._size
        x, y, yaw = track.origin
        cos, sin = np.cos(yaw), np.sin(yaw)
        # The frame's upper left corner in the grid's frame, and a pixel's edge, in cells.
        left = (centre[0] - width / 2 / self.zoom - x) / track.resolution
        top = (centre[1] + height / 2 / self.zoom - y) / track.resolution
        edge = 1.0 / (self.zoom * track.resolution)
        columns = cos * edge, -sin * edge, cos * left + sin * top
        rows = -sin * edge, -cos * edge, cos * top - sin * left
        image = self._map.transform(
            self._size,
            Image.Transform.AFFINE,
            (*columns, *rows),
            Image.Resampling.NEAREST,
            fillcolor=0,  # walls, outside the grid too
        ).convert("RGB")
        canvas = Canvas(image, centre, self.zoom)
        line = track.centerline
        if len(line):
            canvas.line(np.vstack([line, line[:1]]) if track.closed else line, CENTERLINE)
        if track.finish_line:
            canvas.line(np.array(track.finish_line), FINISH, 3)
        return image


class Renderer:
    """Draws the environments of a race: walls, lines, cars, LiDAR hits, names, speeds, time.

    Drawing reads the race and draws no random numbers. LiDAR hits are those of the car followed,
    else of the agents. A car's outline turns red when it has crashed.

    Args:
        race: The race to look at.
        config: Size of the frames, and what they show.

    Raises:
        ValueError: If the car to follow does not exist.
    """

    def __init__(self, race: Race, config: RenderConfig) -> None:
        names = [car.name for car in race.config.cars]
        if config.follow is not None and config.follow not in names:
            raise ValueError(f"follow {config.follow!r}: the cars are {names}")
        self._race = race
        self._names = names
        self._colors = [CARS[car % len(CARS)] for car in range(len(names))]
        self._size = config.width, config.height
        self._followed = None if config.follow is None else names.index(config.follow)
        self._zoom = config.zoom or (None if self._followed is None else FOLLOW_ZOOM)
        self._views: dict[int, _View] = {}  # by track
        beams = make_beams(race.config.lidar)
        count = len(beams.cos)
        self._angles: Points = beams.first + beams.spacing * np.arange(count, dtype=np.float64)
        if self._followed is None:
            self._scanning = [names.index(name) for name in race.agents] or [0]
        else:
            self._scanning = [self._followed]
        self._font = ImageFont.load_default()

    def frame(self, env: int = 0) -> Frame:
        """Draw one environment.

        Args:
            env: Index of the environment.

        Returns:
            (height, width, 3) uint8 red, green, blue; the caller's to keep.
        """
        state, view = self._race.world.arrays.state[env], self.view(env)
        centre = view.middle
        if self._followed is not None:
            centre = float(state[self._followed, X]), float(state[self._followed, Y])
        canvas = Canvas(view.background(centre), centre, view.zoom)
        for car in self._scanning:
            self._draw_scan(canvas, env, car)
        for car in range(len(state)):
            self._draw_car(canvas, env, car)
        for car, (x, y) in enumerate(canvas.to_pixels(state[:, [X, Y]]).tolist()):
            if 0 <= x < self._size[0] and 0 <= y < self._size[1]:
                text = f"{self._names[car]}: {state[car, V]:.1f} m/s"
                canvas.label((x + MIN_CAR, y - 2 * MIN_CAR), text, self._font)
        seconds = self._race.world.arrays.steps[env] * self._race.config.physics_step
        canvas.label((6.0, 4.0), f"{seconds:.2f} s", self._font)
        return np.array(canvas.image)

    def view(self, env: int) -> _View:
        """The view of the track that an environment's episode is on; drawn at first use."""
        track = int(self._race.episode_track[env])
        if track not in self._views:
            still = self._followed is None
            self._views[track] = _View(self._race.tracks[track], self._size, self._zoom, still)
        return self._views[track]

    def _draw_scan(self, canvas: Canvas, env: int, car: int) -> None:
        """Mark where a car's beams hit."""
        arrays, lidar = self._race.world.arrays, self._race.config.lidar
        pose = arrays.state[env, car, [X, Y, YAW]]
        scan = arrays.scan[env, car]
        hits = scan_hits(scan, pose, self._angles, lidar.mount_x, lidar.max_range)
        canvas.dots(hits, self._colors[car])

    def _draw_car(self, canvas: Canvas, env: int, car: int) -> None:
        arrays, vehicle = self._race.world.arrays, self._race.world.vehicles[env, car]
        outline = CRASHED if arrays.crashed[env, car] else OUTLINE
        size = float(vehicle[LENGTH]), float(vehicle[WIDTH])
        pose = arrays.state[env, car, [X, Y, YAW]]
        canvas.car(pose, size, self._colors[car], outline, least=MIN_CAR)
