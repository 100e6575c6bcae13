"""The report page in a real Chromium: what is drawn, and what the choices and keys do."""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_data
from report_window import Report

from sim.layout import YAW, V, X, Y

HOSTILE = (
    """</script><script>window.hacked = 1</script><img src=x onerror='window.hacked=1'>"&amp;"""
)
Json = dict[str, Any]
Open = Callable[..., Report]


@pytest.fixture(scope="module")
def single() -> Json:
    return report_data.document()


@pytest.fixture(scope="module")
def several() -> Json:
    return report_data.document(runs=6, episodes=1000, rounds=20)


@pytest.fixture(scope="module")
def agents() -> Json:
    return report_data.document(agents=("car_0", "car_1"), episodes=500, rounds=8, replays=False)


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Writes and opens a report, and looks afterwards for errors in the console."""
    page = Report(browser)

    def open_(document: Json, width: int = 1280, height: int = 800, **device: Any) -> Report:
        path = tmp_path / "report.html"
        path.write_text(report_data.page(document), encoding="utf-8")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics | device)
        still = [{"name": "prefers-reduced-motion", "value": "reduce"}]  # nothing scrolls slowly
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": still})
        browser.get(path.as_uri())
        page.until("document.documentElement.dataset.ready === '1'")
        page.settle()
        return page

    browser.get_log("browser")
    yield open_
    assert page.problems() == []


def changed(document: Json, **run: Any) -> Json:
    """A copy of a report whose first run is changed."""
    copied = copy.deepcopy(document)
    copied["runs"][0] |= run
    return copied


def everywhere(value: Any, text: str) -> Any:
    """The same data with a text in place of every name and message."""
    kept = {"kind", "metric", "of", "axis", "on", "form", "key", "data", "points", "outcome"}
    if isinstance(value, dict):
        return {key: each if key in kept else everywhere(each, text) for key, each in value.items()}
    if isinstance(value, list):
        return [everywhere(each, text) for each in value]
    return text if isinstance(value, str) else value


def renamed(value: Any, name: str, text: str) -> Any:
    """The same data with an agent called otherwise, in keys too."""
    if isinstance(value, dict):
        return {
            key.replace(name, text): each
            if key in ("data", "points")
            else renamed(each, name, text)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [renamed(each, name, text) for each in value]
    return value.replace(name, text) if isinstance(value, str) else value


def test_everything_is_drawn(open_page: Open, single: Json) -> None:
    page = open_page(single)
    assert page.driver.title == "gap-1 \u2013 report"
    assert page.texts("h1 #title") == ["gap-1"]
    charts = page.state["charts"]
    assert {"return", "success", "outcomes", "evaluation", "lap", "loss:car_0/critic"} <= {
        each["id"] for each in charts
    }
    assert all(each["drawn"] for each in charts)
    (returns,) = (each for each in charts if each["id"] == "return")
    assert [(each["name"], each["points"]) for each in returns["series"]] == [
        *((f"client 0{client}", 200) for client in range(3)),
        ("mean over clients", 200),
    ]
    assert page.run("return document.querySelectorAll('.plot svg path.line').length") > 40
    assert not page.run("return /NaN|undefined|null|Infinity/.test(document.body.innerText)")
    assert not page.run(
        "return [...document.querySelectorAll('svg *')].some((each) =>"
        " [...each.attributes].some(({value}) => /NaN|undefined|Infinity/.test(value)))"
    )


def test_the_axis_changes_the_curves(open_page: Open, single: Json) -> None:
    page = open_page(single)
    seen = set()
    for axis in ("steps", "seconds", "episodes"):
        page.click(f"[data-axis={axis}]")
        page.settle()
        assert page.state["axis"] == axis
        seen.add(page.drawing("return"))
        page.point("return", 1.0)
        mean = single["runs"][0]["training"][-1]
        assert page.chart("return")["reading"]["x"] == mean[axis][-1]
    assert len(seen) == 3


def test_one_client_is_shown_with_its_quartiles(open_page: Open, single: Json) -> None:
    page = open_page(single)
    before = page.drawing("return")
    page.choose("client", "client 01")
    page.settle()
    assert page.state["client"] == 1
    assert [each["name"] for each in page.chart("return")["series"]] == ["client 01"]
    assert page.drawing("return") != before
    page.point("outcomes", 0.5)
    found = page.chart("outcomes")["reading"]
    curve = single["runs"][0]["training"][1]
    place = curve["episodes"].index(found["x"])
    outcomes = curve["agents"]["car_0"]["outcomes"]
    assert {each["key"].partition(":")[2]: each["value"] for each in found["values"]} == {
        name: shares[place] for name, shares in outcomes.items()
    }


def test_another_agent_is_shown(open_page: Open, agents: Json) -> None:
    page = open_page(agents)
    before = page.drawing("return"), page.texts("#findings dd")
    page.choose("agent", "car_1")
    page.settle()
    assert page.state["agent"] == "car_1"
    assert (page.drawing("return"), page.texts("#findings dd")) != before
    assert {each["id"] for each in page.state["charts"] if "loss:" in each["id"]} == {
        "loss:car_1/critic",
        "loss:car_1/actor",
    }


@pytest.mark.parametrize("share", [0.0, 0.21, 0.5, 0.83, 1.0])
def test_the_crosshair_reads_the_data(open_page: Open, single: Json, share: float) -> None:
    page = open_page(single)
    page.point("return", share)
    training = single["runs"][0]["training"]
    found = page.chart("return")["reading"]
    place = training[-1]["episodes"].index(found["x"])
    span = training[-1]["episodes"][-1]
    assert found["x"] / span == pytest.approx(share, abs=0.02)
    assert {each["key"]: each["value"] for each in found["values"]} == {
        "mean" if curve["client"] is None else f"client:{curve['client']}": curve["agents"][
            "car_0"
        ]["return"][place]
        for curve in training
    }
    assert page.chart("success")["reading"]["x"] == found["x"]  # beside it, at the same place
    (tip,) = page.texts("#chart-return .tip")
    assert tip.startswith(f"episode {found['x']:,}")


def test_keys_read_a_chart(open_page: Open, single: Json) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page(single)
    page.run("document.querySelector('#chart-success .plot').focus()")
    page.key(Keys.END, Keys.ARROW_LEFT)
    page.drawn()
    mean = single["runs"][0]["training"][-1]
    assert page.chart("success")["reading"]["x"] == mean["episodes"][-2]
    said = page.run("return document.activeElement.getAttribute('aria-valuetext')")
    share = round(100 * mean["agents"]["car_0"]["outcomes"]["success"][-2])
    assert said.startswith(f"episode {mean['episodes'][-2]:,}: ")
    assert f"mean over clients {share}\u202f%" in said
    page.key(Keys.ESCAPE)
    page.drawn()
    assert page.chart("success")["reading"] is None


def test_losses_on_a_logarithmic_axis(open_page: Open, single: Json) -> None:
    page = open_page(single)
    ticks = (
        "return [...document.querySelectorAll('#chart-loss_car_0_critic .tick')]"
        ".map((each) => each.textContent)"
    )
    before, actor = page.drawing("loss_car_0_critic"), page.drawing("loss_car_0_actor")
    assert "0.1" not in page.run(ticks)
    page.click("#log")
    page.settle()
    assert page.chart("loss:car_0/critic")["log"]
    assert page.drawing("loss_car_0_critic") != before
    assert {"0.1", "1"} <= set(page.run(ticks))
    assert not page.chart("loss:car_0/actor")["log"]  # it is below zero
    assert page.drawing("loss_car_0_actor") == actor


def test_the_legend_hides_a_client_everywhere(open_page: Open, single: Json) -> None:
    page = open_page(single)
    before = page.drawing("return")
    page.click("#curve-legend [data-key='client:2']")
    page.settle()
    assert page.state["hidden"] == ["client:2"]
    for chart in page.state["charts"]:
        hidden = {each["key"]: each["hidden"] for each in chart["series"]}
        assert hidden.get("client:2", True)
        assert not any(value for key, value in hidden.items() if key != "client:2")
    assert page.drawing("return") != before
    page.click("#curve-legend [data-key='client:2']")
    page.settle()
    assert page.drawing("return") == before


def test_smoothing_is_only_drawn(open_page: Open, single: Json) -> None:
    page = open_page(single)
    smooth = page.drawing("success")
    page.point("success", 0.4)
    read = page.chart("success")["reading"]
    page.click("#smooth")
    page.settle()
    assert page.drawing("success") != smooth
    page.point("success", 0.4)
    assert page.chart("success")["reading"] == read


def test_the_client_that_is_off_is_named(open_page: Open, single: Json) -> None:
    page = open_page(single)
    assert page.texts("#clients em") == ["off"]
    rows = page.texts("#clients tbody tr")
    assert [("off" in row) for row in rows] == [False, False, True]
    (finding,) = (text for text in page.texts("#findings dd") if "is off" in text)
    assert finding.startswith("Client 02 is off: success")
    alike = copy.deepcopy(single)
    for curve in alike["runs"][0]["training"]:
        curve["agents"] = alike["runs"][0]["training"][0]["agents"]
    for each in alike["runs"][0]["history"]:
        each["drift"] = dict.fromkeys(each["drift"], 0.5)
    page = open_page(alike)
    assert page.texts("#clients em") == []
    assert any(text.startswith("None is off") for text in page.texts("#findings dd"))


def test_rounds_say_who_was_dropped_and_why(open_page: Open, single: Json) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page(single)
    rows = page.texts("#round-table tbody tr")
    assert [int(row.split()[0]) for row in rows] == list(range(100, 0, -1))
    assert "client 01: no answer in time" in rows[100 - 90]
    page.run("document.getElementById('strip').focus()")
    page.key(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, *[Keys.ARROW_LEFT] * 10)
    said = page.run("return document.activeElement.getAttribute('aria-valuetext')")
    assert said == "round 90, client 01: dropped: no answer in time"


def test_the_global_models_evaluations(open_page: Open, single: Json) -> None:
    page = open_page(single)
    evaluations = single["runs"][0]["globals"]
    rows = page.texts("#global-table tbody tr")
    assert len(rows) == len(evaluations)
    last = evaluations[-1]["agents"]["car_0"]
    assert f"{last['count']} of {last['trials']}" in rows[0]
    page.point("global-success", 0.5)
    found = page.chart("global-success")["reading"]
    (at,) = (each for each in evaluations if each["round"] == found["x"])
    assert found["values"][0]["value"] == at["agents"]["car_0"]["success"]


def test_the_time_machine_goes_through_the_rounds(open_page: Open, single: Json) -> None:
    page = open_page(single)
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


def test_cars_are_drawn_where_they_were(open_page: Open, single: Json) -> None:
    page = open_page(single)
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


def test_keys_of_the_time_machine(open_page: Open, single: Json) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page(single)
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


def test_groups_are_compared(open_page: Open, several: Json) -> None:
    page = open_page(several)
    assert page.state["run"] is None
    charts = {each["id"]: each for each in page.state["charts"]}
    names = [each["key"] for each in charts["group-success:global"]["series"]]
    assert names == ["group:0"] * 4 + ["group:1"] * 4  # three seeds and their mean
    page.point("group-success:global".replace(":", "_"), 1.0)
    (band,) = (
        each
        for each in several["bands"]
        if (each["group"], each["metric"], each["of"], each["axis"])
        == (1, "success", "global", "episodes")
    )
    found = page.chart("group-success:global")["reading"]["values"]
    assert band["iqm"][-1] in [each["value"] for each in found if each["key"] == "group:1"]
    before = page.drawing("group-success_global")
    page.click("#curve-legend [data-key='group:1']")
    page.settle()
    assert page.drawing("group-success_global") != before
    assert "\u221212 points" in page.texts("#pairs tbody tr")[0]
    assert "worse" in page.texts("#pairs tbody tr")[0]
    assert len(page.texts("#comparison-table tbody tr")) == 2


def test_a_run_of_several_is_shown(open_page: Open, several: Json) -> None:
    page = open_page(several)
    assert not page.driver.find_element("id", "rounds").is_displayed()
    page.click("#runs tbody tr:nth-child(3) button")
    page.settle()
    assert page.state["run"] == 2
    assert page.driver.find_element("id", "rounds").is_displayed()
    page.point("return", 1.0)
    found = {each["key"]: each["value"] for each in page.chart("return")["reading"]["values"]}
    mean = several["runs"][2]["training"][-1]
    assert found["mean"] == mean["agents"]["car_0"]["return"][-1]
    page.choose("run", "All, by group")
    assert page.state["run"] is None


def test_settings_are_filtered(open_page: Open, several: Json) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page(several)
    keys = [each["key"] for each in several["settings"]]
    assert page.texts("#settings-table tbody th") == keys
    page.driver.find_element("id", "filter").send_keys("LIDAR")
    assert page.texts("#settings-table tbody th") == ["env.lidar.beams"]
    page.driver.find_element("id", "filter").send_keys("x")
    assert page.texts("#settings-empty") == ["No setting fits."]
    page.key(*[Keys.BACKSPACE] * 6)
    page.click("#differing")
    assert page.texts("#settings-table tbody th") == ["federated.optimizer_strategy"]


def test_light_and_dark(open_page: Open, single: Json) -> None:
    page = open_page(single)
    dark = page.state["dark"]
    ground = "return getComputedStyle(document.body).backgroundColor"
    before = page.run(ground), page.pictures()[0]
    page.key("d")
    page.drawn()
    assert page.state["dark"] is not dark
    after = page.run(ground), page.pictures()[0]
    assert all(new != old for new, old in zip(after, before, strict=True))
    page.click("#theme")
    assert page.state["dark"] is dark


@pytest.mark.parametrize("federated", [True, False])
def test_what_is_missing_is_said(open_page: Open, single: Json, federated: bool) -> None:
    document = changed(
        single,
        federated=federated,
        state="unfinished",
        missing=["rounds.jsonl: not there"],
        training=[],
        evaluations={"clients": []},
        globals=[],
        history=[],
        machine=[],
        starts=[],
        steps=None,
        seconds=None,
        rounds=None,
    )
    document |= {"replays": None, "replaysMissing": "no trajectories", "settings": []}
    page = open_page(document)
    assert page.texts("#missing-list") == ["rounds.jsonl: not there"]
    assert page.texts("#state") == ["unfinished"]
    said = page.run("return document.body.innerText")
    assert said.count("No episode of training is recorded.") >= 3
    for text in ("no trajectories", "All settings are the defaults.", "No start is recorded."):
        assert text in said
    assert ("No round is finished yet." in said) is federated
    assert page.run("return document.querySelectorAll('.plot svg path').length") == 0


def test_numbers_that_are_missing_leave_gaps(open_page: Open, single: Json) -> None:
    document = copy.deepcopy(single)
    own = document["runs"][0]["training"][0]["agents"]["car_0"]
    own["return"] = [None if 50 <= k < 60 else value for k, value in enumerate(own["return"])]
    for each in document["runs"][0]["globals"]:
        each["agents"]["car_0"] |= {"low": None, "high": None, "returnSd": None, "crash": None}
    page = open_page(document)
    points = {each["key"]: each["points"] for each in page.chart("return")["series"]}
    assert points["client:0"] == 190
    page.point("return", 55 / 200)
    keys = [each["key"] for each in page.chart("return")["reading"]["values"]]
    assert "client:0" not in keys
    assert "client:1" in keys


def test_names_are_shown_as_they_are(open_page: Open, several: Json) -> None:
    document = renamed(everywhere(several, HOSTILE), "car_0", HOSTILE)
    document["replays"]["recording"]["cars"][0]["name"] = HOSTILE
    page = open_page(document)
    assert page.texts("#title") == [HOSTILE]
    assert HOSTILE in page.texts("#runs tbody tr")[0]
    assert HOSTILE in page.texts("#pairs tbody tr")[0]
    page.point("group-success_global", 0.5)
    page.run("scrollTo(0, 0)")
    page.click("#runs tbody tr:first-child button")
    page.settle()
    page.point("return", 0.5)
    assert page.run("return document.querySelectorAll('script').length") == 2
    assert page.run("return document.querySelectorAll('img').length") == 0
    assert page.run("return window.hacked === undefined")


def test_no_other_script_runs(open_page: Open, single: Json) -> None:
    page = open_page(single)
    page.run(
        "const script = document.createElement('script'); script.textContent = 'window.hacked = 1';"
        "document.body.append(script)"
    )
    assert page.run("return window.hacked === undefined")
    (problem,) = page.problems()
    assert "Content Security Policy" in problem["message"]


class References(HTMLParser):
    """Everything in a page that names another file."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.style = tag == "style"
        names = ("src", "href", "srcset", "action", "poster", "data")
        self.found += [value or "" for name, value in attrs if name in names]

    def handle_data(self, data: str) -> None:
        if self.style:
            self.found += re.findall(r"url\(\s*['\"]?([^)'\"]*)|@import\s+(\S+)", data)


