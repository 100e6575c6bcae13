"""What is asked for on the command line has an effect, or is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small import write_small

import run
from f110_fl.errors import UserError
from f110_fl.runs.plan import RunPlan, resolve_plan
from f110_fl.tensors import write_tensors

OVAL = {"kind": "oval"}


def planned(tmp_path: Path, *flags: str, **changes: Any) -> RunPlan:
    """The plan of a command line."""
    file = write_small(tmp_path, **changes)
    words = ["--scenario", str(file), *flags]
    if "eval" in flags:
        write_tensors(tmp_path / "models.safetensors", {})
        words += ["--checkpoint", str(tmp_path / "models.safetensors")]
    return resolve_plan(run.build_parser().parse_args(words), {})


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ((), "oval"),
        (("--map", "line2"), "line2"),
        (("--set", "env.track={kind: line2}"), "line2"),
        (("--map", "line2", "--set", "evaluation.track={kind: oval}"), "oval"),
        (("--set", "evaluation.track={kind: line2}"), "line2"),
        (("--set", "env.max_steps=9"), "oval"),
    ],
)
def test_an_evaluation_is_on_the_track_that_was_asked_for(
    tmp_path: Path, flags: tuple[str, ...], kind: str
) -> None:
    plan = planned(tmp_path, "--mode", "eval", *flags, evaluation={"track": OVAL})
    assert plan.scenario.evaluation_env.track.kind == kind


def test_a_training_keeps_the_track_of_its_evaluations(tmp_path: Path) -> None:
    scenario = planned(tmp_path, "--map", "line2", evaluation={"track": OVAL}).scenario
    assert (scenario.env.track.kind, scenario.evaluation_env.track.kind) == ("line2", "oval")


@pytest.mark.parametrize(
    ("flags", "vary"),
    [
        (("--map", "line2"), {"env.track": [OVAL]}),
        (("--set", "env.track.kind=line2"), {"env.track": [OVAL]}),
        (("--set", "env.max_steps=9"), {"env.max_steps": [30, 40]}),
    ],
)
def test_what_every_client_has_of_its_own_cannot_be_set(
    tmp_path: Path, flags: tuple[str, ...], vary: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=r"without effect: federated\.vary"):
        planned(tmp_path, *flags, federated={"vary": vary})
    planned(tmp_path, "--mode", "eval", *flags, federated={"vary": vary})  # it has no clients
    planned(tmp_path, "--set", "env.lidar.beams=9", federated={"vary": vary})


@pytest.mark.parametrize(
    "flags",
    [
        ("--episodes", "3"),
        ("--repeat", "3"),
        ("--collect-workers", "3"),
        ("--collect-prefetch", "3"),
        ("--collect-seed-stride", "3"),
        ("--auto-seed",),
    ],
)
def test_an_evaluation_refuses_flags_of_training(tmp_path: Path, flags: tuple[str, ...]) -> None:
    planned(tmp_path, *flags)
    with pytest.raises(UserError, match=f"{flags[0]}.*: not with --mode eval"):
        planned(tmp_path, "--mode", "eval", *flags)


def test_a_seed_by_flag_wins_over_the_variable(tmp_path: Path) -> None:
    file = write_small(tmp_path)
    words = ["--scenario", str(file), "--seed", "5"]
    for further, base in ((["--auto-seed"], 5), (["--auto-seed", "--seed-base", "8"], 8)):
        arguments = run.build_parser().parse_args([*words, *further])
        scenario = resolve_plan(arguments, {"RUN_SEED": "4"}).scenario
        assert (scenario.shared_seed, scenario.client_seed(1)) == (5, base + 1)
    assert resolve_plan(run.build_parser().parse_args(words), {}).scenario.seed == 5
    with pytest.raises(UserError, match=r"--seed='-1': allowed"):
        planned(tmp_path, "--seed", "-1")
    with pytest.raises(UserError, match="contradicts"):
        planned(tmp_path, "--seed", "1", "--set", "seed=2")
