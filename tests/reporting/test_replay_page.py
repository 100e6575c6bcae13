"""The replay page in a real Chromium: what is drawn, and what the controls do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import named, record
from replay_window import Replay

from f110_fl.reporting.pages.recording import Recording
from f110_fl.reporting.pages.replay import write_replay
from sim.layout import YAW, V, X, Y

HOSTILE = (
    """</script><script>window.hacked = 1</script><img src=x onerror='window.hacked=1'>"&amp;"""
)
Open = Callable[..., Replay]


@pytest.fixture(scope="module")
def recording() -> Recording:
    return record()[0]


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Writes and opens a replay, and looks afterwards for errors in the console."""
    page = Replay(browser)

    def open_(
        recordings: list[Recording], width: int = 1280, height: int = 800, **device: Any
    ) -> Replay:
        path = tmp_path / "replay.html"
        write_replay(path, recordings)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics | device)
        browser.get(path.as_uri())
        page.until("document.documentElement.dataset.ready === '1'")
        page.drawn()  # once more if the layout was not final at first
        return page

    browser.get_log("browser")
    yield open_
    assert page.problems() == []


def rgb(text: str) -> list[int]:
    """The numbers of #rrggbb."""
    return [int(text.strip()[i : i + 2], 16) for i in (1, 3, 5)]


def test_the_first_frame_is_drawn(open_page: Open, recording: Recording) -> None:
    page = open_page([recording])
    assert page.driver.title == "a scenario \u2013 replay"
    assert page.state["number"] == 0
    assert page.state["frame"] == 0
    assert page.state["follow"] is None  # the whole track can be seen
    colours = page.run(
        "const canvas = document.getElementById('track');"
        "const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
        "return new Set(new Uint32Array(data.buffer)).size"
    )
    assert colours > 20


def test_cars_are_drawn_where_they_were(open_page: Open, recording: Recording) -> None:
    page = open_page([recording])
    page.key("l", "n")  # neither beams nor names, which cover cars
    page.choose("trail", "off")
    page.show(1)
    states = recording.episodes[1].states
    for frame in np.linspace(0, len(states) - 1, 5).astype(int).tolist():
        page.seek(frame)
        for index, car in enumerate(page.state["cars"]):
            expected = states[frame, index, [X, Y, YAW, V]]
            found = [car[name] for name in ("x", "y", "yaw", "speed")]
            np.testing.assert_allclose(found, expected, atol=6e-4)
            left, top = page.run("return replay.toCanvas(...arguments)", *expected[:2].tolist())
            colour = page.run(
                "return getComputedStyle(document.documentElement)"
                ".getPropertyValue('--car-' + arguments[0])",
                index,
            )
            assert page.pixel(left, top) == rgb(colour), (frame, index)


def test_scrubbing_changes_the_picture(open_page: Open, recording: Recording) -> None:
    page = open_page([recording])
    page.drawn()
    before = page.picture()
    page.seek(30)
    assert page.state["frame"] == 30
    assert page.texts("#now") == ["0:01.50"]
    assert page.picture() != before
    page.seek(0)
    assert page.picture() == before


def test_it_plays_to_the_end_and_stops(open_page: Open, recording: Recording) -> None:
    page = open_page([recording])
    page.choose("rate", "16\u00d7")
    page.click("#play")
    page.until("replay.state().at === replay.state().last && !replay.state().playing")
    page.click("#play")  # from the start again
    page.until("replay.state().playing || replay.state().at === replay.state().last")


