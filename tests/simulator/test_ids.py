"""Gymnasium's ids: what they make, from which files, and what they cost."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from small import REPOSITORY

from f110_fl.errors import UserError
from f110_fl.loading import environments, scenario_envs
from f110_fl.loading.scenarios import load_scenario
from sim.envs import F110Env, F110VectorEnv


@pytest.mark.parametrize("name", environments.SHIPPED)
def test_an_id_names_the_environment_of_a_shipped_scenario(name: str) -> None:
    file = REPOSITORY / "scenarios" / f"{environments.SHIPPED[name]}.yaml"
    found = scenario_envs.read_environment(None, **gymnasium.spec(name).kwargs)
    assert found == {"config": load_scenario(file).env}
    with pytest.raises(UserError, match="config: this id is the scenario"):
        gymnasium.make(name, config=file)


@pytest.mark.parametrize(("name", "agents"), [("F110-ConvoyLock-v0", 1), ("F110-Duel-v0", 2)])
def test_a_batch_is_made_by_its_id(name: str, agents: int) -> None:
    file = REPOSITORY / "scenarios" / f"{environments.SHIPPED[name]}.yaml"
    config = load_scenario(file).env
    envs = gymnasium.make_vec(name, num_envs=2 * agents, max_episode_steps=3)
    assert isinstance(envs, F110VectorEnv)
    assert envs.race.config == config.model_copy(update={"max_steps": 3})
    envs.reset(seed=1)
    for _ in range(3):
        rows = np.tile(np.array([0.0, -1.0], np.float32), (2 * agents, 1))
        *_, terminated, truncated, _ = envs.step(rows)
    assert (terminated | truncated).all()
    assert envs.spec is not None
    assert envs.spec.id == name


def test_a_scenarios_file_may_be_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    shutil.copy(REPOSITORY / "scenarios" / "convoy_lock_td3.yaml", file)
    text = file.read_text().replace("max_steps: 150", "max_steps: 5")
    file.write_text(text)
    for config in (file, str(file)):
        env = gymnasium.make("F110-v0", config=config)
        assert isinstance(env.unwrapped, F110Env)
        assert env.unwrapped.metadata["render_modes"] == F110Env.metadata["render_modes"]
        assert env.unwrapped.race.config == load_scenario(file).env
        assert env.unwrapped.race.config.max_steps == 5
    assert gymnasium.make_vec("F110-v0", num_envs=2, config=file).race.config.max_steps == 5
    file.write_text(text.replace("max_steps: 5", "max_steps: 0"))
    with pytest.raises(UserError, match=rf"^{re.escape(str(file))}:9: env.max_steps: found 0"):
        gymnasium.make("F110-v0", config=file)
    with pytest.raises(UserError, match=r"absent\.yaml"):
        gymnasium.make("F110-v0", config=tmp_path / "absent.yaml")


def test_where_no_scenarios_are_installed_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenario_envs, "FOLDER", tmp_path)
    with pytest.raises(UserError, match=r"solo_lap_ppo.yaml: no such file: an installed package"):
        gymnasium.make("F110-SoloLap-v0")


def test_several_learning_cars_are_for_a_batch() -> None:
    with pytest.raises(ValueError, match="F110Env has one agent"):
        gymnasium.make("F110-Duel-v0")


@pytest.mark.parametrize("limit", [0, -2])
def test_a_limit_of_no_steps_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"max_episode_steps must be at least 1, found {limit}"):
        gymnasium.make_vec("F110-v0", num_envs=1, max_episode_steps=limit)


IMPORTS = "f110_fl.loading.environments", "sim.envs"


@pytest.mark.parametrize("order", [IMPORTS, IMPORTS[::-1]], ids=["ids_first", "simulator_first"])
def test_registration_is_cheap_and_in_any_order(order: tuple[str, str]) -> None:
    code = (
        "import importlib, sys, warnings, gymnasium\n"
        "warnings.simplefilter('error')\n"
        "importlib.import_module(sys.argv[1])\n"
        "print([m for m in ('numba', 'pydantic', 'torch', 'sim') if m in sys.modules])\n"
        "importlib.import_module(sys.argv[2])\n"
        "print(gymnasium.spec('F110-v0').entry_point, 'F110-SoloLap-v0' in gymnasium.registry)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, *order], capture_output=True, text=True, check=True
    )
    imported, found = shown.stdout.splitlines()
    assert (imported == "[]") is (order == IMPORTS)
    assert found == "f110_fl.loading.scenario_envs:ScenarioEnv True"
    assert shown.stderr == ""
