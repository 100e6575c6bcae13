"""What the simulator computes for drives that are stated here, as a few numbers.

The file beside this one holds what it computed when it matched recordings of f1tenth_gym v1.0.0 to
1e-6 (`tests/simulator/test_dynamics.py`). After a change of the physics that is meant, write it
anew: ``python tests/support/physics_recording.py``, with the project in ``PYTHONPATH``.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Final

import numpy as np

from sim.config import CarConfig, EnvConfig, LidarConfig, OvalTrack, VehicleConfig
from sim.race import Race

FILE: Final = Path(__file__).with_name("data") / "physics.json"
STEPS: Final = 400
EVERY: Final = 40  # steps between states that are recorded
# The first car goes through the phases, the second does the same a little softer.
PHASES: Final = {
    # until this step: steering, amplitude and period in steps, and speed, parts of the most
    80: (0.0, 80, -0.25),  # from rest
    240: (0.3, 80, -0.15),  # a slalom, the tyres slipping
    320: (0.3, 320, -0.4),  # braking in a bend
    STEPS: (-0.4, 400, -0.75),  # to a stop, and backwards
}
HEAVY: Final = VehicleConfig(mass=5.0, cg_height=0.1, friction=0.8, stiffness_rear=4.5)


def action(step: int) -> tuple[float, float]:
    """The first car's action in a step."""
    amplitude, period, speed = next(values for end, values in PHASES.items() if step < end)
    return amplitude * math.sin(2 * math.pi * step / period), speed


def record() -> dict[str, list[list[float]]]:
    """Drives, and returns states by car (in the order of `sim.layout`) and the last scans."""
    cars = (CarConfig(name="a"), CarConfig(name="b", vehicle=HEAVY))
    lidar = LidarConfig(beams=31, noise_std=0.01)
    track = OvalTrack(straight=60, radius=10, width=8)
    race = Race(EnvConfig(track=track, cars=cars, lidar=lidar, max_steps=STEPS + 1))
    race.reset(0, 12)
    race.world.place(0, np.array([(-20.0, -10.5, 0.0), (-18.5, -9.5, 0.1)]), 0)
    states = []
    for step in range(STEPS):
        steer, speed = action(step)
        race.step(np.array([[(steer, speed), (0.8 * steer, 0.9 * speed)]]))
        if (step + 1) % EVERY == 0:
            states.append(race.world.arrays.state[0].copy())
    assert not race.episodes.over.any(), "the cars ran into something"
    a, b = np.round(np.array(states), 10).transpose(1, 0, 2).tolist()
    scans = [[round(float(reading), 6) for reading in scan] for scan in race.world.arrays.scan[0]]
    return {"a": a, "b": b, "scans": scans}


if __name__ == "__main__":
    recording = record()
    rows = [
        f'"{name}": [\n' + ",\n".join(map(json.dumps, values)) + "\n]"
        for name, values in recording.items()
    ]
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
