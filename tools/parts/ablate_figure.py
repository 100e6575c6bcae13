"""Learning curves with bands as a small SVG file, with equal bytes for equal numbers."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which the colour-blind can distinguish.
COLOURS: Final = ("#000000", "#999999", "#e69f00", "#0072b2", "#009e73", "#cc79a7")
SIZE: Final = (5.0, 4.0)  # of a panel, in; at 72 pixels each


class Line(NamedTuple):
    """One curve: its name and (K,) arrays; there is no band where its bounds are not finite."""

    name: str
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def draw(
    panels: Mapping[str, tuple[NDArray[np.float64], Sequence[Line]]], x_label: str, y_label: str
) -> str:
    """Return the figure.

    Args:
        panels: (K,) abscissae and the lines, by title; a name has the same colour everywhere.
        x_label: Label of the abscissae, with unit.
        y_label: Label of the ordinates, with unit.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(line.name for _, lines in panels.values() for line in lines))
    colours = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(names)}
    style = {
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9.0,
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "curves",  # names inside the file are the same the next time
    }
    with mpl.rc_context(style):  # type: ignore[arg-type] # some key, some value
        figure = Figure((SIZE[0] * len(panels), SIZE[1]), layout="constrained")
        row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axes, (title, (x, lines)) in zip(row, panels.items(), strict=True):
            axes.set_title(title)
            axes.set_xlabel(x_label)
            for line in lines:
                _plot(axes, x, line, colours[line.name])
        row[0].set_ylabel(y_label)
        row[0].set_ylim(*_bounds([line for _, lines in panels.values() for line in lines]))
        handles = {h.get_label(): h for axes in row for h in axes.get_lines()}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Creator": None, "Date": None})
    tenths = re.sub(r"(\d\.\d)\d+", r"\1", text.getvalue())  # of a pixel are fine enough
    return re.sub(r"\s*\n\s*", " ", tenths).strip().replace("> <", ">\n<") + "\n"


def _plot(axes: Axes, x: NDArray[np.float64], line: Line, colour: str) -> None:
    axes.plot(x, line.mean, color=colour, label=line.name)
    if np.isfinite(line.low).all():
        axes.fill_between(x, line.low, line.high, color=colour, alpha=0.1, linewidth=0)


def _bounds(lines: Sequence[Line]) -> tuple[float, float]:
    """Return the range of the means, with limited space for the bands."""
    means = np.concatenate([line.mean for line in lines])
    low, high = float(means.min()), float(means.max())
    room = 0.15 * (high - low) or 1.0
    return low - room, high + room
