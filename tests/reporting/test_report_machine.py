"""The report's time machine in a real Chromium: rounds, moments, and where the cars are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import report_data
from report_run import Json
from report_window import Open, Report

from sim.layout import YAW, V, X, Y


def test_the_time_machine_goes_through_the_rounds(open_report: Open, one_run: Json) -> None:
    page = open_report(one_run)
    machine = page.state["machine"]
    assert machine["label"] == "round 100"
    assert machine["at"] == machine["last"]
    assert [each["name"] for each in machine["stages"]] == [
        "global",
        "client 00",
        "client 01",
        "client 02",
    ]
    before = page.pictures()
    page.slide("round", 0)
    page.until("report.state().machine.stages[0].number === 0")
    page.drawn()
    assert page.texts("#round-label") == ["round 1"]
    assert all(new != old for new, old in zip(page.pictures(), before, strict=True))


def test_cars_are_drawn_where_they_were(open_report: Open, one_run: Json) -> None:
    page = open_report(one_run)
    recording = report_data.recording(20)
    colours = page.run(
        "const style = getComputedStyle(document.documentElement);"
        "return [0, 1].map((k) => style.getPropertyValue('--car-' + k).trim())"
    )
    pictures = []
    for frame in (0, 17, 40, 60):
        page.slide("scrubber", frame)
        machine = page.state["machine"]
        assert machine["at"] == frame
        for place, stage in enumerate(machine["stages"]):
            states = recording.episodes[stage["number"]].states
            for index, car in enumerate(stage["cars"]):
                expected = states[min(frame, len(states) - 1), index, [X, Y, YAW, V]]
                found = [car[name] for name in ("x", "y", "yaw", "speed")]
                np.testing.assert_allclose(found, expected, atol=6e-4)
            left, top = stage["cars"][0]["canvas"]  # the first car is drawn over the others
            assert colour_at(page, place, left, top) == colours[0]
        pictures.append(page.pictures())
    for before, after in pairwise(pictures):
        assert before[0] != after[0]


def colour_at(page: Report, place: int, left: float, top: float) -> str:
    """A canvas's colour at a point, as #rrggbb."""
    found = page.run(
        "const canvas = document.querySelectorAll('.stage canvas')[arguments[0]];"
        "const [x, y] = [arguments[1] * devicePixelRatio, arguments[2] * devicePixelRatio];"
        "return [...canvas.getContext('2d').getImageData(x, y, 1, 1).data]",
        place,
        left,
        top,
    )
    return "#" + "".join(f"{value:02x}" for value in found[:3])


def test_keys_of_the_time_machine(open_report: Open, one_run: Json) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_report(one_run)
    page.run("document.getElementById('scrubber').focus()")
    page.key(Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert page.state["machine"]["at"] == 1
    page.key(Keys.END)
    assert page.state["machine"]["at"] == page.state["machine"]["last"]
    page.key("[")
    assert page.state["machine"]["rate"] == 0.5
    page.key("]", "]", "]", "]", "]", "]")
    assert page.state["machine"]["rate"] == 8
    page.key(",")
    page.until("report.state().machine.label === 'round 75'")
    page.key(Keys.PAGE_DOWN)
    page.until("report.state().machine.label === 'round 50'")
    page.key(".", Keys.PAGE_UP, ".")
    page.until("report.state().machine.label === 'round 100'")
    page.key(" ")  # from the start, as it stands at the end
    page.until("report.state().machine.playing === false && report.state().machine.at > 0")
    assert page.state["machine"]["at"] == page.state["machine"]["last"]
