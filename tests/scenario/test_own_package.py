"""The package of docs/extending.md: installed, driven, learned with, federated, refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import page
import pytest
import torch
import yaml
from flwr.app import Context, Message, MessageType, RecordDict
from small import PYTHONPATH, REPOSITORY
from watching import TIMEOUT

from clients.client_app import app
from f110_fl.errors import UserError
from f110_fl.federation.arrays import to_arrays
from f110_fl.federation.messages import TrainOrder
from f110_fl.reporting.announce import FAILED, Announcements
from f110_fl.tensors import read_tensors

RUN = str(REPOSITORY / "run.py")
SHORT = ("federated.round_interval=2", "env.max_steps=30", "evaluation.every=2")
SHORT += ("evaluation.episodes=1", "learners.car_0.population=3", "learners.car_0.elite=1")


def run(site: Path, folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    """Runs a Python program where the packages in ``site`` are installed."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{PYTHONPATH}"} | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )


def done(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return str(result.stdout)


def asked(site: Path, folder: Path, script: str) -> Any:
    """Returns what a script prints as JSON."""
    return json.loads(done(run(site, folder, "-c", script)))


def install(package: Path, site: Path) -> Path:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--target", str(site), str(package)]
    subprocess.run(command, check=True, timeout=TIMEOUT)
    return site


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page.write_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def site(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(package, tmp_path_factory.mktemp("site"))


PARTS = """
import json
from pathlib import Path
import numpy as np
from f110_fl.loading.scenarios import load_scenario
from sim.layout import V
from sim.race import Race

env = load_scenario(Path("race.yaml")).env
first, *others = env.cars
(hurry,) = (term for term in first.task.shaping if term.term == "hurry")
task = first.task.model_copy(update={"shaping": (hurry,)})
first = first.model_copy(update={"task": task})
race = Race(env.model_copy(update={"cars": (first, *others)}))
race.reset(0, 0)
state, speeds, paid = race.world.arrays.state, [0.0], 0.0
for step in range(40):  # 2 s
    paid += race.step(np.array([[[0.0, 0.2 if step < 20 else -0.5]]])).rewards[0, 0]
    speeds.append(state[0, 0, V])
print(json.dumps({
    "track": [race.track.name, race.track.closed, race.track.length],
    "paid": paid, "fastest": max(speeds), "last": speeds[-1], "weight": hurry.weight,
}))
"""


def test_the_term_and_the_track_do_what_they_say(package: Path, site: Path) -> None:
    told = asked(site, package, PARTS)
    name, closed, length = told["track"]
    assert (name, closed) == ("ellipse", True)
    assert length == pytest.approx(79.3, abs=0.1)  # of an ellipse with axes of 30 m and 20 m
    assert told["last"] < told["fastest"] - 1.0  # the car has slowed down, which costs nothing
    assert told["paid"] == pytest.approx(told["weight"] * told["fastest"])


@pytest.mark.slow
def test_the_driver_drives_laps(package: Path, site: Path, tmp_path: Path) -> None:
    scenario = yaml.safe_load((package / "race.yaml").read_text())
    scenario["env"]["cars"] = scenario["env"]["cars"][1:]
    del scenario["learners"]
    (tmp_path / "lap.yaml").write_text(yaml.safe_dump(scenario))
    done(run(site, tmp_path, RUN, "--scenario", "lap.yaml", "--mode", "eval", FED_ROOT="lap"))
    found = json.loads((tmp_path / "lap" / "evaluation.json").read_text())["cars"]["car_1"]
    assert found["outcomes"]["finished"]["count"] == found["episodes"]
    assert found["lap_time"]["mean"] == pytest.approx(79.3 / 3.0, rel=0.05)  # at 3 m/s


LEARNED = """
import json
import numpy as np
from f110_fl.learners.base import LearnerSetup, Transitions
from f110_fl.learners.factory import make_learner
from my_f110.plugin import CrossEntropyConfig

envs = np.arange(4)
config = CrossEntropyConfig(normalise_observations=True)
learner = make_learner(config, LearnerSetup(3, 2, np.random.SeedSequence(0), num_envs=4))
wanted = np.array([[0.5, -0.2], [0.0, 0.3], [-0.4, 0.1]], np.float32)
rng = np.random.default_rng(0)

def error(observations, actions):
    return np.square(actions - observations @ wanted).sum(1).astype(np.float64)

def tested():
    observations = np.random.default_rng(1).uniform(-1, 1, (200, 3)).astype(np.float32)
    return float(error(observations, learner.policy(200).act(observations, None)).mean())

errors = [tested()]
never, always = np.zeros(4, np.bool_), np.ones(4, np.bool_)
for number in range(500):  # episodes of 20 steps
    for step in range(20):
        observations = rng.uniform(-1, 1, (4, 3)).astype(np.float32)
        actions = learner.act(observations, envs)
        seen = envs, observations, actions, -error(observations, actions), observations
        learner.observe(Transitions(*seen, always if step == 19 else never, never))
        learner.update()
errors.append(tested())
print(json.dumps(errors))
"""


def test_the_learner_learns(package: Path, site: Path) -> None:
    before, after = asked(site, package, LEARNED)
    assert after < before / 10


# In one process: half of a run, a whole one, and an evaluation of its model.
RUNS = """
import os, sys
from pathlib import Path
from in_process import InProcess, carry_out
from f110_fl.runs.plan import resolve_plan
from run import build_parser, main

model, *words = sys.argv[1:]
for name, episodes in (("halves", "2"), ("whole", "4")):
    plan = resolve_plan(build_parser().parse_args(["--episodes", episodes, *words]), {})
    carry_out(plan.scenario, Path(name), InProcess())
os.environ["FED_ROOT"] = "evaluated"
evaluated = ("--mode", "eval", "--eval-episodes", "2", "--checkpoint", f"whole/{model}")
sys.exit(main([*words[:2], *evaluated]))
"""


@pytest.mark.slow
def test_a_federation_that_is_resumed_ends_as_one_that_is_not(
    package: Path, site: Path, tmp_path: Path
) -> None:
    """A client's population spans rounds, so that what it tried has to survive."""
    begun = ("--scenario", str(package / "race.yaml"), "--set", *SHORT)
    model = "round_00002/global.safetensors"
    done(run(site, tmp_path, "-c", RUNS, model, *begun))
    done(run(site, tmp_path, RUN, "--resume", "halves", "--episodes", "4"))
    assert (tmp_path / "whole" / model).read_bytes() == (tmp_path / "halves" / model).read_bytes()
    first, second = (
        read_tensors(tmp_path / "whole" / f"round_0000{k}" / "global.safetensors") for k in (1, 2)
    )
    assert set(first) == {"car_0/model/actor/weights.0", "car_0/model/actor/biases.0"}
    assert not torch.equal(*(own["car_0/model/actor/weights.0"] for own in (first, second)))
    with (tmp_path / "whole" / "rounds.jsonl").open() as lines:
        assert [json.loads(line)["clients"] for line in lines] == [[0, 1], [0, 1]]
    found = json.loads((tmp_path / "evaluated" / "evaluation.json").read_text())["cars"]
    assert found["car_0"]["episodes"] == found["car_1"]["episodes"] == 2
    refused = run(Path(), tmp_path, RUN, "--resume", "halves", "--episodes", "6")
    assert refused.returncode == 2
    assert "env.track.kind: found 'ellipse' (text)" in refused.stderr
    assert refused.stderr.endswith("; is the plugin with it installed here?\n")


MISTAKE, TAKEN, DROPPED = (block.strip() for block in page.unnamed(page.PACKAGE, "text"))


def mistaken(package: Path, folder: Path, old: str, new: str) -> Path:
    text = (package / "race.yaml").read_text()
    assert text.count(old) == 1
    (folder / "race.yaml").write_text(text.replace(old, new))
    return folder


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("speed: 3.0", "speed: 0.0", MISTAKE),
        ("term: hurry", "term: hury", "shaping[1].term: found 'hury' (text); allowed: "),
        ("kind: ellipse, length: 30", "kind: ellipse, lenght: 30", "env.track.lenght: unknown key"),
        ("elite: 3", "elite: 11", "learners.car_0: elite 11 exceeds population 10"),
    ],
)
def test_its_settings_are_checked_as_ours_are(
    package: Path, site: Path, tmp_path: Path, old: str, new: str, line: str
) -> None:
    folder = mistaken(package, tmp_path, old, new)
    result = run(site, folder, RUN, "--scenario", "race.yaml")
    assert result.returncode == 2
    assert result.stderr.startswith("run.py: race.yaml:")
    assert line in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_schema_has_its_settings(site: Path, tmp_path: Path) -> None:
    done(run(site, tmp_path, "-m", "f110_fl.config.schema", "schema.json"))
    models = json.loads((tmp_path / "schema.json").read_text())["$defs"]
    for name, tag, word in (
        ("BalanceConfig", "kind", "balance"),
        ("HurryTerm", "term", "hurry"),
        ("EllipseTrack", "kind", "ellipse"),
        ("CrossEntropyConfig", "algorithm", "cross_entropy"),
    ):
        assert models[name]["properties"][tag]["const"] == word
    assert models["BalanceConfig"]["properties"]["speed"]["exclusiveMinimum"] == 0


