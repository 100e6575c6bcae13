"""What a stress evaluation found: as JSON, as tables, as a page, and where the policy breaks."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from f110_fl.evaluation.robustness import Tally, find_break
from f110_fl.files import write_atomic
from f110_fl.reporting.pages.document import assemble
from f110_fl.sweeps.axes import NAMED
from f110_fl.sweeps.stress import Axis, Stress, Sweep

SCRIPTS: Final = ("common/theme.js", "stress/stress.js")
STYLES: Final = ("common/base.css", "report/report.css", "stress/stress.css")
Document = dict[str, Any]
RATES: Final = ("success", "finished", "crash", "time_limit")


def settings_text(settings: Mapping[str, float]) -> str:
    """Return a cell's values in words: ``friction 0.9, latency 0.04 s``; "nominal" for none."""
    return ", ".join(f"{name} {_valued(name, v)}" for name, v in settings.items()) or "nominal"


def _valued(name: str, value: float) -> str:
    unit = NAMED[name].unit if name in NAMED else ""
    return f"{value:g} {unit}".rstrip()


def document(
    stress: Stress, results: Sequence[Mapping[str, Any]], checkpoint: Path | None
) -> Document:
    """Return everything that was found, for JSON.

    Args:
        stress: The evaluation.
        results: Of its cells, in their order; each has ``settings`` and ``cars``, the latter as
            `f110_fl.training.metrics.report` returns them.
        checkpoint: The policy's file; None: scripted drivers only.

    Returns:
        ``name``, ``scenario``, ``checkpoint``, ``seed``, ``episodes``, ``threshold``; ``cars``
        whose success is judged, ``success``, the outcome that it is; ``nominal``, a cell;
        ``sweeps`` with ``axes``, ``cells`` in order, the last axis varying fastest, ``breaks``.
    """
    scenario = stress.nominal.scenario
    cars = list(scenario.learners) or [car.name for car in scenario.env.cars]
    success = "success" if scenario.learners else "finished"
    found: Document = {
        "name": stress.name,
        "scenario": scenario.name,
        "checkpoint": None if checkpoint is None else checkpoint.name,
        "seed": scenario.shared_seed,
        "episodes": scenario.evaluation.episodes,
        "threshold": stress.threshold,
        "cars": cars,
        "success": success,
        "nominal": _cell(results[0]),
        "sweeps": [],
    }
    first = 1
    for sweep in stress.sweeps:
        cells = [_cell(result) for result in results[first : first + len(sweep.cells)]]
        first += len(sweep.cells)
        axes = [
            {"name": a.name, "unit": a.unit, "about": a.about, "values": a.values}
            for a in sweep.axes
        ]
        breaks = [
            entry for car in cars for entry in _breaks(sweep, cells, car, success, stress.threshold)
        ]
        found["sweeps"].append({"axes": axes, "cells": cells, "breaks": breaks})
    return found


def _cell(result: Mapping[str, Any]) -> dict[str, Any]:
    return {"settings": result["settings"], "cars": result["cars"]}


def _breaks(
    sweep: Sweep, cells: Sequence[Mapping[str, Any]], car: str, success: str, threshold: float
) -> Iterator[dict[str, Any]]:
    """Yield where a car's policy breaks along each axis, for each combination of the others."""
    by_place = {tuple(cell["settings"].values()): cell for cell in cells}
    for along, axis in enumerate(sweep.axes):
        others: list[Axis] = [a for a in sweep.axes if a is not axis]
        for fixed in product(*(other.values for other in others)):
            line = [by_place[(*fixed[:along], v, *fixed[along:])] for v in axis.values]
            tallies = [_tally(cell, car, success) for cell in line]
            found = find_break(tallies, threshold)
            at = found.breaks
            yield {
                "car": car,
                "axis": axis.name,
                "at": {o.name: v for o, v in zip(others, fixed, strict=True)},
                **{
                    name: None if index is None else axis.values[index]
                    for name, index in found._asdict().items()
                },
                "rate": None if at is None else tallies[at].rate,
                "interval": None if at is None else tallies[at].interval,
            }


def _tally(cell: Mapping[str, Any], car: str, success: str) -> Tally:
    entry = cell["cars"][car]
    return Tally(entry["outcomes"][success]["count"], entry["episodes"])


def break_lines(found: Document) -> list[str]:
    """Return where the policy breaks, a line an axis that is alone or the last of the matrix."""
    lines = []
    for sweep in found["sweeps"]:
        last = sweep["axes"][-1]["name"]
        for entry in sweep["breaks"]:
            if entry["axis"] != last:
                continue
            car = f"{entry['car']}: " if len(found["cars"]) > 1 else ""
            where = f"{settings_text(entry['at'])}: " if entry["at"] else ""
            lines.append(f"{car}{where}{last}: {_broken(entry, found['threshold'])}")
    return lines


