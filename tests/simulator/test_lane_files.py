"""CSV files of lines: what their columns are, with and without a header."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from sim.config import CenterlineTrack
from sim.tracks.factory import make_track
from sim.tracks.lanefile import Lane, read_lane, read_raceline
from sim.tracks.track import TrackError

COUNT = 80
ANGLE = np.linspace(0, math.tau, COUNT, endpoint=False)
X, Y = 6 * np.cos(ANGLE), 6 * np.sin(ANGLE)
COLUMNS = {
    "s": 6 * ANGLE,
    "x": X,
    "y": Y,
    "yaw": ANGLE + math.pi / 2,  # positive and growing, as loggers unwrap it
    "psi": ANGLE,  # TUM's, from the y axis
    "kappa": np.full(COUNT, 1 / 6),
    "v": 3 + np.sin(ANGLE),
    "a": np.cos(ANGLE),
    "right": np.full(COUNT, 1.2),
    "left": np.full(COUNT, 0.9),
    "row": np.arange(COUNT),
}


def table(names: str, separator: str = ",") -> str:
    """Rows of a circle of 6 m, with these columns."""
    columns = [COLUMNS[name] for name in names.split()]
    return "".join(
        separator.join(f"{value:.9g}" for value in row) + "\n" for row in zip(*columns, strict=True)
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, encoding: str = "utf-8") -> Path:
        (tmp_path / "line.csv").write_text(text, encoding=encoding)
        return tmp_path / "line.csv"

    return write


def is_circle(lane: Lane) -> bool:
    return bool(np.allclose(lane.points, np.column_stack([X, Y]), atol=1e-6)) and lane.closed


HEADLESS = {
    "x y": (False, False),
    "x y right left": (True, False),
    "x y yaw": (False, False),
    "x y yaw v": (False, True),
    "x y psi v a": (False, True),
    "s x y": (False, False),
    "s x y psi": (False, False),
    "s x y psi kappa": (False, False),
    "s x y psi kappa v": (False, True),
    "s x y psi kappa v a": (False, True),
    "row x y yaw v": (False, True),
    "row x y right left": (True, False),
    "row s x y psi kappa v a": (False, True),
}


@pytest.mark.parametrize("separator", [",", ";", "; ", " ", "\t"])
@pytest.mark.parametrize("names", HEADLESS)
def test_a_file_without_a_header_is_read_by_what_its_columns_hold(write, names, separator, caplog):
    widths, speeds = HEADLESS[names]
    path = write(table(names, separator))
    with caplog.at_level(logging.INFO, "sim.tracks"):
        lane, raceline = read_lane(path), read_raceline(path)
    assert is_circle(lane)
    assert is_circle(raceline)
    assert raceline.widths is None
    assert (lane.widths is not None) == widths
    if widths:
        assert lane.widths[0].tolist() == [0.9, 1.2]
    assert (raceline.speeds is not None) == speeds
    if speeds:
        assert raceline.speeds == pytest.approx(COLUMNS["v"])
    told = [record.getMessage() for record in caplog.records]
    assert all("no line names its columns; read as " in text for text in told)
    assert len(told) == (0 if names == "x y" else 2)


@pytest.mark.parametrize("names", ["x y v", "row x y", "row x y v", "x y right left v", "v x y a"])
def test_a_file_whose_columns_cannot_be_told_is_refused(write, names):
    path = write(table(names))
    for read in (read_lane, read_raceline):
        with pytest.raises(TrackError, match="cannot be told; a first line such as") as error:
            read(path)
        assert "\n" not in str(error.value)


def test_widths_that_may_be_a_heading_are_refused(write):
    rows = [(x, x * math.tan(0.7), 0.7, 0.7) for x in range(20)]
    with pytest.raises(TrackError, match="cannot be told"):
        read_lane(write("".join(",".join(map(str, row)) + "\n" for row in rows)))


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("x_m, y_m, d_right, d_left", "x y right left"),
        ("# x_m, y_m, w_tr_right_m, w_tr_left_m", "x y right left"),
        ('"x [m]","y [m]","width_right","width_left"', "x y right left"),
        ("left_width,X,Y,right_width", "left x y right"),
        (",x,y,w_right,w_left", "row x y right left"),
        ("Unnamed: 0,x,y,w_right,w_left", "row x y right left"),
        ("# x_ref_m; y_ref_m; width_right_m; width_left_m; psi", "x y right left psi"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_headers(write, header, names, encoding):
    lane = read_lane(write(f"{header}\n{table(names)}", encoding))
    assert is_circle(lane)
    assert lane.widths is not None
    assert lane.widths[0].tolist() == [0.9, 1.2]


def test_decimal_commas(write):
    text = table("s x y psi kappa v a", ";").replace(".", ",")
    header = "# s_m; x_m; y_m; psi_rad; kappa_radpm; vx_mps; ax_mps2\n"
    for path in (write(text), write(header + text)):
        lane = read_raceline(path)
        assert is_circle(lane)
        assert lane.speeds == pytest.approx(COLUMNS["v"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lon,lat\n" + table("x y"), "line 1: 'lon,lat' names no columns x and y"),
        ("x,y,x\n" + table("x y v"), "two columns are named x"),
        ("x,y\n" + table("x y v"), "line 2: 3 columns, but 2 are named"),
    ],
)
def test_headers_that_do_not_fit(write, text, message):
    with pytest.raises(TrackError, match=message):
        read_lane(write(text))


@pytest.mark.parametrize("value", ["", "0", "-1", "inf", "fast"])
def test_speeds_at_which_a_car_would_stand_are_not_used(write, value, caplog):
    rows = table("x y yaw v").splitlines()
    rows[7] = ",".join([*rows[7].split(",")[:3], value])
    path = write("x,y,yaw,speed\n" + "\n".join(rows))
    with caplog.at_level(logging.INFO, "sim.tracks"):
        lane = read_raceline(path)
    assert is_circle(lane)
    assert lane.speeds is None
    assert f"its speeds are not used: line 9 has {value!r}" in caplog.text


def test_a_racing_line_needs_no_widths(write):
    header = "x,y,w_right,w_left\n"
    path = write(header + table("x y right left").replace(",1.2", ",0"))
    assert is_circle(read_raceline(path))
    with pytest.raises(TrackError, match="widths must be above 0 m"):
        read_lane(path)


def test_a_racing_line_is_no_lane(write):
    with pytest.raises(TrackError, match="no widths"):
        make_track(CenterlineTrack(file="line.csv"), write(table("s x y psi kappa v a")).parent)


@pytest.mark.parametrize("closed", [True, False])
def test_a_line_the_other_way(write, closed):
    cut = slice(None if closed else 60)
    rows = table("x y right left").splitlines()[cut]
    lane = read_lane(write("\n".join(rows)))
    turned = lane.reversed()
    assert lane.closed == turned.closed == closed
    first = 0 if closed else -1
    assert turned.points[0].tolist() == lane.points[first].tolist()
    assert turned.points[1].tolist() == lane.points[first - 1].tolist()
    assert turned.widths[0].tolist() == [1.2, 0.9]


CELL = st.one_of(
    st.sampled_from(["", "x", "y", "nan", "1e999", "1,5", "#", '"', "\x00", "½", "w_left", ";"]),
    st.floats(allow_nan=False, width=32).map(repr),
    st.integers(-9, 9).map(str),
)


@examples(150)
@given(
    names=st.sampled_from([*HEADLESS, "x y v", "v x y a"]),
    header=st.lists(CELL, max_size=4),
    changes=st.lists(
        st.tuples(st.integers(0, COUNT - 1), st.integers(0, 7), CELL | st.none()), max_size=3
    ),
    rows=st.integers(0, COUNT),
)
def test_whatever_is_in_a_file_is_read_or_refused(tmp_path_factory, names, header, changes, rows):
    cells = [line.split(",") for line in table(names).splitlines()]
    for row, column, cell in changes:
        if cell is None:
            del cells[row][column:]
        else:
            cells[row][column : column + 1] = [cell]
    path = tmp_path_factory.mktemp("lines") / "line.csv"
    lines = [",".join(cell) for cell in [header, *cells[:rows]]]
    path.write_text("\n".join(lines), encoding="utf-8")
    for read in (read_lane, read_raceline):
        try:
            lane = read(path)
        except TrackError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert str(path) in str(error)  # noqa: PT017
        else:
            assert np.isfinite(lane.points).all()
