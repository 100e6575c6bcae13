"""Drivers, terms and tracks of another package, installed as packages are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import packages
import pytest
import yaml
from small import REPOSITORY, SMALL, merge

PLUGIN = """
from typing import Literal
from pydantic import Field
from sim.plugins import Part, Plugin
from sim.settings import Config

class CruiseConfig(Config):
    kind: Literal["cruise"] = Field("cruise", description="Selects this driver. [-]")
    speed: float = Field(2.0, gt=0, description="Speed held. [m/s]")
    gain: float = Field(0.5, ge=0, description="Steering a metre off the line. [rad/m]")

class HurryConfig(Config):
    term: Literal["hurry"] = Field("hurry", description="Selects this term. [-]")
    weight: float = Field(1.0, description="Paid for a second at 1 m/s. [reward/m]")
    memory: bool = Field(True, description="Whether the first step is paid. [bool]")

class HallConfig(Config):
    kind: Literal["hall"] = Field("hall", description="Selects this track. [-]")
    side: float = Field(8.0, gt=0, description="Length of the walls. [m]")

class LostConfig(Config):
    kind: Literal["lost"] = Field("lost", description="Selects this driver. [-]")

PLUGIN = Plugin(
    drivers=(Part(CruiseConfig, "parts:Cruise"), Part(LostConfig, "parts:nothing")),
    terms=(Part(HurryConfig, "parts:HURRY"),),
    tracks=(Part(HallConfig, "parts:hall"),),
)
NO_PLUGIN = 3
UNNAMED = Plugin(drivers=(Part(Config, "parts:Cruise"),))
class Again(Config):
    kind: Literal["stanley"] = "stanley"
AGAIN = Plugin(drivers=(Part(Again, "parts:Cruise"),))
class Several(Config):
    kind: Literal["several"] = "several"
SEVERAL = Plugin(tracks=(Part(Several, "parts:hall"),))
"""

PARTS = """
import numpy as np
from numba import njit
from plugin import HallConfig
from sim.drivers.base import KernelDriver
from sim.layout import TARGET_SPEED, TARGET_STEER, V
from sim.native import record
from sim.tasks.terms import Term
from sim.tracks.track import Track, generated

@njit(cache=True, nogil=True, error_model="numpy")
def _cruise(settings, lateral_offset, driven, difficulty, commands, first, last):
    driver = settings[0]
    for e in range(first, last):
        driven[e] += 1
        commands[e, driver.car, TARGET_STEER] = -driver.gain * lateral_offset[e, driver.car]
        commands[e, driver.car, TARGET_SPEED] = difficulty[e] * driver.speed

class Cruise(KernelDriver):
    def __init__(self, config, seat):
        self.driven = np.zeros(seat.num_envs, np.int64)
        settings = record(car=seat.car, gain=config.gain, speed=config.speed)
        super().__init__(seat, _cruise, ["lateral_offset"], settings, self.driven)

    def reset(self, env):
        self.driven[env] = 0

@njit(cache=True, nogil=True, error_model="numpy")
def _start(term, step, lane, memory, e):
    memory[e, 2] = 1.0 if term.memory else 0.0

@njit(cache=True, nogil=True, error_model="numpy")
def _pay(term, step, lane, memory, first, last):
    for e in range(first, last):
        step.rewards[e] += term.weight * memory[e, 2] * step.world.state[e, term.car, V]
        memory[e, 2] = 1.0

HURRY = Term(_pay, _start, memory=3, per_second=True)

@generated
def hall(config: HallConfig) -> Track:
    cells = round(config.side / 0.1)
    free = np.ones((cells, cells), np.bool_)
    line = [[1.0, config.side / 2], [config.side - 1.0, config.side / 2]]
    spawns = {"spawn_1": (2.0, config.side / 2, 0.0), "spawn_2": (1.0, config.side / 2, 0.0)}
    origin = (0.0, 0.0, 0.0)
    return Track.from_occupancy("hall", free, 0.1, origin, centerline=np.array(line), spawns=spawns)
"""


def install(folder: Path, *names: str) -> dict[str, str]:
    """Writes the package with these objects as its entry points; returns the environment."""
    entries = (f"plugin:{name}" for name in names)
    return packages.install(folder, {"plugin": PLUGIN, "parts": PARTS}, entries)


def ask(folder: Path, script: str, variables: dict[str, str]) -> Any:
    """Runs a script that prints JSON."""
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


RACE = """
import json
import numpy as np
from sim.config import EnvConfig
from sim.layout import V
from sim.race import Race
from sim.tasks.decomposition import RewardTerms

def race(shaping, **more):
    cars = [
        {"name": "a", "task": {"kind": "evade", "target": "b", "shaping": shaping}},
        {"name": "b", "driver": {"kind": "cruise", "speed": 1.5}},
    ]
    env = {"cars": cars, "track": {"kind": "hall", "side": 9}, "lidar": {"beams": 3}, **more}
    made = Race(EnvConfig.model_validate(env), num_envs=3, num_threads=2)
    for e in range(3):
        made.reset(e, e)
    return made

def rewards(made):
    return [made.step(np.full((3, 1, 2), 0.1 * i)).rewards[:, 0].tolist() for i in range(4)]