def _broken(entry: Mapping[str, Any], threshold: float) -> str:
    """Return in words where a policy breaks along an axis."""
    name, breaks, certain = entry["axis"], entry["breaks"], entry["certain"]
    if breaks is None:
        return f"holds up to {_valued(name, entry['holds'])}, the last value"
    low, high = (round(100 * bound) for bound in entry["interval"])
    rate = f"{entry['rate']:.0%} [{low}, {high}], below {threshold:.0%}"
    words = f"breaks at {_valued(name, breaks)} ({rate})"
    if entry["holds"] is not None:
        words = f"holds up to {_valued(name, entry['holds'])}, {words}"
    if certain == breaks:
        return words
    if certain is None:
        return f"{words}, within the interval of chance"
    return f"{words}, beyond chance from {_valued(name, certain)}"


def tables(found: Document) -> Iterator[Table]:
    """Yield a table for each car and sweep: rates of success, %, or more of one axis alone."""
    for car in found["cars"]:
        title = f"{car}: " if len(found["cars"]) > 1 else ""
        for sweep in found["sweeps"]:
            if len(sweep["axes"]) == 1:
                yield _alone(found, sweep, car, title)
            else:
                yield from _maps(found, sweep, car, title)


def _table(title: str, caption: str) -> Table:
    return Table(
        box=None,
        pad_edge=False,
        collapse_padding=True,
        title=Text(title),
        title_justify="left",
        caption=Text(caption),
        caption_justify="left",
    )


def _alone(found: Document, sweep: Mapping[str, Any], car: str, title: str) -> Table:
    (axis,) = sweep["axes"]
    table = _table(f"{title}{axis['about']}", "[low, high]: 95 % interval, %")
    for name in (axis["name"], found["success"], "crash", "lap, s"):
        table.add_column(name, justify="right", no_wrap=True)
    for cell, value in zip(sweep["cells"], axis["values"], strict=True):
        entry = cell["cars"][car]
        rates = [entry["outcomes"][outcome] for outcome in (found["success"], "crash")]
        laps = entry.get("lap_time")
        table.add_row(
            _valued(axis["name"], value),
            *(f"{r['rate']:.0%} [{100 * r['low']:.0f}, {100 * r['high']:.0f}]" for r in rates),
            f"{laps['mean']:.2f}" if laps else "-",
        )
    return table


def _maps(found: Document, sweep: Mapping[str, Any], car: str, title: str) -> Iterator[Table]:
    *others, rows, columns = sweep["axes"]
    width, height = len(columns["values"]), len(rows["values"])
    cells = sweep["cells"]
    for n, fixed in enumerate(product(*(other["values"] for other in others))):
        at = {other["name"]: value for other, value in zip(others, fixed, strict=True)}
        where = f"{settings_text(at)}; " if at else ""
        caption = f"{found['success']}, %, of {found['episodes']} episodes"
        table = _table(f"{title}{where}{rows['about']} over {columns['about']}", caption)
        table.add_column(f"{rows['name']} \\ {columns['name']}", justify="right", no_wrap=True)
        for value in columns["values"]:
            table.add_column(_valued(columns["name"], value), justify="right", no_wrap=True)
        for i, value in enumerate(rows["values"]):
            start = (n * height + i) * width
            own = [_tally(c, car, found["success"]) for c in cells[start : start + width]]
            shown = [
                Text(f"{100 * t.rate:.0f}", "" if t.rate >= found["threshold"] else "red")
                for t in own
            ]
            table.add_row(_valued(rows["name"], value), *shown)
        yield table


def csv_text(found: Document) -> str:
    """Return all cells as CSV, a row a cell and car: values of the axes, rates, intervals, laps.

    A cell that does not set an axis has nothing there: the scenario's value holds.
    """
    axes = dict.fromkeys(axis["name"] for sweep in found["sweeps"] for axis in sweep["axes"])
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    bounds = [f"{rate}{end}" for rate in RATES for end in ("", "_low", "_high")]
    writer.writerow(["car", *axes, "episodes", *bounds, "return", "lap_time"])
    cells = [found["nominal"], *(cell for sweep in found["sweeps"] for cell in sweep["cells"])]
    nothing = {"rate": 0.0, "low": "", "high": ""}
    for cell in cells:
        for car in found["cars"]:
            entry = cell["cars"][car]
            rates = [entry["outcomes"].get(rate, nothing) for rate in RATES]
            numbers = [rate[end] for rate in rates for end in ("rate", "low", "high")]
            others = [entry.get(name, {}).get("mean", "") for name in ("return", "lap_time")]
            settings = [cell["settings"].get(axis, "") for axis in axes]
            writer.writerow([car, *settings, entry["episodes"], *numbers, *others])
    return file.getvalue()


def write_stress_page(path: Path, found: Mapping[str, Any]) -> None:
    """Write what a stress evaluation found as one HTML file.

    Args:
        path: The file, in a folder that exists.
        found: What `document` returned.

    Raises:
        OSError: If the file cannot be written.
    """
    write_atomic(path, assemble("stress/stress.html", SCRIPTS, STYLES, found))
