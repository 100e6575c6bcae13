"""Exported policies act as the learners that they are from."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from exported import Export, lap_scenario
from small import REPOSITORY

from f110_fl.exporting.proof import prove
from f110_fl.robot.contract import ContractError
from f110_fl.robot.policy import Policy
from f110_fl.robot.sensors import Motion, Pose, observe
from sim.race import Race

CONV = {"kind": "conv", "channels": [3, 4], "kernels": [5, 3], "strides": [2, 1]}
LEARNERS = {
    "td3": {"algorithm": "td3", "hidden": [16, 12]},
    "td3-conv": {"algorithm": "td3", "hidden": [16], "encoder": CONV},
    "sac-normalised": {"algorithm": "sac", "hidden": [16, 12], "normalise_observations": True},
    "dqn": {"algorithm": "dqn", "hidden": [16, 12], "duelling": False},
    "dqn-duelling-noisy": {
        "algorithm": "dqn",
        "hidden": [16, 12],
        "duelling": True,
        "exploration": {"kind": "noisy"},
        "encoder": CONV,
    },
    "ppo": {"algorithm": "ppo", "actor_hidden": [16, 12], "normalise_observations": True},
    "ppo-lstm": {"algorithm": "ppo", "actor_hidden": [12], "lstm": {"units": 8}},
}


@pytest.mark.parametrize("name", LEARNERS)
def test_all_runtimes_act_as_pytorch(name: str, tmp_path: Path) -> None:
    """On random and real observations, and in whole episodes, step for step."""
    export = Export(tmp_path, lap_scenario(LEARNERS[name]))
    proofs = list(prove(export.directory, export.policy, export.evaluator, export.episodes))
    assert [proof.runtime for proof in proofs] == ["PyTorch", "NumPy", "onnxruntime"]
    assert all(proof.holds for proof in proofs)
    assert all(proof.equal == proof.episodes == 3 for proof in proofs[1:])
    golden = np.load(export.directory / "golden.npz")
    policy = Policy(export.directory)
    actions = [policy.decide(row) for row in golden["observations"]]
    assert 15 <= len(actions) <= 64
    np.testing.assert_allclose(actions, golden["actions"], atol=1e-5)


def test_another_network_is_found_out(tmp_path: Path) -> None:
    """The proof can fail: with one weight changed in the files, it does."""
    export = Export(tmp_path, lap_scenario(LEARNERS["td3"]))
    path = export.directory / "policy.npz"
    arrays = dict(np.load(path))
    arrays["model/actor/weights.0"][0, 0] += 0.01
    np.savez(path, **arrays)
    found = {p.runtime: p.holds for p in prove(
        export.directory, export.policy, export.evaluator, export.episodes
    )}  # fmt: skip
    assert found == {"PyTorch": True, "NumPy": False, "onnxruntime": True}


def test_the_graph_gives_commands_in_their_units(tmp_path: Path) -> None:
    """Steering angle in rad, speed in m/s, from any number of rows."""
    export = Export(tmp_path, lap_scenario(LEARNERS["td3"]), single=True)
    session = onnxruntime.InferenceSession(export.directory / "policy.onnx")
    rows = np.load(export.directory / "golden.npz")["observations"]
    action, command = session.run(["action", "command"], {"observation": rows})
    np.testing.assert_allclose(command[:, 0], 0.4189 * action[:, 0], atol=1e-6)
    np.testing.assert_allclose(command[:, 1], 2.0 + 2.0 * action[:, 1], atol=1e-6)  # no reverse
    policy = Policy(export.directory)
    assert policy.contract.commands.slowest == 0.0
    assert policy.contract.commands.rate == pytest.approx(20.0)


def test_a_graph_of_single_precision_convolves_too(tmp_path: Path) -> None:
    export = Export(tmp_path, lap_scenario(LEARNERS["td3-conv"]), single=True)
    args = export.directory, export.policy, export.evaluator, export.episodes
    assert [p.holds for p in prove(*args, single=True)] == [True] * 3


@pytest.mark.parametrize("name", ["td3", "ppo-lstm"])
def test_observations_are_made_of_sensors_as_in_training(name: str, tmp_path: Path) -> None:
    """What a simulated car's sensors say becomes what its learner observed, to the last bit."""
    others = [
        {"name": "car_0", "task": {"kind": "solo_lap"}},
        {"name": "car_1", "driver": {"kind": "pure_pursuit"}},
        {"name": "car_2", "driver": {"kind": "follow_the_gap"}},
    ]
    parts = ["pose", "lidar", "others_velocity", "others", "motion"]
    spawn = {"kind": "grid"}
    scenario = lap_scenario(LEARNERS[name], cars=others, observation=parts, spawn=spawn)
    contract = Export(tmp_path, scenario).policy.contract
    race = Race(scenario.env)
    race.seed(0, 3)
    race.next_episode(0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        race.step(rng.uniform(-1, 1, (1, 1, 2)))
        state = race.world.arrays.state[0]
        poses = [Pose(*car[[0, 1, 4]]) for car in state]
        motion = Motion(*state[0][[3, 2, 5, 6]])
        ranges = race.world.arrays.scan[0, 0]
        ways = state[1:, 4] + state[1:, 6]
        moving = list(zip(state[1:, 3] * np.cos(ways), state[1:, 3] * np.sin(ways), strict=True))
        found = observe(contract, ranges, motion, poses[0], poses[1:], moving)
        np.testing.assert_allclose(found, race.episodes.observations[0, 0], atol=1e-6)
    with pytest.raises(ContractError, match="observes pose: it needs the pose"):
        observe(contract, ranges, motion)
    with pytest.raises(ContractError, match="poses of 1 other cars; 2 are needed"):
        observe(contract, ranges, motion, poses[0], poses[1:2], moving)
    with pytest.raises(ContractError, match="velocities of 0 other cars; 2 are needed"):
        observe(contract, ranges, motion, poses[0], poses[1:])


def test_the_command_line_exports_and_refuses(tmp_path: Path) -> None:
    """A real process, from a checkpoint in a run's directory to a proven policy."""
    export = Export(tmp_path, lap_scenario(LEARNERS["td3"]))
    shutil.rmtree(export.directory)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(REPOSITORY / "tools" / "export_policy.py"), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    checkpoint = export.run / "best.safetensors"
    done = run(checkpoint, "--out", export.directory, "--verify", "--episodes", 2)
    assert done.returncode == 0, done.stderr
    assert "NumPy       holds" in done.stdout
    assert "2 of 2 episodes alike" in done.stdout
    origin = json.loads((export.directory / "contract.json").read_text())["origin"]
    assert origin["scenario"] == "lap"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    refused = {
        "holds 'notes.txt'; allowed: an empty directory": (checkpoint, "--out", tmp_path / "other"),
        "no such file": (tmp_path / "none", "--out", tmp_path / "x"),
        "no such learner; allowed: car_0": (checkpoint, "--agent", "x", "--out", tmp_path / "x"),
    }
    for reason, arguments in refused.items():
        result = run(*arguments)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
        assert reason in result.stderr


def test_files_that_do_not_fit_are_refused_in_a_line(tmp_path: Path) -> None:
    export = Export(tmp_path, lap_scenario(LEARNERS["td3"]))

    def refusal(name: str, content: bytes) -> str:
        copy = tmp_path / "copy"
        shutil.copytree(export.directory, copy, dirs_exist_ok=True)
        (copy / name).write_bytes(content)
        with pytest.raises(ContractError) as caught:
            Policy(copy)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    contract = json.loads((export.directory / "contract.json").read_text())
    assert "cannot be read" in refusal("contract.json", b"{")
    changed = json.dumps(contract | {"format": 2}).encode()
    assert "format 2; this version reads 1" in refusal("contract.json", changed)
    assert "is not a contract" in refusal("contract.json", b'{"format": 1, "agent": "x"}')
    assert "cannot be read" in refusal("policy.npz", b"PK\x03\x04 torn")
    np.savez(tmp_path / "few.npz", a=np.zeros(1))
    assert "tensor 'model/actor/weights.0' is missing" in refusal(
        "policy.npz", (tmp_path / "few.npz").read_bytes()
    )
    smaller = contract | {"observation": [["motion", 4], ["lidar", 18]]}
    assert "does not fit" in refusal("contract.json", json.dumps(smaller).encode())
