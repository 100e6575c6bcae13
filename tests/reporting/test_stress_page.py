"""The page of a stress evaluation in a real Chromium: what is drawn of the cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from f110_fl.evaluation.statistics import wilson_interval
from f110_fl.sweeps.stress_report import write_stress_page

TEXTS = "return [...document.querySelectorAll(arguments[0])].map((found) => found.textContent)"


def cell(successes: int, **settings: float) -> dict[str, Any]:
    """A cell of ten episodes."""
    outcomes = {}
    for name, count in (("success", successes), ("crash", 10 - successes)):
        low, high = wilson_interval(count, 10)
        outcomes[name] = {"rate": count / 10, "low": low, "high": high, "count": count}
    entry = {"episodes": 10, "outcomes": outcomes, "laps": successes}
    return {"settings": settings, "cars": {"car_0": entry}}


def axis(name: str, unit: str, *values: float) -> dict[str, Any]:
    return {"name": name, "unit": unit, "about": f"<b>{name}</b>", "values": values}


def found_break(along: str, holds: float, breaks: float | None) -> dict[str, Any]:
    rate = None if breaks is None else 0.5
    interval = None if breaks is None else wilson_interval(5, 10)
    own = {"holds": holds, "breaks": breaks, "certain": breaks, "rate": rate, "interval": interval}
    return {"car": "car_0", "axis": along, "at": {}, **own}


DOCUMENT = {
    "name": "small",
    "scenario": "lap",
    "checkpoint": "lap.safetensors",
    "seed": 0,
    "episodes": 10,
    "threshold": 0.9,
    "cars": ["car_0"],
    "success": "success",
    "nominal": cell(10),
    "sweeps": [
        {
            "axes": [axis("mass", "kg", 4, 5)],
            "cells": [cell(10, mass=4), cell(5, mass=5)],
            "breaks": [found_break("mass", 4, 5)],
        },
        {
            "axes": [axis("friction", "", 1, 0.5), axis("latency", "s", 0, 0.1, 0.2)],
            "cells": [
                cell(n, friction=friction, latency=latency)
                for friction, row in ((1, (10, 9, 5)), (0.5, (10, 2, 0)))
                for latency, n in zip((0, 0.1, 0.2), row, strict=True)
            ],
            "breaks": [found_break("latency", 0.2, None)],
        },
    ],
}


def test_cells_axes_and_breaks_are_drawn(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "stress.html"
    write_stress_page(path, DOCUMENT)
    browser.get_log("browser")
    browser.get(path.as_uri())
    assert browser.execute_script("return document.documentElement.dataset.ready") == "1"
    assert browser.get_log("browser") == []
    assert browser.title == "small: stress"

    def texts(selector: str) -> list[str]:
        found: list[str] = browser.execute_script(TEXTS, selector)
        return found

    assert texts("#maps td") == ["100", "90", "50", "100", "20", "0"]
    assert texts("#maps thead th")[1:] == ["0 s", "0.1 s", "0.2 s"]
    # The line between held and broken: before 50 and 20, and above 20.
    assert texts("#maps td.edge-left") == ["50", "20"]
    assert texts("#maps td.edge-top") == ["20"]
    assert texts("#alone circle.below title") == ["5 kg: success 5 of 10, 50 [24, 76] %"]
    assert texts("#alone h3") == ["mass: <b>mass</b>, kg"]  # as text
    rows = ["mass", "", "4 kg", "5 kg", "50 [24, 76] %", "5 kg"]
    assert texts("#breaks tbody tr:first-child > *") == rows
    assert texts("#breaks tbody tr:last-child > *")[2:] == ["0.2 s", "none", "", "none"]

    browser.execute_script(
        "const list = document.getElementById('measure'); list.value = 'crash';"
        "list.dispatchEvent(new Event('change'))"
    )
    assert texts("#maps td") == ["0", "10", "50", "0", "80", "100"]