PROGRAMS = {
    "run.py": (RUN, "--help"),
    "clients.process": ("-m", "clients.process", "--superlink", "server.example:9092"),
    "f110_fl.config.schema": ("-m", "f110_fl.config.schema", "schema.json"),
}
BROKEN = {
    "unimportable": ("from pydantic", "from pydantik", "cannot be imported: ModuleNotFoundError"),
    "no plugin": (
        "PLUGIN = Plugin(",
        "PLUGIN = dict(",
        "is a dict; a sim.plugins.Plugin is needed",
    ),
    "taken": ('"balance"', '"stanley"', TAKEN.removeprefix("run.py: ")),
}


def broken(site: Path, folder: Path, old: str, new: str) -> Path:
    """Returns a copy of the installed package with something wrong in its plugin."""
    # Compiled files would do for a source as long, of the same second.
    shutil.copytree(site, folder, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "my_f110" / "plugin.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    return folder


@pytest.mark.parametrize(
    ("program", "what"),
    [
        *(("run.py", what) for what in BROKEN),
        *((program, "taken") for program in list(PROGRAMS)[1:]),
    ],
)
def test_a_broken_plugin_is_one_line(site: Path, tmp_path: Path, program: str, what: str) -> None:
    old, new, line = BROKEN[what]
    result = run(broken(site, tmp_path / "site", old, new), tmp_path, *PROGRAMS[program])
    assert result.returncode == 2
    assert result.stderr.startswith(f"{program}: plugin my_f110 = 'my_f110.plugin:PLUGIN'")
    assert line in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_server_with_a_broken_plugin_tells_who_submits(site: Path, tmp_path: Path) -> None:
    old, new, line = BROKEN["taken"]
    server = ("-c", "import server.server_app")
    result = run(broken(site, tmp_path / "site", old, new), tmp_path, *server)
    event = Announcements().read(result.stdout)
    assert event is not None
    assert event["event"] == FAILED
    assert line in event["message"]


@pytest.mark.usefixtures("flower_task")
def test_a_client_without_the_plugin_says_so(package: Path, site: Path) -> None:
    """It has the scenario from the server; see the strategy's tests for how it is dropped."""
    script = "import json; from pathlib import Path\n"
    script += "from f110_fl.loading.scenarios import dump_scenario, load_scenario\n"
    script += "print(json.dumps(dump_scenario(load_scenario(Path('race.yaml')))))"
    text = asked(site, package, script)
    order = TrainOrder(to_arrays({}), 1, text, "root", "run", episodes=1, proximal_mu=0.0)
    message = Message(order.to_content(), dst_node_id=1, message_type=MessageType.TRAIN)
    node = {"partition-id": 0, "num-partitions": 2}
    context = Context(1, 1, node, state=RecordDict(), run_config={})
    with pytest.raises(UserError) as caught:
        app(message, context)
    begin, end = DROPPED.removeprefix("dropped 1 (").removesuffix(")").split("…")
    assert str(caught.value).startswith(begin)
    assert str(caught.value).endswith(end)
    assert "\n" not in str(caught.value)
