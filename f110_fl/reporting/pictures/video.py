"""An animation of one episode, at the speed at which it was driven: WebP, GIF or MP4."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from f110_fl.files import write_atomic
from f110_fl.reporting.pages.recording import EpisodeReplay, Recording
from f110_fl.reporting.pictures.legend import Legend, outcome, principal
from f110_fl.reporting.pictures.scene import SCREEN, Box, Scene, action_box, fit, middle
from sim.layout import V, X, Y
from sim.rendering.canvas import CARS
from sim.rendering.renderer import FOLLOW_ZOOM

RATE: Final = 25.0  # frames a second, at most
MAX_FRAMES: Final = 600  # of a longer episode fewer a second are shown
HOLD: Final = 1.0  # s that the last frame is shown
WIDTH: Final = 800  # px
LEAST_HEIGHT, MOST_HEIGHT = 280, 640  # px of the scene
CAR: Final = 28.0  # px; shorter cars are drawn enlarged
VISIBLE: Final = 6.0  # px; where the whole episode leaves a car less, the car is followed
TAIL: Final = 4.0  # s of the trail behind a car that is followed
OVERVIEW: Final = 0.28  # of the width
FONT: Final = 23  # px
STRIP: Final = 44  # px above and below the scene


class Film:
    """The frames of an episode.

    Args:
        recording: What the episode is of.
        episode: The episode.

    Attributes:
        size: Width and height, px; even, as MP4 needs them.
        indices: (N,) frames of the episode that are shown.
        seconds: (N,) s that each is shown.
        rate: Frames a second, but for the last two.
    """

    def __init__(self, recording: Recording, episode: EpisodeReplay) -> None:
        self._recording, self._episode = recording, episode
        steps = len(episode.states) - 1
        stride = math.ceil(max(1 / RATE / recording.period - 1e-6, steps / MAX_FRAMES, 1))
        self.indices = np.unique([*range(0, steps, stride), steps])
        self.seconds = np.append(np.diff(self.indices) * recording.period, HOLD)
        self.rate = 1 / (stride * recording.period)
        box = action_box(recording, episode)
        self._followed = fit(box, (WIDTH, MOST_HEIGHT)) * recording.cars[0].length < VISIBLE
        scene = (WIDTH, MOST_HEIGHT * 3 // 4) if self._followed else _shape(box)
        self.size = scene[0], scene[1] + 2 * STRIP
        zoom = FOLLOW_ZOOM if self._followed else fit(box, scene)
        self._scene = Scene(recording, episode, scene, zoom, SCREEN)
        self._overview = _Overview(recording, episode) if self._followed else None
        self._still = self._scene.background(middle(box))

    def __len__(self) -> int:
        return len(self.indices)

    def frame(self, number: int) -> Image.Image:
        """Draw a frame.

        Args:
            number: From 0.

        Returns:
            RGB, of the film's size.
        """
        index = int(self.indices[number])
        image = Image.new("RGB", self.size, SCREEN.ground)
        image.paste(self._action(index), (0, STRIP))
        self._write(image, index)
        return image

    def _action(self, index: int) -> Image.Image:
        """What happens, without what is written about it."""
        scene, first = self._scene, 0
        if self._overview is None:
            canvas = self._still.copy()
        else:
            x, y = self._episode.states[index, principal(self._recording)][[X, Y]]
            canvas = scene.background((float(x), float(y)))
            first = max(0, index - round(TAIL / self._recording.period))
        scene.trails(canvas, first, index)
        scene.hits(canvas, index)
        scene.cars(canvas, index, CAR)
        picture = scene.finished(canvas)
        if self._overview is not None:
            self._overview.put(picture, index)
        return picture

    def _write(self, image: Image.Image, index: int) -> None:
        """Write the scenario and the time above the scene, and what the cars do below it."""
        recording, (width, height) = self._recording, self.size
        legend = Legend(ImageDraw.Draw(image), FONT, SCREEN)
        top, bottom, edge = STRIP / 2, height - STRIP / 2, STRIP / 2
        legend.text(edge, top, recording.scenario)
        seconds = f"{index * recording.period:.2f} s"
        legend.text(width - edge, top, seconds, anchor="rm")
        if index == self.indices[-1]:
            end = width - 1.5 * edge - legend.width(seconds)
            legend.badge(end, top, *outcome(recording, self._episode))
        room = width - 2 * edge - legend.speeds(width - edge, bottom, self._scene.top_speed)
        names = [car.name for car in recording.cars]
        speeds = [f"{abs(v):.1f} m/s" for v in self._episode.states[index, :, V]]
        for texts in (speeds, [""] * len(names)):  # the speeds, as far as there is room
            step = legend.car_step(names, texts[0] and "10.0 m/s")
            if step * len(names) <= room:
                legend.cars(edge, bottom, names, texts, step)
                break


class _Overview:
    """The whole track in a corner, with a dot a car."""

    def __init__(self, recording: Recording, episode: EpisodeReplay) -> None:
        walls = np.concatenate(recording.tracks[episode.track].walls)
        low, high = walls.min(axis=0), walls.max(axis=0)
        width, height = np.ptp(walls, axis=0)
        side = OVERVIEW * WIDTH
        self._size = (
            max(24, round(side * min(1.0, width / height))),
            max(24, round(side * min(1.0, height / width))),
        )
        box = (float(low[0]), float(low[1])), (float(high[0]), float(high[1]))
        self._scene = Scene(recording, episode, self._size, 0.92 * fit(box, self._size), SCREEN)
        self._background = self._scene.background(middle(box))
        self._states = episode.states

    def put(self, picture: Image.Image, index: int) -> None:
        """Draw it into the upper right corner of a picture."""
        canvas = self._background.copy()
        for car, (x, y) in enumerate(canvas.to_pixels(self._states[index][:, [X, Y]]).tolist()):
            box = (x - 13, y - 13, x + 13, y + 13)
            canvas.draw.ellipse(box, CARS[car % len(CARS)], SCREEN.ground, 2)
        left = picture.width - self._size[0] - STRIP // 3
        picture.paste(self._scene.finished(canvas), (left, 0))


def _shape(box: Box) -> tuple[int, int]:
    """Width and height of a scene that shows a box, px."""
    (left, bottom), (right, top) = box
    aspect = (top - bottom) / (right - left)
    height = min(max(WIDTH * aspect, LEAST_HEIGHT), MOST_HEIGHT)
    width = min(max(height / aspect, MOST_HEIGHT), WIDTH)
    return 2 * round(width / 2), 2 * round(height / 2)


class _Reel(Image.Image):
    """A film as Pillow reads animations: frame by frame, so that one at a time is in memory."""

    def __init__(self, film: Film, convert: Callable[[Image.Image], Image.Image]) -> None:
        super().__init__()
        self._film, self._convert, self._place = film, convert, 0
        first = convert(film.frame(0))
        # As Pillow's handbook has it for readers of other formats.
        self._mode, self._size, self.im = first.mode, first.size, first.im
        self.palette = first.palette
        self.n_frames = len(film)

    def tell(self) -> int:
        """The frame shown."""
        return self._place

    def seek(self, frame: int) -> None:
        """Show another frame; EOFError beyond the last."""
        if frame >= self.n_frames:
            raise EOFError("no more frames")
        if frame != self._place:
            self.paste(self._convert(self._film.frame(frame)))
            self._place = frame


def _milliseconds(film: Film, unit: int) -> list[int]:
    """How long each frame is shown, ms, in whole units; what is rounded off does not add up."""
    ends = np.rint(np.cumsum(film.seconds) * 1000 / unit).astype(int) * unit
    return [int(each) for each in np.diff(ends, prepend=0)]


def _webp(film: Film) -> bytes:
    file = io.BytesIO()
    reel = _Reel(film, lambda image: image)
    # Of drawings, frames without loss are half as large as good ones with it.
    reel.save(
        file, "WEBP", save_all=True, duration=_milliseconds(film, 1), loop=0,
        lossless=True, quality=50, method=3, kmin=0, kmax=0,
    )  # fmt: skip
    return file.getvalue()


def _gif(film: Film) -> bytes:
    last = film.frame(len(film) - 1)  # it has all colours
    palette = last.quantize(255, Image.Quantize.MEDIANCUT)

    def convert(image: Image.Image) -> Image.Image:
        return image.quantize(palette=palette, dither=Image.Dither.NONE)

    file = io.BytesIO()
    reel = _Reel(film, convert)
    reel.save(file, "GIF", save_all=True, duration=_milliseconds(film, 10), loop=0, optimize=True)
    return file.getvalue()


def _mp4(film: Film) -> bytes:
    import imageio_ffmpeg

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")
        writer = imageio_ffmpeg.write_frames(
            str(path), film.size, fps=film.rate, codec="libx264", quality=None,
            macro_block_size=2, output_params=["-crf", "20", "-movflags", "+faststart"],
        )  # fmt: skip
        writer.send(None)
        for number in range(len(film)):
            frame = film.frame(number).tobytes()
            times = max(1, round(film.seconds[number] * film.rate))
            for _ in range(times):
                writer.send(frame)
        writer.close()
        return path.read_bytes()


WRITERS: Final[Mapping[str, Callable[[Film], bytes]]] = {".webp": _webp, ".gif": _gif, ".mp4": _mp4}


def write_video(path: Path, recording: Recording, episode: EpisodeReplay) -> None:
    """Write an animation of an episode.

    Args:
        path: The file, in a folder that exists; its suffix, one of `VIDEO_SUFFIXES`, is its format.
        recording: What the episode is of.
        episode: The episode.

    Raises:
        OSError: If the file cannot be written.
    """
    write_atomic(path, WRITERS[path.suffix.lower()](Film(recording, episode)))