def split(made):
    world = made.world
    terms = RewardTerms(made.config, made.tracks, world.arrays, made.episodes, world.stack)
    for e in range(3):
        terms.reset(e)
    found = []
    for i in range(4):
        made.step(np.full((3, 1, 2), 0.1 * i))
        terms.step()
        found.append(dict(zip(terms.names, terms.paid[:, :, 0].tolist())))
    return found

speed = {"term": "speed", "weight": 20.0}  # speed_max is 20 m/s
theirs = race([{"term": "hurry"}, {"term": "time"}])
paid = rewards(theirs)
driver = theirs._drivers[0]
theirs.reset(1, 1)
several = {"kind": "several", "tracks": [{"kind": "hall"}, {"kind": "line2"}]}
print(json.dumps({
    "theirs": paid,
    "ours": rewards(race([speed, {"term": "time"}])),
    "unpaid": rewards(race([{"term": "hurry", "memory": False}, {"term": "time"}])),
    "split": split(race([{"term": "hurry"}, {"term": "time"}])),
    "commands": theirs.world.commands[:, 1].tolist(),
    "driven": driver.driven.tolist(),
    "track": theirs.track.name,
    "same track": theirs.track is race([]).track,
    "several": [track.name for track in race([speed], track=several).tracks],
}))
"""


def test_a_package_adds_a_driver_a_term_and_a_track(tmp_path: Path) -> None:
    told = ask(tmp_path, RACE, install(tmp_path, "PLUGIN"))
    assert np.array(told["theirs"]) == pytest.approx(np.array(told["ours"]))
    assert told["unpaid"][0] == [-0.001] * 3
    assert told["unpaid"][1:] == told["theirs"][1:]
    split = [np.add(step["hurry"], step["time"]) for step in told["split"]]
    np.testing.assert_allclose(split, told["theirs"], rtol=0, atol=1e-9)
    assert [step["time"] for step in told["split"]] == [[-0.001] * 3] * 4
    assert told["commands"] == [[0.0, 1.5]] * 3
    assert told["driven"] == [4, 0, 4]
    assert told["track"] == "hall"
    assert told["same track"]
    assert told["several"] == ["hall", "line2"]


SCENARIOS = """
import json, sys
from pathlib import Path
from f110_fl.config.schema import schema_text
from f110_fl.errors import UserError
from f110_fl.loading.scenarios import dump_scenario, load_scenario, parse_resolved
from f110_fl.runs.preflight import check_environment

def line(path):
    try:
        check_environment(load_scenario(path))
    except UserError as error:
        return str(error).replace(str(path), "FILE")

good = load_scenario(Path("good.yaml"))
assert parse_resolved(dump_scenario(good)) == good
kinds = [kind for kind in ("cruise", "hurry", "hall") if f'"const": "{kind}"' in schema_text()]
print(json.dumps([kinds, *(line(path) for path in sorted(Path().glob("*.yaml")))]))
"""


def test_scenarios_are_checked_as_with_our_own(tmp_path: Path) -> None:
    variables = install(tmp_path, "PLUGIN")
    task = {"kind": "evade", "target": "car_1", "shaping": [{"term": "hurry", "weight": 2.0}]}
    cars: list[Any] = [{"name": "car_0", "task": task}, {"name": "car_1"}]

    def write(name: str, driver: dict[str, Any]) -> None:
        own = {"cars": [cars[0], cars[1] | {"driver": driver}], "spawn_sets": []}
        own["track"] = {"kind": "hall"}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(merge(SMALL, {"env": own})))

    write("bound", {"kind": "cruise", "speed": 0.0})
    write("good", {"kind": "cruise"})
    write("key", {"kind": "cruise", "sped": 1.0})
    write("lost", {"kind": "lost"})
    write("word", {"kind": "cruize"})
    kinds, bound, good, key, lost, word = ask(tmp_path, SCENARIOS, variables)
    assert kinds == ["cruise", "hurry", "hall"]
    assert good is None
    assert bound.endswith("driver.speed: found 0.0 (number); allowed: a number above 0 [m/s]")
    assert key.endswith("unknown key; allowed: gain, kind, speed (did you mean 'speed'?)")
    assert "cannot be imported: AttributeError" in lost
    assert "frozen_policy, cruise, lost (did you mean 'cruise'?)" in word
    assert "\n" not in bound + key + lost + word


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("MISSING", "plugin missing = 'plugin:MISSING' cannot be imported: AttributeError: "),
        ("NO_PLUGIN", "plugin no_plugin = 'plugin:NO_PLUGIN' is a int; a sim.plugins.Plugin"),
        ("UNNAMED", "plugin unnamed = 'plugin:UNNAMED': drivers: Config must be a"),
        ("AGAIN", "plugin again = 'plugin:AGAIN': drivers: kind 'stanley' is taken already"),
        ("SEVERAL", "plugin several = 'plugin:SEVERAL': tracks: kind 'several' is taken already"),
    ],
)
def test_a_wrong_plugin_is_one_line(tmp_path: Path, name: str, line: str) -> None:
    result = subprocess.run(
        [sys.executable, str(REPOSITORY / "run.py"), "--help"],
        env=install(tmp_path, name),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f"run.py: {line}")
    assert result.stderr.count("\n") == 1