def test_keys(open_page: Open, recording: Recording) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page([recording])
    page.key(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert page.state["frame"] == 1
    page.key(Keys.END)
    assert page.state["frame"] == page.state["last"] == 60
    page.key(Keys.HOME)
    assert page.state["frame"] == 0
    page.key("[")
    assert page.state["rate"] == 0.5
    page.key("]", "]")
    assert page.state["rate"] == 2
    page.key(" ")
    page.until("replay.state().frame > 0")
    page.key(Keys.ARROW_DOWN)
    page.until("replay.state().number === 1")
    zoom = page.state["zoom"]
    page.key("+")
    assert page.state["zoom"] > zoom
    page.key("f")
    assert page.state["follow"] == 0
    page.key("0")
    assert page.state["follow"] is None
    page.key("c")
    assert page.state["selected"] == 1
    dark = page.state["dark"]
    page.key("d")
    assert page.state["dark"] is not dark
    page.key("?")
    assert page.run("return document.getElementById('help').open")
    page.key(Keys.ESCAPE)
    page.until("!document.getElementById('help').open")


def test_episodes_are_filtered_by_outcome(open_page: Open, recording: Recording) -> None:
    page = open_page([recording])
    outcomes = [episode.ends[0].outcome for episode in recording.episodes]
    crashed = [number for number, outcome in enumerate(outcomes) if outcome == "crash"]
    assert 0 < len(crashed) < len(outcomes)
    page.click('[data-outcome="crash"]')
    assert page.state["listed"] == crashed
    assert [int(text) for text in page.texts(".row .number")] == crashed
    page.click('[data-outcome=""]')
    assert len(page.state["listed"]) == len(outcomes)


def test_episodes_are_sorted(open_page: Open, recording: Recording) -> None:
    page = open_page([recording])
    page.click(".head.reward")
    returns = [episode.returns["car_0"] for episode in recording.episodes]
    best = sorted(range(len(returns)), key=lambda k: (-returns[k], k))
    assert page.state["listed"] == best
    page.click(".head.number")
    assert page.state["listed"] == sorted(best)


def test_why_an_episode_ended_is_told(open_page: Open, recording: Recording) -> None:
    page = open_page([recording])
    page.show(3)
    assert "touched a wall with its left" in page.texts(".car")[0]
    page.show(2)
    assert "was hit by car_1, at its rear" in page.texts(".car")[0]
    assert "drove into car_0 with its front and left" in page.texts(".car")[1]


def test_charts_show_the_time_and_the_sums(open_page: Open, recording: Recording) -> None:
    page = open_page([recording])
    titles = [text.split("\n")[0] for text in page.texts(".plot-title")]
    wanted = ["Speed", "Steering", "Reward", "Reward terms", "Distance to target"]
    assert all(map(str.startswith, titles, wanted))
    assert len(titles) == len(wanted)
    page.seek(page.state["last"])
    episode = recording.episodes[0]
    first, second = episode.states[-1, :, V]
    assert page.texts(".plot:first-child .reading b") == [f"{first:.2f}", f"{second:.2f}"]
    page.click(".plot:nth-child(3) button")  # the sum of the rewards
    page.drawn()
    (found,) = page.texts(".plot:nth-child(3) .reading b")
    assert float(found.replace("\u2212", "-")) == pytest.approx(episode.returns["car_0"], abs=0.01)
    page.click(".plot:first-child canvas")  # in its middle
    assert 20 < page.state["frame"] < 40


def numbers(texts: list[str]) -> list[float]:
    return [float(text.replace("\u2212", "-")) for text in texts]


def test_the_terms_of_the_selected_cars_reward_are_shown(open_page: Open) -> None:
    pursuit = {"kind": "pursuit", "target": "car_1", "shaping": [{"term": "distance"}]}
    lap = {"kind": "solo_lap", "shaping": [{"term": "time", "weight": 1.0}, {"term": "lap_time"}]}
    cars = [{"name": "car_0", "task": pursuit}, {"name": "car_1", "task": lap}]
    recording, _ = record(cars=cars, end_when="all")
    terms = recording.episodes[0].terms
    page = open_page([recording])
    page.seek(10)
    names = ".keyed .key-name"
    assert page.texts(names) == ["distance"]  # what paid nothing is left out
    assert page.texts(".keyed .plot-title")[0].startswith("Reward terms of car_0")
    (found,) = numbers(page.texts(".keyed .reading b"))
    assert found == pytest.approx(terms["distance"][10, 0], abs=6e-4)
    page.key("c")
    assert page.texts(names) == ["time", "crash_reward"]
    page.key("r")
    page.seek(page.state["last"])
    found = numbers(page.texts(".keyed .reading b"))
    assert found == pytest.approx([terms["time"][:, 1].sum(), -10.0], abs=6e-3)


def test_of_many_terms_the_least_are_one_curve(open_page: Open, recording: Recording) -> None:
    weights = np.array([5, 1, 9, 8, 7, 2, 6, 3, 4]) / 100
    terms = {f"term_{k}": np.full((61, 1), weight) for k, weight in enumerate(weights)}
    few = replace(recording.episodes[0], terms=dict(list(terms.items())[:7]))
    many = replace(recording.episodes[0], terms=terms)
    page = open_page([replace(recording, episodes=(many,))])
    largest = [f"term_{k}" for k in (0, 2, 3, 4, 6, 8)]
    assert page.texts(".keyed .key-name") == [*largest, "3 others"]
    found = numbers(page.texts(".keyed .reading b"))
    assert found == pytest.approx([0.05, 0.09, 0.08, 0.07, 0.06, 0.04, 0.06])
    last = page.driver.find_elements("css selector", ".keyed .reading")[-1]
    assert last.get_attribute("title") == "term_1, term_5, term_7"
    page = open_page([replace(recording, episodes=(few,))])
    assert page.texts(".keyed .key-name") == list(few.terms)


def test_a_ghost_is_laid_over(open_page: Open, recording: Recording) -> None:
    other, _ = record(name="faster", speed=0.5)
    page = open_page([recording, other])
    page.seek(40)
    before = page.picture()
    page.choose("rival", "faster")
    page.until("replay.state().ghost !== null")
    page.drawn()
    assert page.state["at"] == 40  # it starts where we were
    assert page.picture() != before
    for index, car in enumerate(page.state["ghost"]):
        expected = other.episodes[0].states[40, index, [X, Y]]
        np.testing.assert_allclose([car["x"], car["y"]], expected, atol=6e-4)
    page.choose("recording", "faster")
    page.until("replay.state().recording === 'faster'")
    assert page.state["rival"] is None


def test_another_file_is_laid_over(open_page: Open, recording: Recording, tmp_path: Path) -> None:
    page = open_page([recording])
    write_replay(tmp_path / "other.html", [record(name="from a file", speed=0.4)[0]])
    page.driver.find_element("id", "file").send_keys(str(tmp_path / "other.html"))
    page.until("replay.state().rival === 'from a file'")
    stranger = replace(recording, name="stranger", seed=99)
    write_replay(tmp_path / "stranger.html", [stranger])
    page.driver.find_element("id", "file").send_keys(str(tmp_path / "stranger.html"))
    page.until("document.getElementById('notice').textContent.includes('cannot be compared')")
    assert page.state["rival"] == "from a file"
    moved = [replace(each, states=each.states + 1.0) for each in recording.episodes]
    elsewhere = replace(recording, name="elsewhere", episodes=tuple(moved))
    write_replay(tmp_path / "elsewhere.html", [elsewhere])
    page.driver.find_element("id", "file").send_keys(str(tmp_path / "elsewhere.html"))
    page.until("document.getElementById('notice').textContent.includes('episode 0 elsewhere')")
    assert page.state["ghost"] is None
    (tmp_path / "none.html").write_text("<p>nothing</p>")
    page.driver.find_element("id", "file").send_keys(str(tmp_path / "none.html"))
    page.until("document.getElementById('notice').textContent.includes('not a replay')")


def test_names_are_shown_as_they_are(open_page: Open, recording: Recording) -> None:
    page = open_page([named(recording, HOSTILE), named(recording, HOSTILE)])
    assert page.texts("#title") == [HOSTILE]
    assert page.texts(".car .name")[0].startswith(HOSTILE)
    page.key("g")
    page.until("replay.state().ghost !== null")
    page.key("c", "f", "t")
    page.seek(page.state["last"])
    assert page.run("return document.querySelectorAll('script').length") == 2
    assert page.run("return document.querySelectorAll('img').length") == 0
    assert page.run("return window.hacked === undefined")


def test_no_other_script_runs(open_page: Open, recording: Recording) -> None:
    page = open_page([recording])
    page.run(
        "const script = document.createElement('script'); script.textContent = 'window.hacked = 1';"
        "document.body.append(script)"
    )
    assert page.run("return window.hacked === undefined")
    (problem,) = page.problems()
    assert "Content Security Policy" in problem["message"]


@pytest.mark.parametrize("width", [360, 768, 1280, 3840])
def test_it_fits_every_screen(open_page: Open, recording: Recording, width: int) -> None:
    phone = width < 500
    height = 640 if phone else width * 9 // 16
    page = open_page([recording], width, height, mobile=phone, deviceScaleFactor=2 if phone else 1)
    assert page.run("return document.documentElement.scrollWidth") <= width
    box = page.run(
        "const box = document.getElementById('track').getBoundingClientRect();"
        "return [box.width, box.height]"
    )
    assert min(box) >= 150
    ratio = page.run("return document.getElementById('track').width") / box[0]
    assert ratio == pytest.approx(2 if phone else 1, rel=0.01)


def test_fingers_pan_and_pinch(open_page: Open, recording: Recording) -> None:
    page = open_page([recording], 390, 844, mobile=True)
    before = page.run("return replay.toCanvas(0, 0)")
    zoom = page.state["zoom"]

    def touch(kind: str, *points: tuple[int, int]) -> None:
        found = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)]
        page.driver.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": found}
        )

    touch("touchStart", (150, 250))
    touch("touchMove", (170, 250))
    touch("touchMove", (190, 240))
    touch("touchEnd")
    page.until("Math.abs(replay.toCanvas(0, 0)[0] - arguments[0]) > 15", before[0])
    assert page.state["zoom"] == zoom
    touch("touchStart", (150, 250), (200, 250))
    touch("touchMove", (120, 250), (230, 250))
    touch("touchEnd")
    page.until("replay.state().zoom > 1.5 * arguments[0]", zoom)


def test_the_page_can_be_used_without_a_mouse(open_page: Open, recording: Recording) -> None:
    from selenium.webdriver.common.keys import Keys

    page = open_page([recording])
    seen = []
    for _ in range(40):
        page.key(Keys.TAB)
        seen.append(
            page.run("return document.activeElement.id || document.activeElement.className")
        )
    order = ["theme", "help-open", "follow", "rival", "track", "play", "scrubber", "episode-list"]
    places = [seen.index(name) for name in order]
    assert places == sorted(places)
    unnamed = page.run(
        "return [...document.querySelectorAll('button, select, input, canvas, [role]')]"
        ".filter((e) => !(e.textContent.trim() || e.ariaLabel || e.closest('[aria-hidden]')"
        " || e.closest('label')))"
        ".map((e) => e.id || e.className)"
    )
    assert set(unnamed) <= {"notice", "spoken"}  # they speak when there is something to say
