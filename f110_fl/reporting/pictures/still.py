"""A sheet of one episode for papers: black on white, as wide as a column."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from f110_fl.files import write_atomic
from f110_fl.reporting.pages.recording import EpisodeReplay, Recording
from f110_fl.reporting.pictures.legend import Legend, outcome, principal
from f110_fl.reporting.pictures.scene import PAPER, Scene, action_box, fit, middle
from sim.layout import X, Y
from sim.rendering.canvas import Points

WIDTH: Final = 1600  # px
COLUMN: Final = 3.35  # inches, 85 mm: the width at which it is printed
FONT: Final = 44  # px: 7 pt in print
LINE: Final = 70  # px from a line of text to the next
GAP: Final = 16  # px between panels, and at the edges
LEAST_ASPECT, MOST_ASPECT = 0.3, 1.2  # height of a scene over its width
PANELS: Final = 6  # in two columns, of an episode of several cars
MOMENTS: Final = 8  # at which a single car is drawn on its way
CAR: Final = 44.0  # px; shorter cars are drawn enlarged
RATIO: Final = 2
RULES: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)  # m, lengths of the scale's bar


class Sheet:
    """What one picture shows of an episode.

    A single car is drawn at several moments on its way around the track. Several cars, which
    would cover each other, have a panel a moment.

    Args:
        recording: What the episode is of.
        episode: The episode.
    """

    def __init__(self, recording: Recording, episode: EpisodeReplay) -> None:
        self._recording, self._episode = recording, episode
        self._several = len(recording.cars) > 1
        box = action_box(recording, episode)
        (left, bottom), (right, top) = box
        aspect = min(max((top - bottom) / (right - left), LEAST_ASPECT), MOST_ASPECT)
        width = (WIDTH - GAP) // 2 if self._several else WIDTH
        size = width, round(width * aspect)
        stroke = 1.0 if self._several else 1.6
        self._zoom = fit(box, size)
        self._scene = Scene(recording, episode, size, self._zoom, PAPER, RATIO, stroke)
        self._background = self._scene.background(middle(box))

    def draw(self) -> Image.Image:
        """Draw the sheet, RGB."""
        scene = self._panels() if self._several else self._way()
        image = Image.new("RGB", (WIDTH, scene.height + 2 * LINE + 2 * GAP), "white")
        image.paste(scene, (0, GAP))
        self._write(image)
        return image

    def _panels(self) -> Image.Image:
        """A grid of moments, each with the way until then."""
        scene = self._scene
        width, height = scene.size
        rows = PANELS // 2
        image = Image.new("RGB", (WIDTH, rows * height + (rows - 1) * GAP), "white")
        for k, frame in enumerate(self._moments(PANELS)):
            canvas = self._background.copy()
            scene.trails(canvas, 0, frame)
            scene.cars(canvas, frame, CAR)
            panel = scene.finished(canvas)
            draw = ImageDraw.Draw(panel)
            legend = Legend(draw, FONT, PAPER)
            legend.boxed(GAP, GAP, self._time(frame))
            draw.rectangle((0, 0, width - 1, height - 1), None, PAPER.wall, 2)
            image.paste(panel, (k % 2 * (width + GAP), k // 2 * (height + GAP)))
        return image

    def _way(self) -> Image.Image:
        """The whole track, and the car at several moments with their times."""
        scene, canvas = self._scene, self._background.copy()
        scene.trails(canvas, 0, len(self._episode.states) - 1)
        frames = self._moments(MOMENTS)
        for frame in frames:
            scene.cars(canvas, frame, CAR)
        places = canvas.to_pixels(self._episode.states[:, 0][:, [X, Y]]) / RATIO
        image = scene.finished(canvas)
        legend = Legend(ImageDraw.Draw(image), FONT, PAPER)
        boxes: list[Points] = []
        for frame in frames:
            text = self._time(frame)
            size = np.array([legend.width(text) + 12, FONT + 8])
            boxes.append(_free_place(places, frame, size, boxes, np.array(image.size)))
            left, top = boxes[-1].tolist()
            legend.boxed(left, top, text)
        return image

    def _moments(self, number: int) -> list[int]:
        """Frames, evenly from the first to the last."""
        last = len(self._episode.states) - 1
        return [round(each) for each in np.linspace(0, last, min(number, last + 1))]

    def _time(self, frame: int) -> str:
        return f"{frame * self._recording.period:.1f} s"

    def _write(self, image: Image.Image) -> None:
        """Write the caption, and what the colours mean, below what is drawn."""
        recording, episode = self._recording, self._episode
        legend = Legend(ImageDraw.Draw(image), FONT, PAPER)
        first, second = image.height - GAP - 1.5 * LINE, image.height - GAP - 0.5 * LINE
        words, _ = outcome(recording, episode)
        seconds = (len(episode.states) - 1) * recording.period
        name = recording.cars[principal(recording)].name
        caption = (
            f"{recording.scenario}, episode {episode.number}: {name} {words} after {seconds:.2f} s"
        )
        legend.text(GAP, first, caption)
        rule = max((r for r in RULES if r * self._zoom < WIDTH / 8), default=RULES[0])
        legend.rule(WIDTH - GAP, first, rule * self._zoom, f"{rule:g} m")
        top = self._scene.top_speed
        room = WIDTH - 3 * GAP - legend.speeds(WIDTH - GAP, second, top)
        names = [car.name for car in recording.cars]
        step = min(legend.car_step(names, ""), room / len(names))
        legend.cars(GAP, second, names, [""] * len(names), step)


def _free_place(
    places: Points, frame: int, size: Points, taken: list[Points], room: Points
) -> Points:
    """Find where a label near a car covers least.

    Args:
        places: (T, 2) px, the car's way.
        frame: Where on it the car is.
        size: (2,) px, width and height of the label.
        taken: Upper left corners of the labels, of the same size or so, that are there already.
        room: (2,) px, size of the picture.

    Returns:
        (2,) px, the label's upper left corner.
    """
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ways = np.column_stack([np.cos(angles), np.sin(angles)])
    found: Points = places[frame] - size / 2
    least = np.inf
    for away in (1.0, 1.4, 2.0):
        for way in ways:
            corner = places[frame] + away * way * (size / 2 + CAR / 2) - size / 2
            covered = (places > corner - 8) & (places < corner + size + 8)
            clashes = sum(bool((np.abs(corner - other) < size + 8).all()) for other in taken)
            outside = bool((corner < 0).any() or (corner + size > room).any())
            cost = covered.all(axis=1).sum() + 1000 * clashes + 10000 * outside + 2 * away
            if cost < least:
                found, least = corner, cost
    return found


def write_still(path: Path, recording: Recording, episode: EpisodeReplay) -> None:
    """Write a sheet of an episode.

    Args:
        path: The file, PNG, in a folder that exists.
        recording: What the episode is of.
        episode: The episode.

    Raises:
        OSError: If the file cannot be written.
    """
    file, dots = io.BytesIO(), WIDTH / COLUMN
    Sheet(recording, episode).draw().save(file, "PNG", dpi=(dots, dots), optimize=True)
    write_atomic(path, file.getvalue())
