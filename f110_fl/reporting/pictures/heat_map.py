"""Heat maps of a stress evaluation as a small SVG file, with equal bytes for equal numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final
from xml.sax.saxutils import escape

CELL: Final = (52, 30)  # width and height of a cell, px
LEFT: Final = 110  # px, for the rows' values
TOP: Final = 52  # px, for a title and the columns' values
GAP: Final = 26  # px between maps
FEW: Final = (213, 94, 0)  # of Okabe and Ito's colours, which the colour-blind tell apart
MANY: Final = (0, 114, 178)
STRONGEST: Final = 0.65  # of a colour over white, so that black text is read on it

Document = Mapping[str, Any]


def heat_maps(found: Document) -> str:
    """Return the success rates of the matrix as an SVG, or, without one, of each axis in a row.

    A map's last two axes are its rows and columns, its others stand in its title; maps are one
    below the other. The thick line is where success falls below the threshold.

    Args:
        found: What `f110_fl.sweeps.stress_report.document` returned; its first car is drawn.
    """
    parts: list[str] = []
    y, widest = 0, 0
    several = [sweep for sweep in found["sweeps"] if len(sweep["axes"]) > 1]
    for sweep in several or found["sweeps"]:
        for title, rows, columns, rates in _maps(found, sweep):
            parts += _map(y, title, rows, columns, rates, found["threshold"])
            y += TOP + len(rates) * CELL[1] + GAP
            widest = max(widest, LEFT + len(columns) * CELL[0], 7 * len(title))
    width, height = widest + 10, max(y - GAP, 0) + 10
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="DejaVu Sans, sans-serif" font-size="12">'
    )
    ground = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, ground, *parts, "</svg>"]) + "\n"


def _maps(
    found: Document, sweep: Mapping[str, Any]
) -> Iterator[tuple[str, list[str], list[str], list[list[float]]]]:
    """Yield title, names of rows and of columns, and rates by row, of each map of a sweep."""
    car, outcome, cells = found["cars"][0], found["success"], sweep["cells"]
    rates = [cell["cars"][car]["outcomes"][outcome]["rate"] for cell in cells]
    *others, columns = sweep["axes"]
    rows = others.pop() if others else None
    names = [_value(columns, value) for value in columns["values"]]
    width = len(names)
    height = len(rows["values"]) if rows else 1
    for n, fixed in enumerate(product(*(other["values"] for other in others))):
        parts = [f"{o['name']} {_value(o, v)}: " for o, v in zip(others, fixed, strict=True)]
        along = columns["about"]
        title = "".join(parts) + (f"{rows['about']}, over {along}" if rows else along)
        shown = [_value(rows, value) for value in rows["values"]] if rows else [outcome + ", %"]
        own = rates[n * width * height :]
        yield title, shown, names, [own[i * width : (i + 1) * width] for i in range(height)]


def _value(axis: Mapping[str, Any], value: float) -> str:
    return f"{value:g} {axis['unit']}".rstrip()


def _map(
    y: int,
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    rates: Sequence[Sequence[float]],
    threshold: float,
) -> Iterator[str]:
    """Yield the elements of a map whose upper edge is at y, px."""
    yield _text(0, y + 16, title, anchor="start", weight=600)
    wide, high = CELL
    for j, name in enumerate(columns):
        yield _text(LEFT + (j + 0.5) * wide, y + TOP - 10, name, color="#5f6875")
    edges = []
    for i, name in enumerate(rows):
        top = y + TOP + i * high
        yield _text(LEFT - 10, top + high / 2 + 4, name, anchor="end", color="#5f6875")
        for j, rate in enumerate(rates[i]):
            left = LEFT + j * wide
            yield (
                f'<rect x="{left}" y="{top}" width="{wide}" height="{high}" fill="{_color(rate)}" '
                'stroke="#ffffff"/>'
            )
            yield _text(left + wide / 2, top + high / 2 + 4, f"{100 * rate:.0f}")
            if j and (rate < threshold) != (rates[i][j - 1] < threshold):
                edges.append(f"M{left} {top}v{high}")
            if i and (rate < threshold) != (rates[i - 1][j] < threshold):
                edges.append(f"M{left} {top}h{wide}")
    if edges:
        yield (
            f'<path d="{"".join(edges)}" stroke="#171a1f" stroke-width="2.5" '
            'stroke-linecap="square" fill="none"/>'
        )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "middle",
    color: str = "#171a1f",
    weight: int = 400,
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{color}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )


def _color(rate: float) -> str:
    """Return the colour of a rate: from orange at 0 through white at 1/2 to blue at 1."""
    lead = 2 * rate - 1
    end = MANY if lead > 0 else FEW
    share = STRONGEST * abs(lead)
    return "#" + "".join(f"{round(255 + share * (channel - 255)):02x}" for channel in end)
