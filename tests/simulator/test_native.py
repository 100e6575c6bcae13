"""Compiled functions that are called by their address, or with their arguments in memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numba import njit
from small import REPOSITORY

from f110_fl.runs.startup import KERNEL_CACHE
from sim.native import bound, call, calls, compiled, record


@njit
def _run(table, x, out):
    for k in range(len(table)):
        if table[k].function != 0:
            call(table[k].function, table[k].settings, x, out)


@njit
def _scaled(settings, x, out):
    out[0] += settings.factor * x


@njit
def _counted(settings, x, out):
    if x > settings.most:
        raise ValueError("too much")
    out[1] += settings.times if settings.on else 0


def test_functions_with_settings_of_their_own_are_called_in_turn() -> None:
    out = np.zeros(2)
    double, triple = record(factor=2.0), record(factor=3.0)
    count = record(on=True, times=5, most=10.0)
    assert [count.dtype[name] for name in ("on", "times", "most")] == [bool, np.int64, np.float64]
    rows = [(_scaled, double), (_counted, count), (None, double), (_scaled, triple)]
    table = calls(rows, 1.0, out)
    run = compiled(_run, table, 1.0, out)
    run(table, 1.5, out)
    assert out.tolist() == [7.5, 5.0]
    triple["factor"] = 0.0
    run(table, 1.0, out)
    assert out.tolist() == [9.5, 10.0]
    with pytest.raises(ValueError, match="too much"):
        run(table, 11.0, out)


def test_what_returns_something_is_refused() -> None:
    @njit
    def result(settings, x):
        return settings.factor * x

    with pytest.raises(TypeError, match="result returns float64: it must return nothing"):
        calls([(result, record(factor=1.0))], 1.0)


class Inner(NamedTuple):
    on: bool
    grid: np.ndarray
    off: bool


class Outer(NamedTuple):
    inner: Inner
    pair: tuple[float, float]
    key: np.uint64
    table: np.ndarray
    nothing: tuple[()]
    last: bool


@njit
def _summed(outer, scale, out, first, last):
    for i in range(first, last):
        out[i] = scale * outer.inner.grid[i, 1] + outer.pair[0] - outer.pair[1]
        out[i] += 100.0 * outer.inner.on + 200.0 * outer.inner.off + 400.0 * outer.last
        out[i] += outer.table[i].weight
    if last > len(out):
        raise ValueError("too far")
    return outer.key + np.uint64(last)


def test_a_kernel_finds_the_arguments_that_are_bound_to_it() -> None:
    grid = np.arange(24.0).reshape(4, 6)[:, ::2]
    table = np.zeros(4, np.dtype([("flag", np.bool_), ("weight", np.float64)]))
    table["weight"] = [1.0, 2.0, 3.0, 4.0]
    outer = Outer(Inner(True, grid, False), (0.5, 0.25), np.uint64(2**63), table, (), True)
    out = np.zeros(4)
    run = bound(_summed, (outer, 10, out))
    assert run(1, 3) == 2**63 + 3
    assert out.tolist() == [0.0, 10 * 8 + 500.25 + 2, 10 * 14 + 500.25 + 3, 0.0]
    grid[2, 1] = table["weight"][2] = 0.0  # it works on the same memory
    run(2, 4)
    assert out.tolist() == [0.0, 10 * 8 + 500.25 + 2, 500.25, 10 * 20 + 500.25 + 4]
    with pytest.raises(ValueError, match="too far"):
        run(0, 5)


@njit
def _total(numbers, first, last):
    total = 0.0
    for i in range(first, last):
        total += numbers[i]
    return total


def test_what_is_bound_lives_as_long_as_the_function() -> None:
    numbers = np.arange(1000.0)
    watched = weakref.ref(numbers)
    run = bound(_total, (numbers,))
    del numbers
    gc.collect()
    assert watched() is not None
    assert run(0, 1000) == 499500.0
    del run
    gc.collect()
    assert watched() is None


OWN = """
from typing import NamedTuple

import numpy as np
from numba import njit

from sim.native import bound

class {name}(NamedTuple):
    numbers: np.ndarray


@njit
def total(own, first, last):
    return own.numbers.sum() + first + last


def made():
    return bound(total, ({name}(np.array([1.5, 2.0])),))(1, 2)
"""


@pytest.mark.slow
def test_the_cache_that_all_share_names_no_class_of_a_module(tmp_path: Path) -> None:
    """Two projects, each with a named tuple of its own, of which the other knows nothing."""
    variables = os.environ | KERNEL_CACHE | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for name in ("One", "Other"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name.lower()}_project.py").write_text(OWN.format(name=name))
        path = os.pathsep.join([str(folder), str(REPOSITORY)])
        code = f"import {name.lower()}_project as project; print(project.made())"
        result = subprocess.run(
            [sys.executable, "-c", code],
            env=variables | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (result.returncode, result.stdout) == (0, "6.5\n"), result.stderr
    assert list((tmp_path / "cache").rglob("*.nbi"))