def test_it_refers_to_nothing_outside(single: Json) -> None:
    references = References()
    references.feed(report_data.page(single))
    assert references.found  # the links to its sections
    assert all(each.startswith(("#", "data:")) for each in references.found)


def test_a_newer_format_is_refused_in_words(browser: Any, tmp_path: Path, single: Json) -> None:
    path = tmp_path / "report.html"
    path.write_text(report_data.page(single | {"format": 2}), encoding="utf-8")
    browser.get(path.as_uri())
    page = Report(browser)
    page.until("document.documentElement.dataset.ready === '1'")
    assert page.texts("#trouble") == [
        "This report was written by a newer version than this page can read."
    ]
    assert len(page.problems()) == 1  # the same error, in the console


@pytest.mark.parametrize("width", [360, 768, 1280, 3840])
def test_it_fits_every_screen(open_page: Open, several: Json, single: Json, width: int) -> None:
    phone = width < 500
    height = 640 if phone else width * 9 // 16
    for document in (several, single):
        page = open_page(document, width, height, mobile=phone, deviceScaleFactor=2 if phone else 1)
        assert page.run("return document.documentElement.scrollWidth") <= width
        cut = page.run(
            "return [...document.querySelectorAll('.chart, .tile, .card, .stage canvas')]"
            ".filter((each) => each.offsetParent).map((each) => each.getBoundingClientRect())"
            ".filter(({left, right}) => left < 0 || right > innerWidth).length"
        )
        assert cut == 0
        ticks = page.run(
            "return [...document.querySelectorAll('.chart .plot')].map((plot) => {"
            " const box = plot.closest('.chart').getBoundingClientRect();"
            " return [...plot.querySelectorAll('text')].every((each) => {"
            "  const own = each.getBoundingClientRect();"
            "  return own.left >= box.left && own.right <= box.right && own.bottom <= box.bottom;"
            " }); })"
        )
        assert all(ticks)


