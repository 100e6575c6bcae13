"""The page of a league in a real Chromium: what is drawn of the standings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from leagues import game, write_league

from f110_fl.evaluation.standings import standings
from f110_fl.loading.leagues import load_league
from f110_fl.reporting.pages.league import write_league_page

TEXTS = "return [...document.querySelectorAll(arguments[0])].map((found) => found.textContent)"


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    """Standings of a cycle: each beats the next in 3 games of 4."""
    league = load_league(write_league(tmp_path))
    names = list(league.entries)
    games = [
        game(one, other, other if seed == 3 else one, "oval", seed)
        for one, other in zip(names, [*names[1:], names[0]], strict=True)
        for seed in range(4)
    ]
    found = standings(league, names, games, {"broken": "<b>why</b>"})
    pair = {"entries": [names[0], names[1]], "text": "<i>by 1 s</i>"}
    found["highlights"] = [
        {**pair, "kind": "typical", "file": "replays/a b.html"},
        {**pair, "kind": "surprising", "file": None},
    ]
    return found


def test_the_standings_are_drawn(browser: Any, tmp_path: Path, document: dict[str, Any]) -> None:
    path = tmp_path / "standings.html"
    write_league_page(path, "small", document)
    browser.get_log("browser")
    browser.get(path.as_uri())
    assert browser.execute_script("return document.documentElement.dataset.ready") == "1"
    assert browser.get_log("browser") == []
    assert browser.title == "small: league"

    def texts(selector: str) -> list[str]:
        found: list[str] = browser.execute_script(TEXTS, selector)
        return found

    names = [entry["name"] for entry in document["entries"]]
    assert texts("#ratings .name") == names
    assert texts("#table tbody th") == names
    wins = [row.split("[", maxsplit=1)[0] for row in texts("#table tbody tr > td:nth-of-type(2)")]
    assert wins == ["50"] * 3
    links = browser.find_elements("css selector", "#matrix td a")  # in the cells of both
    assert [link.text for link in links] == ["typical"] * 2
    assert {link.get_attribute("href") for link in links} == {
        (tmp_path / "replays" / "a b.html").as_uri()
    }
    assert links[0].get_attribute("title") == "typical: <i>by 1 s</i>"
    shown = [cell.removesuffix("typical") or None for cell in texts("#matrix tbody td")]
    value = [cell for row in document["payoff"]["value"] for cell in row]
    assert shown == [None if cell is None else f"{100 * cell:.0f}" for cell in value]
    assert set(shown) == {None, "75", "25"}
    assert "fast beats follow_the_gap beats slow beats fast" in texts("#cycles li")[0]
    assert texts("#left-out li") == ["broken: <b>why</b>"]  # as text


def test_dots_are_at_their_ratings(browser: Any, tmp_path: Path, document: dict[str, Any]) -> None:
    path = tmp_path / "standings.html"
    write_league_page(path, "small", document)
    browser.get(path.as_uri())
    places = "return [...document.querySelectorAll(arguments[0])].map((e) => +e.getAttribute('%s'))"
    ticks = [float(text) for text in browser.execute_script(TEXTS, "#ratings .tick")]
    at = browser.execute_script(places % "x", "#ratings .tick")
    dots = browser.execute_script(places % "cx", "#ratings circle")
    scale = (at[-1] - at[0]) / (ticks[-1] - ticks[0])
    for dot, entry in zip(dots, document["entries"], strict=True):
        assert dot == pytest.approx(at[0] + scale * (entry["rating"]["value"] - ticks[0]))
