"""The replay file, without opening it: what it holds, and what it must not."""

from __future__ import annotations

import base64
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded import named, record

from f110_fl.reporting.pages.recording import Recording
from f110_fl.reporting.pages.replay import FORMAT, Channel, frame_channels, page, write_replay
from sim.layout import STEER, YAW, V, X, Y

HOSTILE = (
    """</script><script>hacked = 1</script><img src=x onerror='hacked=1'>"&amp;@script@@data@"""
)


@pytest.fixture(scope="module")
def recording() -> Recording:
    return record()[0]


class Page(HTMLParser):
    """Tags with their attributes, and the texts of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self._open: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag if tag in self.texts else None

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open:
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open].append(data)

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.texts["script"][0])
        return found


def decode(octets: bytes, channel: dict[str, Any], rows: int) -> tuple[np.ndarray, bytes]:
    """Reads rows of numbers, of a width that is found out, as the page does."""
    dtype = np.dtype("<" + channel["kind"])
    planes = np.frombuffer(octets, np.uint8).reshape(dtype.itemsize, -1)
    values = np.ascontiguousarray(planes.T).view(dtype).reshape(rows, -1)
    if channel["kind"] == "f4":
        return values, b""
    return np.cumsum(values, axis=0, dtype=dtype) * channel["unit"], b""


def test_numbers_are_kept_to_half_a_unit(recording: Recording) -> None:
    data = Page(page([recording])).data["recordings"][0]
    assert list(data["channels"]) == ["x", "y", "yaw", "speed", "steer", "scan", "reward"]
    columns = {"x": X, "y": Y, "yaw": YAW, "speed": V, "steer": STEER}
    for raw, episode in zip(data["episodes"], recording.episodes, strict=True):
        octets, rows = zlib.decompress(base64.b64decode(raw["data"])), raw["frames"]
        assert rows == len(episode.states)
        widths = {"scan": 18, "reward": 1}
        for name, channel in data["channels"].items():
            size = np.dtype(channel["kind"]).itemsize * rows * widths.get(name, 2)
            found, _ = decode(octets[:size], channel, rows)
            octets = octets[size:]
            if name in columns:
                expected = episode.states[:, :, columns[name]]
            else:
                expected = {"scan": episode.scans.reshape(rows, -1), "reward": episode.rewards}[
                    name
                ]
            off = found - expected
            if name == "yaw":
                off = (off + np.pi) % (2 * np.pi) - np.pi
            assert np.abs(off).max() <= channel["unit"] / 2 * 1.001
        for name in data["terms"]:
            found, _ = decode(octets[: 4 * rows], data["channels"]["reward"], rows)
            octets = octets[4 * rows :]
            np.testing.assert_array_equal(found, episode.terms[name].astype(np.float32))
        assert octets == b""
    assert data["terms"] == ["distance", "success_reward", "crash_reward"]


def test_units_are_small_enough() -> None:
    channels = frame_channels(record(episodes=1)[0].lidar)
    assert channels["x"].unit <= 1e-3
    assert channels["scan"].unit <= 1e-3
    assert channels["yaw"].unit <= 1e-4


@pytest.mark.parametrize("kind", ["i4", "u2"])
def test_integers_that_do_not_fit_are_cut(kind: str) -> None:
    info = np.iinfo(kind)
    values = np.array([[0.0], [1e30], [-1e30], [5.0]])
    found, _ = decode(Channel(kind).encode(values), {"kind": kind, "unit": 1}, 4)
    assert found[:, 0].tolist() == [0, info.max, info.min, 5]


def test_the_page_refers_to_nothing_outside_itself(recording: Recording) -> None:
    text = page([recording])
    parsed = Page(text)
    addresses = {"src", "href", "srcset", "action", "formaction", "data", "poster", "xlink:href"}
    assert not [tag for tag, attributes in parsed.tags if addresses & set(attributes)]
    assert {"link", "iframe", "object", "embed", "base", "img"}.isdisjoint(
        tag for tag, _ in parsed.tags
    )
    code = "\n".join([*parsed.texts["script"][1:], *parsed.texts["style"]])
    for pattern in (r"https?:", r"//[a-z]", r"url\(", r"@import", r"\bimport\b", r"\bfetch\("):
        # Comments in scripts begin with "// " and a space.
        assert not re.search(pattern, code), pattern
    assert not re.search(r"https?:", text)


def test_scripts_write_texts_never_markup() -> None:
    web = Path(__file__).parents[2] / "f110_fl" / "reporting" / "web"
    for path in web.glob("*.js"):
        script = path.read_text(encoding="utf-8")
        for name in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert name not in script, path.name
        assert len(script.splitlines()) < 400


def test_names_are_data_never_markup(recording: Recording) -> None:
    parsed = Page(page([named(recording, HOSTILE)]))
    plain = Page(page([recording]))
    assert [tag for tag, _ in parsed.tags] == [tag for tag, _ in plain.tags]
    assert parsed.texts["script"][1:] == plain.texts["script"][1:]
    data = parsed.data["recordings"][0]
    assert data["name"] == data["scenario"] == data["cars"][0]["name"] == HOSTILE
    assert data["terms"] == [HOSTILE]
    assert data["episodes"][0]["ends"][0]["outcome"] == HOSTILE


def test_the_format_is_the_pages(recording: Recording) -> None:
    parsed = Page(page([recording]))
    assert parsed.data["format"] == FORMAT
    assert f"const FORMAT = {FORMAT};" in parsed.texts["script"][1]


def test_a_minute_of_two_cars_takes_less_than_500_kb(tmp_path: Path) -> None:
    cars = [
        {"name": "car_0", "driver": {"kind": "follow_the_gap", "speed": 4.0}},
        {"name": "car_1", "driver": {"kind": "pure_pursuit", "speed": 3.0}},
    ]
    lidar = {"beams": 54, "max_range": 10.0}
    recording, _ = record(episodes=1, max_steps=1200, laps=100, lidar=lidar, cars=cars)
    assert len(recording.episodes[0].states) == 1201
    write_replay(tmp_path / "replay.html", [recording])
    assert (tmp_path / "replay.html").stat().st_size <= 500_000


def test_the_same_recording_gives_the_same_file(recording: Recording) -> None:
    assert page([recording]) == page([recording])


def test_a_replay_needs_an_episode(recording: Recording) -> None:
    from dataclasses import replace

    for recordings in ([], [replace(recording, episodes=())]):
        with pytest.raises(ValueError, match="at least one"):
            page(recordings)