def test_it_prints_everything(open_page: Open, single: Json) -> None:
    page = open_page(single)
    if not page.state["dark"]:
        page.key("d")
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert not page.state["dark"]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = {
            name: page.driver.find_element("css selector", name).is_displayed()
            for name in ("nav", "#theme", "#play", ".controls", "#round-table", "#chart-return")
        }
        assert shown == dict.fromkeys(("nav", "#theme", "#play", ".controls"), False) | {
            "#round-table": True,
            "#chart-return": True,
        }
        assert page.run(
            "const row = document.querySelector('#round-table tr:last-child');"
            "const box = row.closest('.card').getBoundingClientRect();"
            "return row.getBoundingClientRect().bottom <= box.bottom"
        )
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        page.run("dispatchEvent(new Event('afterprint'))")
    assert page.state["dark"]


def test_it_can_be_used_without_a_mouse(open_page: Open, several: Json) -> None:
    page = open_page(several)
    unnamed = page.run(
        "return [...document.querySelectorAll('button, select, input, canvas, [tabindex], [role]')]"
        ".filter((each) => !(each.textContent.trim() || each.ariaLabel"
        " || each.closest('[aria-hidden]') || each.closest('label')))"
        ".map((each) => each.id || each.className)"
    )
    assert set(unnamed) <= {"live", "trouble"}  # they speak when there is something to say
    places = page.run(
        "return ['theme', 'run', 'smooth', 'play', 'scrubber', 'filter'].map((id) =>"
        " document.getElementById(id).tabIndex)"
    )
    assert places == [0] * 6


