"""Learners that start from a policy: what is loaded, by whom, and what does not fit."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import SMALL, merge

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.learners.base import Learner
from f110_fl.loading.scenarios import load_scenario
from f110_fl.rundir import RunDir
from f110_fl.runs.preflight import check_initial
from f110_fl.seeding import Use, stream
from f110_fl.tensors import owned, read_metadata, read_tensors, write_tensors
from f110_fl.training.agents import initial_tensors, make_learners, write_models
from f110_fl.training.checkpoint import load_initial, started_on_clients
from f110_fl.training.shipped import Origin, write_shipped
from f110_fl.training.trainer import Trainer
from sim.race import Race

TD3 = SMALL["learners"]["car_0"]
PPO = {"algorithm": "ppo", "rollout_steps": 16, "minibatches": 2, "normalise_observations": True}
LEARNERS: dict[str, dict[str, Any]] = {
    "td3": TD3,
    "sac": TD3 | {"algorithm": "sac", "normalise_observations": True},
    "dqn": TD3 | {"algorithm": "dqn"},
    "noisy": TD3 | {"algorithm": "dqn", "exploration": {"kind": "noisy"}},
    "conv": TD3 | {"encoder": {"kind": "conv", "channels": [4], "kernels": [3], "strides": [2]}},
    "ppo": PPO,
    "lstm": PPO | {"lstm": {"units": 8, "sequence": 8}},
}
ORIGIN = Origin("a command", 3, "0", {"episodes": 1, "seed": 0, "cars": {}})
ALONE = {"enabled": False, "clients": 1}


def scenario(algorithm: str = "td3", /, **changes: Any) -> Scenario:
    """The small scenario with another learner, and changes of it."""
    learner = merge(LEARNERS[algorithm], changes.pop("learner", {}))
    changed = merge(SMALL, changes) | {"learners": {"car_0": learner}}
    return Scenario.model_validate(changed)


def learners(chosen: Scenario, seed: int) -> dict[str, Learner]:
    return make_learners(chosen, Race(chosen.env), partial(stream, seed, Use.MODEL))


def ship(path: Path, chosen: Scenario, seed: int = 99) -> dict[str, Learner]:
    """Writes the policy of learners of another seed, with statistics, and returns them."""
    made = learners(chosen, seed)
    own = made["car_0"].tensors()
    counted = {n: torch.rand_like(x) + 1 for n, x in own.items() if "/normaliser/" in n}
    made["car_0"].load_tensors(counted)
    write_shipped(path, made, chosen, ORIGIN)
    return made


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_what_acts_is_loaded_and_the_rest_starts_as_always(tmp_path: Path, algorithm: str) -> None:
    path = tmp_path / "policy.safetensors"
    source = ship(path, scenario(algorithm))["car_0"].tensors()
    chosen = scenario(algorithm, learner={"initial": str(path)})
    started, fresh = learners(chosen, 1), learners(chosen, 1)["car_0"].tensors()
    load_initial(started, chosen)
    shipped, found = owned(read_tensors(path), "car_0", "model"), started["car_0"].tensors()
    acting = {"q"} if algorithm in ("dqn", "noisy") else {"actor"}
    assert {name.split("/")[1] for name in shipped} - {"normaliser"} == acting
    for name, tensor in found.items():
        base = name.replace("_target/", "/")
        expected = source[base] if base in shipped else fresh[name]
        assert torch.equal(tensor, expected), name
    assert any(not torch.equal(found[name], fresh[name]) for name in shipped)


def test_what_more_a_checkpoint_has_is_loaded_too(tmp_path: Path) -> None:
    """Of a whole checkpoint the critics and targets, too, but no moments."""
    path = tmp_path / "best.safetensors"
    made = learners(scenario(), 99)
    own = made["car_0"].tensors()
    made["car_0"].load_tensors({n: x + 1 for n, x in own.items() if "actor_target" in n})
    write_models(path, made, scenario(), {})
    chosen = scenario(learner={"initial": str(path)})
    found = initial_tensors(chosen)
    for name, tensor in read_tensors(path).items():
        assert torch.equal(found[name], tensor), name


def test_a_file_relative_to_the_scenario(write_scenario: Callable[..., Path]) -> None:
    path = write_scenario(learners={"car_0": {"initial": "policies/p.safetensors"}})
    with pytest.raises(UserError) as caught:
        load_scenario(path)
    line = re.escape(f"no such file in {str(path.parent)!r}; allowed: a safetensors file")
    assert re.search(rf"small\.yaml:\d+: learners\.car_0\.initial: .*{line}", str(caught.value))
    (path.parent / "policies").mkdir()
    ship(path.parent / "policies" / "p.safetensors", scenario())
    found = load_scenario(path).learners["car_0"].initial
    assert found == str(path.parent / "policies" / "p.safetensors")


# ---------------------------------------------------------------------- what does not fit

OTHERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "widths": ("td3", {"learner": {"hidden": [8, 8]}}, r"biases.0' has shape \(16,\), expected"),
    "beams": ("td3", {"env": {"lidar": {"beams": 12}}}, r"weights.0' has shape \(16, 16\), "),
    "algorithm": ("ppo", {"learner": {"actor_hidden": [16, 16]}}, "lacks 'model/actor/log_std'"),
    "order": (
        "td3",
        {"env": {"observation": ["pose", "lidar", "others"]}},
        "its observation: lidar 8, pose 4, others 4; the scenario's: pose 4, lidar 8, others 4$",
    ),
    "normaliser": ("td3", {"learner": {"normalise_observations": True}}, "lacks 'model/normaliser"),
    "encoder": ("conv", {}, "lacks 'model/actor/encoder"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_policy_that_does_not_fit_is_one_line(tmp_path: Path, name: str) -> None:
    algorithm, changes, words = OTHERS[name]
    path = tmp_path / "policy.safetensors"
    ship(path, scenario())
    chosen = scenario(algorithm, **merge(changes, {"learner": {"initial": str(path)}}))
    with pytest.raises(UserError) as caught:
        check_initial(chosen, RunDir(tmp_path / "run"))
    line = str(caught.value)
    assert line.startswith(f"learners.car_0.initial: {path}: ")
    assert re.search(words, line), line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("algorithm", ["td3", "dqn", "ppo"])
def test_what_a_policy_did_not_see_has_no_weight_at_first(tmp_path: Path, algorithm: str) -> None:
    plain, path = {"normalise_observations": False}, tmp_path / "policy.safetensors"
    blind = scenario(algorithm, learner=plain, env={"observation": ["lidar", "pose"]})
    source = ship(path, blind)["car_0"]
    chosen = scenario(algorithm, learner=plain | {"initial": str(path)})
    started, fresh = learners(chosen, 1)["car_0"], learners(chosen, 1)["car_0"].tensors()
    load_initial({"car_0": started}, chosen)
    seen = np.random.default_rng(0).standard_normal((50, 16), dtype=np.float32)
    rows = np.arange(50)
    more = started.policy(50).act(seen, rows)
    assert np.allclose(more, source.policy(50).act(seen[:, :12], rows), atol=1e-6)
    seen[:, 12:] = 9.0  # the others' poses, which are new
    assert np.array_equal(started.policy(50).act(seen, rows), more)
    found = started.tensors()
    critics = [name for name in found if "critic" in name or "value" in name]
    assert all(torch.equal(found[name], fresh[name]) for name in critics)


@pytest.mark.parametrize(
    ("algorithm", "observation"),
    [("ppo", ["lidar", "pose"]), ("td3", ["pose"]), ("conv", ["lidar"])],
)
def test_what_else_differs_is_refused(
    tmp_path: Path, algorithm: str, observation: list[str]
) -> None:
    """Statistics of less, a part in the middle, an encoder: none can be made to fit."""
    path = tmp_path / "policy.safetensors"
    ship(path, scenario(algorithm, env={"observation": observation}))
    with pytest.raises(UserError, match="another model of 'car_0' than the scenario's"):
        initial_tensors(scenario(algorithm, learner={"initial": str(path)}))


def test_a_policy_that_sees_less_and_lacks_a_tensor_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    ship(path, scenario(env={"observation": ["lidar", "pose"]}))
    tensors = read_tensors(path)
    del tensors["car_0/model/actor/weights.0"]
    write_tensors(path, tensors, read_metadata(path))
    with pytest.raises(UserError, match=r"lacks 'model/actor/weights\.0'"):
        initial_tensors(scenario(learner={"initial": str(path)}))


def test_networks_joined_in_another_way(tmp_path: Path) -> None:
    """Their shapes tell nothing: the format in the metadata does."""
    path = tmp_path / "policy.safetensors"
    ship(path, scenario("ppo"))
    learner = {"initial": str(path), "activation": "relu"}
    with pytest.raises(UserError, match=r"its activation: tanh; the scenario's: relu$"):
        initial_tensors(scenario("ppo", learner=learner))
    grid = {"steering": [-0.5, -0.25, 0.0, 0.25, 0.5]}
    ship(path, scenario("dqn"))
    learner = {"initial": str(path), "actions": grid}
    with pytest.raises(UserError, match=r"its actions: -1.0 0.0, .*; the scenario's: -0.5 0.0, "):
        initial_tensors(scenario("dqn", learner=learner))
    write_tensors(path, read_tensors(path))  # it says nothing of itself
    initial_tensors(scenario("dqn", learner=learner))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no tensors", "not a readable safetensors file"),
        (None, "not a readable safetensors file: .*No such file"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "policy.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"^learners.car_0.initial: {path}: {words}"):
        check_initial(scenario(learner={"initial": str(path)}), RunDir(tmp_path / "run"))


def test_a_file_of_another_agent(tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    ship(path, scenario())
    renamed = {n.replace("car_0/", "car_9/"): x for n, x in read_tensors(path).items()}
    write_tensors(path, renamed, read_metadata(path))
    with pytest.raises(UserError, match=r"no model of 'car_0'; found: car_9$"):
        check_initial(scenario(learner={"initial": str(path)}), RunDir(tmp_path / "run"))


# ---------------------------------------------------------------------- who reads it, and when


@pytest.mark.parametrize(
    ("algorithm", "federated", "read"),
    [
        ("ppo", ALONE, True),
        ("td3", {}, False),
        ("td3", {"share": "actor"}, False),
        ("ppo", {"share": "all"}, False),
        ("ppo", {}, True),  # normalisers stay with the clients
        ("ppo", {"share": "actor"}, True),
        ("td3", {"share": "all_but_head"}, True),
    ],
)
def test_clients_read_what_no_server_sends(
    algorithm: str, federated: dict[str, Any], read: bool
) -> None:
    assert started_on_clients(scenario(algorithm, federated=federated)) == ["car_0"] * read


def test_a_learner_that_is_not_averaged_starts_on_the_clients() -> None:
    cars = [{"name": name, "task": {"kind": "solo_lap"}} for name in ("car_0", "car_1")]
    changed = merge(SMALL, {"federated": {"agents": ["car_0"]}, "env": {"cars": cars}})
    changed |= {"learners": {"car_0": TD3, "car_1": TD3}}
    assert started_on_clients(Scenario.model_validate(changed)) == ["car_1"]


def test_a_deployed_client_needs_no_file(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.safetensors")
    chosen = scenario(learner={"initial": gone})
    plain = Trainer(scenario(), 0, tmp_path / "plain").learners["car_0"].tensors()
    found = Trainer(chosen, 0, tmp_path / "client").learners["car_0"].tensors()
    assert all(torch.equal(found[name], plain[name]) for name in plain)
    with pytest.raises(UserError, match="No such file"):
        initial_tensors(chosen)  # the server reads it, unless it goes on from a state
    assert initial_tensors(chosen, read=False).keys() == initial_tensors(scenario()).keys()
    for share in ("all_but_head", "all"):
        federated = {"share": share}
        own = scenario("ppo", learner={"initial": gone}, federated=federated)
        if share == "all":
            Trainer(own, 0, tmp_path / share)
        else:
            with pytest.raises(UserError, match=r"learners.car_0.initial: .*No such file"):
                Trainer(own, 0, tmp_path / share)


@pytest.mark.parametrize("algorithm", ["td3", "ppo"])
def test_a_replica_goes_on_from_its_state_alone(tmp_path: Path, algorithm: str) -> None:
    """With the file changed, and with it gone, it ends as if it had never been interrupted."""
    path = tmp_path / "policy.safetensors"
    ship(path, scenario(algorithm))
    chosen = scenario(algorithm, learner={"initial": str(path)}, federated=ALONE)
    straight = Trainer(chosen, 0, tmp_path / "straight")
    actor = straight.learners["car_0"].tensors()["model/actor/weights.0"]
    assert torch.equal(actor, read_tensors(path)["car_0/model/actor/weights.0"])
    straight.train(1)
    straight.save()
    shutil.copytree(tmp_path / "straight", tmp_path / "resumed")
    ship(path, scenario(algorithm), seed=98)
    straight.train(1)
    straight.save()
    resumed = Trainer(chosen, 0, tmp_path / "resumed")
    resumed.train(1)
    resumed.save()
    path.unlink()
    run = RunDir(tmp_path / "run")
    with pytest.raises(UserError, match="No such file"):
        check_initial(chosen, run)  # a new run
    run.clients.mkdir(parents=True)
    shutil.copytree(tmp_path / "resumed", run.client(0))
    check_initial(chosen, run)
    Trainer(chosen, 0, run.client(0))
    left, right = (tmp_path / name / "state.safetensors" for name in ("straight", "resumed"))
    assert left.read_bytes() == right.read_bytes()
