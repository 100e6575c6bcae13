"""What is written beside a scene: the cars' names, the colours of speed, how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from PIL import ImageDraw, ImageFont

from f110_fl.reporting.pages.recording import EpisodeReplay, Recording
from f110_fl.reporting.pictures.scene import SHADES, Look, speed_colors
from sim.rendering.canvas import CARS, OUTLINE, Color, Font

GOOD: Final[Color] = (46, 160, 90)
BAD: Final[Color] = (220, 20, 20)
OTHER: Final[Color] = (110, 118, 126)
SUCCESSES: Final = ("success", "finished")
FAILURES: Final = ("crash", "failed")


def font_of(size: int) -> Font:
    """The font that Pillow brings, px."""
    return ImageFont.load_default(size)


def principal(recording: Recording) -> int:
    """The car that the episode is about: the first agent, or the first car if nothing learns."""
    return recording.agents[0] if recording.agents else 0


def outcome(recording: Recording, episode: EpisodeReplay) -> tuple[str, Color]:
    """How an episode ended for the car it is about, in words, and the colour of that."""
    name = episode.ends[principal(recording)].outcome
    color = GOOD if name in SUCCESSES else BAD if name in FAILURES else OTHER
    return name.replace("_", " "), color


class Legend:
    """Writes one line at a time.

    Args:
        draw: Draws on the picture.
        size: Size of the font, px.
        look: Colours.
    """

    def __init__(self, draw: ImageDraw.ImageDraw, size: int, look: Look) -> None:
        self._draw, self._size, self._look = draw, size, look
        self._font = font_of(size)

    def text(
        self, x: float, y: float, text: str, *, anchor: str = "lm", muted: bool = False
    ) -> float:
        """Write a text at a point, px; ``anchor`` as in Pillow. Returns its width, px."""
        color = self._look.muted if muted else self._look.text
        self._draw.text((x, y), text, color, self._font, anchor)
        return self.width(text)

    def width(self, text: str) -> float:
        """The width of a text, px."""
        return float(self._font.getlength(text))

    def badge(self, x: float, y: float, text: str, color: Color) -> None:
        """Write a text on a colour, its right end at a point, px."""
        half, pad = 0.75 * self._size, 0.5 * self._size
        box = (x - self.width(text) - 2 * pad, y - half, x, y + half)
        self._draw.rounded_rectangle(box, half / 2, color)
        self._draw.text((x - pad, y), text, (255, 255, 255), self._font, "rm")

    def boxed(self, x: float, y: float, text: str) -> None:
        """Write a text on the colour of free space, its box's upper left corner at a point, px."""
        box = (x, y, x + self.width(text) + 12, y + self._size + 8)
        self._draw.rectangle(box, self._look.free, self._look.centerline)
        self.text(x + 6, y + self._size / 2 + 4, text)

    def rule(self, x: float, y: float, length: float, text: str) -> None:
        """Draw a bar that stands for a length, its right end at a point, px."""
        self.text(x, y, text, anchor="rm", muted=True)
        right, half = x - self.width(text) - 0.4 * self._size, 0.25 * self._size
        left, color = right - length, self._look.text
        for line in ((left, y, right, y), *((k, y - half, k, y + half) for k in (left, right))):
            self._draw.line(line, color, max(2, self._size // 12))

    def cars(
        self, x: float, y: float, names: Sequence[str], texts: Sequence[str], step: float
    ) -> None:
        """Write names in a row, each behind its car's colour and before a text of its own.

        Args:
            x: Left end, px.
            y: Middle, px.
            names: The cars', in their order.
            texts: One a car, perhaps empty.
            step: From a car to the next one, px; see `car_step`.
        """
        for car, (name, text) in enumerate(zip(names, texts, strict=True)):
            left, half = x + car * step, 0.35 * self._size
            box = (left, y - half, left + 2.6 * half, y + half)
            self._draw.rectangle(box, CARS[car % len(CARS)], OUTLINE)
            end = left + 1.4 * self._size
            end += self.text(end, y, name)
            self.text(end + 0.5 * self._size, y, text, muted=True)

    def car_step(self, names: Sequence[str], widest: str) -> float:
        """Room that a car takes in a row, px, with the widest text behind its name."""
        tail = self.width(widest) + 0.5 * self._size if widest else 0.0
        return max(map(self.width, names)) + tail + 2.6 * self._size

    def speeds(self, x: float, y: float, top_speed: float) -> float:
        """Show the colours of speed, the right end at a point, px. Returns their width, px."""
        last = f"{top_speed:g} m/s"
        x_bar_end = x - self.width(last) - 0.4 * self._size
        each, half = 0.22 * self._size, 0.3 * self._size
        left = x_bar_end - SHADES * each
        for shade, color in enumerate(speed_colors()):
            box = (left + shade * each, y - half, left + (shade + 1) * each, y + half)
            self._draw.rectangle(box, color)
        self.text(x, y, last, anchor="rm", muted=True)
        self.text(left - 0.4 * self._size, y, "0", anchor="rm", muted=True)
        return x - left + self.width("0") + 0.4 * self._size