@contextmanager
def served(document: Json) -> Iterator[tuple[str, Callable[[Json], None], Callable[[], None]]]:
    """Serves a page and its data on this machine: its address, how to change it, how to end."""
    data = {"text": json.dumps(document)}
    html = report_data.page(document, "'self'").encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = data["text"].encode() if self.path == "/data" else html
            self.send_response(200)
            self.send_header(
                "Content-Type", "application/json" if self.path == "/data" else "text/html"
            )
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    try:
        yield (
            f"http://127.0.0.1:{server.server_port}/",
            lambda changed: data.update(text=json.dumps(changed)),
            end,
        )
    finally:
        if thread.is_alive():
            end()


def test_a_live_page_follows_the_run(browser: Any) -> None:
    document = report_data.document(episodes=500, rounds=10) | {"live": {"every": 0.1}}
    before = copy.deepcopy(document)
    run = before["runs"][0]
    run |= {"state": "running", "history": run["history"][:5], "globals": run["globals"][:5]}
    page = Report(browser)
    page.problems()
    with served(before) as (address, change, end):
        browser.get(address)
        page.until("document.documentElement.dataset.ready === '1'")
        page.click("[data-axis=steps]")
        page.choose("client", "client 01")
        page.slide("round", 1)
        page.slide("scrubber", 20)
        page.run("scrollTo({top: 700, behavior: 'instant'})")
        page.settle()
        assert page.texts("#state") == ["running"]
        change(document)
        page.until("document.querySelectorAll('#round-table tbody tr').length === 10")
        page.settle()
        state = page.state
        assert (state["axis"], state["client"]) == ("steps", 1)
        assert (state["machine"]["round"], state["machine"]["at"]) == (1, 20)
        assert page.run("return scrollY") == 700
        assert re.fullmatch(r"live \u00b7 updated \d\d:\d\d:\d\d", page.texts("#live")[0])
        end()
        page.until("document.getElementById('live').textContent.startsWith('connection lost')")
        assert page.texts("#live") == ["connection lost, the run may have ended"]
    assert all("ERR_CONNECTION_REFUSED" in each["message"] for each in page.problems())
