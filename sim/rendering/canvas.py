"""An image that is drawn on in metres: cars, LiDAR hits, lines and labels, all with Pillow."""

from __future__ import annotations

from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Point = tuple[float, float]
Points = NDArray[np.float64]

TEXT: Final[Color] = (20, 20, 20)
TEXT_BACK: Final[Color] = (255, 255, 255)
OUTLINE: Final[Color] = (20, 20, 20)
CRASHED: Final[Color] = (220, 20, 20)  # outline of a car that has touched anything
# Okabe and Ito's colours, which the colour-blind tell apart; cars take them in turn.
CARS: Final[tuple[Color, ...]] = (
    (0, 114, 178),
    (230, 159, 0),
    (204, 121, 167),
    (0, 158, 115),
    (213, 94, 0),
    (86, 180, 233),
    (240, 228, 66),
)

_BODY: Final = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
_NOSE: Final = np.array([[1.0, 0.0], [0.4, 0.8], [0.4, -0.8]])


def to_pixels(points: Points, centre: Point, zoom: float, size: tuple[int, int]) -> Points:
    """Find where points lie in an image.

    Args:
        points: (N, 2) m.
        centre: What lies in the middle of the image, m.
        zoom: Scale, px/m.
        size: Width and height of the image, px.

    Returns:
        (N, 2) px to the right of and below the upper left corner.
    """
    pixels: Points = (points - centre) * (zoom, -zoom) + (size[0] / 2, size[1] / 2)
    return pixels


def scan_hits(
    scan: NDArray[np.floating], pose: Points, angles: Points, mount_x: float, max_range: float
) -> Points:
    """Find where the beams of a scan hit something.

    Args:
        scan: (B,) m.
        pose: (3,) x m, y m, yaw rad of the car.
        angles: (B,) rad of the beams, from straight ahead to the left.
        mount_x: Where the LiDAR is, m ahead of the centre of gravity.
        max_range: What a beam that hits nothing reads, m.

    Returns:
        (H, 2) m, H at most B.
    """
    x, y, yaw = pose
    cos, sin = np.cos(yaw), np.sin(yaw)
    forward, left = mount_x + scan * np.cos(angles), scan * np.sin(angles)
    hits: Points = np.column_stack([x + cos * forward - sin * left, y + sin * forward + cos * left])
    return hits[scan < max_range]


class Canvas:
    """Draws on an image in metres.

    Args:
        image: Drawn on in place; RGB.
        centre: What lies in its middle, m.
        zoom: Scale, px/m.
        ratio: Pixels of the image for one of the picture that it is scaled down to; lines and
            dots are as much wider.
    """

    def __init__(self, image: Image.Image, centre: Point, zoom: float, ratio: int = 1) -> None:
        self.image = image
        self.draw = ImageDraw.Draw(image)
        self._centre, self._zoom, self._ratio = centre, zoom, ratio

    def copy(self) -> Canvas:
        """A canvas that looks the same and can be drawn on without changing this one."""
        return Canvas(self.image.copy(), self._centre, self._zoom, self._ratio)

    def to_pixels(self, points: Points) -> Points:
        """Find where points lie in the image; see `to_pixels`."""
        return to_pixels(points, self._centre, self._zoom, self.image.size)

    def line(self, points: Points, color: Color, width: float = 1.0) -> None:
        """Draw a line through points.

        Args:
            points: (N, 2) m.
            color: Red, green, blue.
            width: px of the picture.
        """
        pixels = self.to_pixels(points).ravel().tolist()
        self.draw.line(pixels, color, round(width * self._ratio), joint="curve")

    def dots(self, points: Points, color: Color) -> None:
        """Mark points by squares of two pixels of the picture.

        Args:
            points: (N, 2) m.
            color: Red, green, blue.
        """
        pixels, side = self.to_pixels(points), range(2 * self._ratio)
        squares = np.concatenate([pixels + np.array(corner) for corner in product(side, side)])
        self.draw.point(squares.ravel().tolist(), color)

    def discs(self, points: Points, color: Color, radius: float) -> None:
        """Mark points by discs.

        Args:
            points: (N, 2) m.
            color: Red, green, blue.
            radius: px of the picture.
        """
        radius *= self._ratio
        for x, y in self.to_pixels(points).tolist():
            self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), color)

    def car(
        self,
        pose: Points,
        size: tuple[float, float],
        fill: Color,
        outline: Color,
        *,
        least: float,
        edge: float = 1.0,
    ) -> None:
        """Draw a car's rectangle, and a dark nose.

        Args:
            pose: (3,) x m, y m, yaw rad.
            size: Length and width, m.
            fill: Colour of the rectangle.
            outline: Colour of its outline.
            least: px of the picture; a car that is shorter is drawn enlarged.
            edge: Width of the outline, px of the picture.
        """
        x, y, yaw = pose
        enlarge = max(1.0, least * self._ratio / (size[0] * self._zoom))
        half = enlarge * np.array(size) / 2
        cos, sin = np.cos(yaw), np.sin(yaw)
        turn = np.array([[cos, sin], [-sin, cos]])
        for shape, inside in ((_BODY, fill), (_NOSE, OUTLINE)):
            corners = self.to_pixels(shape * half @ turn + (x, y)).ravel().tolist()
            self.draw.polygon(corners, inside, outline, round(edge * self._ratio))

    def label(self, at: Point, text: str, font: Font) -> None:
        """Write a text on a white ground.

        Args:
            at: Its upper left corner, px of the image.
            text: One line.
            font: Font, of the image's size.
        """
        edge = 2 * self._ratio
        left, top, right, bottom = self.draw.textbbox(at, text, font)
        self.draw.rectangle((left - edge, top - edge, right + edge, bottom + edge), TEXT_BACK)
        self.draw.text(at, text, TEXT, font)
