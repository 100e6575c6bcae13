"""Tables of compiled functions, called by their address."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from sim.native import call, calls, compiled, record


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
