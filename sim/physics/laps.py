"""Laps: what a car has to pass, in which order, before crossing the finish line counts.

A closed track is divided by gates, lines across the lane, of which the finish line is the first.
A car has a next gate. Crossing it forwards makes the one after it the next; crossing the one
before it backwards makes that the next again. Gates are numbered without end, so a car's next gate
shows how far round it has come, less what it has driven back, and none can be left out: a
car that goes back and forth over the finish line, turns the wrong way round or cuts across an open
infield finds another gate than the finish line to be the next.

A lap leads from finish line to finish line. Its clock starts at the first crossing, and the
lap counts at the first crossing that comes a whole circuit later.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.tracks.gates import Gates

Float = NDArray[np.float64]

# Columns of a car's memory.
NEXT_GATE: Final = 0  # multiples of the number of gates are the finish line
LAP_START: Final = 1  # physics step at which the lap began, -1 before the first crossing
LAP_MEMORY: Final = 2


@njit(cache=True, nogil=True, error_model="numpy")
def first_gate(gates: Gates, arc_length: float, x: float, y: float) -> int:
    """Next gate of a car that is put down at a point: 0 where the finish line is the next."""
    if not gates.closed:
        return 0
    count = len(gates.lines)
    past = (arc_length - gates.finish) % gates.length
    passed = 0
    for k in range(count):
        passed += gates.after_finish[k] <= past
    line = gates.lines[0]
    half = 0.5 * math.hypot(line[0, 0] - line[1, 0], line[0, 1] - line[1, 1])
    if min(past, gates.length - past) < half:  # a finish line may be slanted
        passed = 1 if _ahead(line, x, y) >= 0.0 else count
    return passed - count


@njit(cache=True, nogil=True, error_model="numpy")
def pass_gates(
    gates: Gates,
    x0: float,
    y0: float,
    x1: float,
    y1: float,
    now: int,
    memory: NDArray[np.int64],
    lap_steps: NDArray[np.int64],
    laps: int,
) -> int:
    """Follow a car's way, and count its laps.

    Args:
        gates: Of the track.
        x0: Where its centre was, m.
        y0: m.
        x1: Where it is now, m.
        y1: m.
        now: Physics steps since it was placed.
        memory: (LAP_MEMORY,) of the car, updated.
        lap_steps: (L,) physics steps that each lap took, written as laps are completed.
        laps: Laps completed before.

    Returns:
        Laps completed now. On an open track the first crossing completes its only one.
    """
    count = len(gates.lines)
    if count == 0:
        return laps
    if not gates.closed:
        if laps == 0 and crosses(gates.lines[0], x0, y0, x1, y1):
            lap_steps[0] = now
            laps = 1
        return laps
    for _ in range(count):  # a long step may pass several
        gate = memory[NEXT_GATE]
        if crosses(gates.lines[gate % count], x0, y0, x1, y1):
            memory[NEXT_GATE] = gate + 1
        elif crosses(gates.lines[(gate - 1) % count], x1, y1, x0, y0):
            memory[NEXT_GATE] = gate - 1
            continue
        else:
            break
        if gate == 0 and memory[LAP_START] < 0:
            memory[LAP_START] = now
        elif gate == (laps + 1) * count:
            if laps < len(lap_steps):
                lap_steps[laps] = now - memory[LAP_START]
            memory[LAP_START] = now
            laps += 1
    return laps


@njit(cache=True, nogil=True, error_model="numpy")
def _ahead(line: Float, x: float, y: float) -> float:
    """Twice the area between a line (left end, right end) and a point; positive ahead of it."""
    lx, ly = line[0]
    rx, ry = line[1]
    return float((rx - lx) * (y - ly) - (ry - ly) * (x - lx))


@njit(cache=True, nogil=True, error_model="numpy")
def crosses(line: Float, x0: float, y0: float, x1: float, y1: float) -> bool:
    """Whether a way leads over a line (left end, right end) from behind it.

    Of a way and its reverse over the same line exactly one is forwards.
    """
    before, after = _ahead(line, x0, y0), _ahead(line, x1, y1)
    if not (before < 0.0 <= after):
        return False
    lx, ly = line[0]
    rx, ry = line[1]
    # The line's ends must lie on either side of the way.
    left = (x1 - x0) * (ly - y0) - (y1 - y0) * (lx - x0)
    right = (x1 - x0) * (ry - y0) - (y1 - y0) * (rx - x0)
    return bool(left >= 0.0 >= right)
