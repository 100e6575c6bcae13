"""Stepping environments that are on several tracks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.physics.kernels import OK, Scene, WorldArrays, step_range
from sim.tracks.stack import TrackStack, field_of, gates_of, line_of


class Scenes(NamedTuple):
    """Scenes that differ only in their tracks, for kernels."""

    tracks: TrackStack
    scene: Scene  # on track 0
    envs: NDArray[np.int64]  # (E,) working memory, a thread's own


@njit(cache=True, nogil=True, error_model="numpy")
def scene_on(scenes: Scenes, track: int) -> Scene:
    """The scene on one of the tracks."""
    scene = scenes.scene
    return Scene(
        field_of(scenes.tracks, track),
        line_of(scenes.tracks.lines, track),
        gates_of(scenes.tracks, track),
        scene.beams,
        scene.vehicles,
        scene.physics_step,
        scene.scratch,
        scene.scans_together,
        scene.car_contacts,
    )


@njit(cache=True, nogil=True, error_model="numpy")
def step_tracks(
    arrays: WorldArrays,
    scenes: Scenes,
    commands: NDArray[np.float64],
    physics_steps: int,
    first: int,
    last: int,
) -> int:
    """Step environments ``first`` to ``last - 1``, whatever tracks they are on.

    Those on the same track are stepped together, so that their scans can be traced together.
    Arguments and result as those of `step_range`.
    """
    envs = scenes.envs
    for track in range(len(scenes.tracks.table) - 1):
        count = 0
        for e in range(first, last):
            envs[count] = e
            count += arrays.track[e] == track
        if count > 0:
            there = scene_on(scenes, track)
            culprit = step_range(arrays, there, commands, physics_steps, envs, 0, count)
            if culprit != OK:
                return culprit
    return OK
