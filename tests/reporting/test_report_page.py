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
from pathlib import Path
from typing import Any

import pytest
import report_data
from report_run import Json
from report_window import Open, Report
from run_files import keep, write_run

from f110_fl.reporting.pages.history import read_history
from f110_fl.reporting.pages.report import page as page_of
from f110_fl.reporting.pages.report import report
from f110_fl.reporting.pages.time_machine import replays

HOSTILE = (
    """</script><script>window.hacked = 1</script><img src=x onerror='window.hacked=1'>"&amp;"""
)


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


def test_everything_is_drawn(open_report: Open, one_run: Json) -> None:
    page = open_report(one_run)
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


def test_light_and_dark(open_report: Open, one_run: Json) -> None:
    page = open_report(one_run)
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
def test_what_is_missing_is_said(open_report: Open, one_run: Json, federated: bool) -> None:
    document = changed(
        one_run,
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
    page = open_report(document)
    assert page.texts("#missing-list") == ["rounds.jsonl: not there"]
    assert page.texts("#state") == ["unfinished"]
    said = page.run("return document.body.innerText")
    assert said.count("No episode of training is recorded.") >= 3
    for text in ("no trajectories", "All settings are the defaults.", "No start is recorded."):
        assert text in said
    assert ("No round is finished yet." in said) is federated
    assert page.run("return document.querySelectorAll('.plot svg path').length") == 0


def test_numbers_that_are_missing_leave_gaps(open_report: Open, one_run: Json) -> None:
    document = copy.deepcopy(one_run)
    own = document["runs"][0]["training"][0]["agents"]["car_0"]
    own["return"] = [None if 50 <= k < 60 else value for k, value in enumerate(own["return"])]
    for each in document["runs"][0]["globals"]:
        each["agents"]["car_0"] |= {"low": None, "high": None, "returnSd": None, "crash": None}
    page = open_report(document)
    points = {each["key"]: each["points"] for each in page.chart("return")["series"]}
    assert points["client:0"] == 190
    page.point("return", 55 / 200)
    keys = [each["key"] for each in page.chart("return")["reading"]["values"]]
    assert "client:0" not in keys
    assert "client:1" in keys


def test_names_are_shown_as_they_are(open_report: Open, six_runs: Json) -> None:
    document = renamed(everywhere(six_runs, HOSTILE), "car_0", HOSTILE)
    document["replays"]["recording"]["cars"][0]["name"] = HOSTILE
    page = open_report(document)
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


def test_no_other_script_runs(open_report: Open, one_run: Json) -> None:
    page = open_report(one_run)
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


def test_it_refers_to_nothing_outside(one_run: Json) -> None:
    references = References()
    references.feed(page_of(one_run))
    assert references.found  # the links to its sections
    assert all(each.startswith(("#", "data:")) for each in references.found)


def test_a_newer_format_is_refused_in_words(browser: Any, tmp_path: Path, one_run: Json) -> None:
    path = tmp_path / "report.html"
    path.write_text(page_of(one_run | {"format": 2}), encoding="utf-8")
    browser.get(path.as_uri())
    page = Report(browser)
    page.until("document.documentElement.dataset.ready === '1'")
    assert page.texts("#trouble") == [
        "This report was written by a newer version than this page can read."
    ]
    assert len(page.problems()) == 1  # the same error, in the console


@pytest.mark.parametrize("width", [360, 768, 1280, 3840])
def test_it_fits_every_screen(open_report: Open, six_runs: Json, one_run: Json, width: int) -> None:
    phone = width < 500
    height = 640 if phone else width * 9 // 16
    for document in (six_runs, one_run):
        device = {"mobile": phone, "deviceScaleFactor": 2 if phone else 1}
        page = open_report(document, width, height, **device)
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


def test_it_prints_everything(open_report: Open, one_run: Json) -> None:
    page = open_report(one_run)
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


def test_it_can_be_used_without_a_mouse(open_report: Open, six_runs: Json) -> None:
    page = open_report(six_runs)
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
    html = page_of(document, "'self'").encode()

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
        change(document | {"format": 2})
        page.until("document.getElementById('live').textContent.includes('newer version')")
        change(document)
        page.until("document.getElementById('live').textContent.startsWith('live')")
        end()
        page.until("document.getElementById('live').textContent.startsWith('connection lost')")
        assert page.texts("#live") == ["connection lost, the run may have ended"]
    assert all("ERR_CONNECTION_REFUSED" in each["message"] for each in page.problems())


def test_what_a_run_leaves_can_be_looked_at(open_report: Open, tmp_path: Path) -> None:
    runs = []
    for seed in (1, 2):
        rundir = write_run(tmp_path / f"run-{seed}", seed=seed, episodes=40)
        runs.append(read_history(rundir))
        for number in (1, 8):
            keep(rundir, runs[-1].scenario, number)
    for histories, policies in ((runs[:1], 3), (runs, 2)):
        found = replays([(each.scenario, each.rundir) for each in histories])
        page = open_report(report(histories, found))
        assert len(page.state["machine"]["stages"]) == policies
        series = [each for chart in page.state["charts"] for each in chart["series"]]
        assert max(each["points"] for each in series) >= 24
