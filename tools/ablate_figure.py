"""Learning curves with bands as an SVG file: small, and the same bytes for the same numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS: Final = ("#000000", "#999999", "#e69f00", "#0072b2", "#009e73", "#cc79a7")
WIDTH: Final = 400  # of a panel, px
HEIGHT: Final = 300
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 28, 40  # margins of a panel's axes, px


class Line(NamedTuple):
    """One curve: its name and (K,) arrays; the band is absent where its bounds are infinite."""

    name: str
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers within bounds, about ``count`` of them."""
    raw = (high - low) / count
    if raw <= 0.0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def draw(
    panels: Mapping[str, tuple[NDArray[np.float64], Sequence[Line]]], x_label: str, y_label: str
) -> str:
    """Return the figure.

    Args:
        panels: By title: (K,) abscissae, and the lines; a name has the same colour everywhere.
        x_label: What the abscissae are, with unit.
        y_label: What the ordinates are, with unit.
    """
    names = list(dict.fromkeys(line.name for _, lines in panels.values() for line in lines))
    colours = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(names)}
    low, high = _bounds([line for _, lines in panels.values() for line in lines])
    width, height = WIDTH * len(panels), HEIGHT + 24 * (-(-len(names) // (3 * len(panels))))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, (title, (x, lines)) in enumerate(panels.items()):
        parts.append(f'<g transform="translate({number * WIDTH} 0)">')
        parts += _panel(title, x, lines, colours, (low, high), (x_label, y_label))
        parts.append("</g>")
    for k, name in enumerate(names):
        column, row = k % (3 * len(panels)), k // (3 * len(panels))
        left, middle = LEFT + column * (WIDTH - LEFT) // 3, HEIGHT + 12 + 24 * row
        parts.append(
            f'<path d="M{left} {middle}h20" stroke="{colours[name]}" stroke-width="2.5"/>'
            f'<text x="{left + 25}" y="{middle + 4}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bounds(lines: Sequence[Line]) -> tuple[float, float]:
    """Return the range of the means, with room for the bands as far as they are not absurd."""
    means = np.concatenate([line.mean for line in lines])
    low, high = float(means.min()), float(means.max())
    room = 0.15 * (high - low) or 1.0
    return low - room, high + room


def _panel(
    title: str,
    x: NDArray[np.float64],
    lines: Sequence[Line],
    colours: Mapping[str, str],
    bounds: tuple[float, float],
    labels: tuple[str, str],
) -> list[str]:
    first, last = float(x[0]), float(x[-1])
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def right(value: float) -> float:
        return LEFT + across * (value - first) / ((last - first) or 1.0)

    def below(value: float) -> float:
        return TOP + down * (bounds[1] - value) / (bounds[1] - bounds[0])

    parts = [f'<text x="{LEFT}" y="{TOP - 10}" font-weight="bold">{escape(title)}</text>']
    for value in ticks(first, last):
        place = f"{right(value):.1f}"
        parts.append(f'<path d="M{place} {TOP}v{down}" stroke="#eee"/>')
        parts.append(
            f'<text x="{place}" y="{TOP + down + 15}" text-anchor="middle">{value:g}</text>'
        )
    for value in ticks(*bounds):
        place = f"{below(value):.1f}"
        parts.append(f'<path d="M{LEFT} {place}h{across}" stroke="#eee"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{place}" dy="4" text-anchor="end">{value:g}</text>')
    for line in lines:
        points = [f"{right(a):.1f} {below(b):.1f}" for a, b in zip(x, line.mean, strict=True)]
        if np.isfinite(line.low).all():
            edge = [*zip(x, line.high, strict=True), *zip(x[::-1], line.low[::-1], strict=True)]
            clipped = [(a, min(max(b, bounds[0]), bounds[1])) for a, b in edge]
            band = "L".join(f"{right(a):.1f} {below(b):.1f}" for a, b in clipped)
            parts.append(f'<path d="M{band}Z" fill="{colours[line.name]}" fill-opacity=".1"/>')
        parts.append(
            f'<path d="M{"L".join(points)}" fill="none" stroke="{colours[line.name]}" '
            'stroke-width="2"/>'
        )
    middle = TOP + down // 2
    parts.append(
        f'<text x="{LEFT + across // 2}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(labels[0])}</text>"
        f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(labels[1])}</text>"
    )
    return parts
