"""tools/ablate.py: its plan, its statistics, its words, and a small run of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from ablate import build_parser, main
from hypothesis import given
from hypothesis import strategies as st
from parts.ablate_figure import COLOURS, Line, draw
from parts.ablate_plan import Arm, make_arms, make_plan, prepare, settings_of
from parts.ablate_report import compare, told, verdict
from parts.ablate_stats import Curve, make_panel, read_curve
from small import REPOSITORY

from f110_fl.errors import UserError
from f110_fl.evaluation.statistics import Estimate, student
from f110_fl.rundir import RunDir
from f110_fl.training.records import EpisodeRecord, EpisodeResult

LICENSE = str(REPOSITORY / "LICENSE")  # a file without markers
Write = Callable[..., Path]


def arguments(scenario: Path, out: Path, *more: str) -> list[str]:
    return ["--scenario", str(scenario), "--out", str(out), *more]


# ---------------------------------------------------------------------- statistics


def test_estimates_in_words() -> None:
    found = [Estimate(*map(np.float64, each)) for each in ((1, 0.5, 1.5), (-0.001, -1, 1))]
    assert list(map(told, found)) == ["1.00 (0.50 to 1.50)", "0.00 (-1.00 to 1.00)"]
    assert told(student(np.array([5.0]))) == "5.00"


def record(kind: str, episode: int, env_steps: int, value: float, outcome: str) -> str:
    returns, outcomes = {"car_0": value, "car_1": 0.0}, {"car_0": outcome, "car_1": "crash"}
    result = EpisodeResult(5, 0.1, returns, outcomes)
    return EpisodeRecord(kind, 1, episode, env_steps, result).to_json()  # type: ignore[arg-type]


def write_episodes(root: Path, client_id: int, lines: Sequence[str]) -> None:
    path = RunDir(root).episodes(client_id)
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def test_a_curve_is_all_clients_steps_and_the_mean_of_their_values(tmp_path: Path) -> None:
    first = [
        record("train", 1, 10, -50.0, "crash"),
        record("evaluate", 1, 10, 1.0, "success"),
        record("evaluate", 1, 10, 2.0, "crash"),
        record("train", 2, 25, -50.0, "crash"),
        record("evaluate", 2, 25, 4.0, "success"),
        record("evaluate", 2, 25, 6.0, "success"),
    ]
    second = [
        record("evaluate", 1, 7, 0.0, "crash"),
        record("evaluate", 1, 7, 0.0, "crash"),
        record("evaluate", 2, 9, 1.0, "success"),
        record("evaluate", 2, 9, 1.0, "crash"),
    ]
    write_episodes(tmp_path, 0, first)
    write_episodes(tmp_path, 1, second)
    curve = read_curve(RunDir(tmp_path), 2, ["car_0"], "return")
    assert (curve.steps.tolist(), curve.values.tolist()) == ([17.0, 34.0], [0.75, 3.0])
    curve = read_curve(RunDir(tmp_path), 2, ["car_0"], "success_rate")
    assert curve.values.tolist() == [0.25, 0.75]
    assert read_curve(RunDir(tmp_path), 2, ["car_0", "car_1"], "return").values[1] == 1.5
    write_episodes(tmp_path, 2, first[:3])
    with pytest.raises(UserError, match="2, 2, 1 evaluations"):
        read_curve(RunDir(tmp_path), 3, ["car_0"], "return")


def straight(slope: float, steps: Sequence[float], above: float = 0.0) -> Curve:
    return Curve(np.array(steps), above + slope * np.array(steps))


def test_arms_are_compared_at_equal_steps() -> None:
    """Straight lines: a value is the slope times the steps, between evaluations, too."""
    panel = make_panel(
        {
            "long": {
                0: straight(2.0, [10, 50, 100]),
                1: straight(4.0, [20, 80]),
                2: straight(9.0, [1, 2]),
            },
            "short": {0: straight(1.0, [5, 60]), 1: straight(1.0, [5, 70])},
        }
    )
    assert panel is not None
    assert panel.seeds == (0, 1)  # which both have
    assert (panel.steps[0], panel.steps[-1]) == (20.0, 60.0)  # what all have
    assert panel.end("long") == pytest.approx([120.0, 240.0])
    assert panel.mean("long") == pytest.approx([80.0, 160.0])
    assert panel.end("short") == pytest.approx([60.0, 60.0])
    assert panel.last("short") == pytest.approx([60.0, 70.0])
    assert panel.last("long") == pytest.approx([200.0, 320.0])
    assert make_panel({"a": {0: straight(1, [1, 2])}, "b": {1: straight(1, [1, 2])}}) is None


def test_differences_are_paired_by_seed() -> None:
    """Seeds differ by hundreds, the arms by one: only pairing finds that."""
    ends, more = (0.0, 300.0, 700.0), (1.0, 1.1, 0.9)
    curves = {
        "independent-2": {k: straight(0.0, [1, 2], end) for k, end in enumerate(ends)},
        "single": {k: straight(0.0, [1, 2], end + 5) for k, end in enumerate(ends)},
        "local-2": {k: straight(0.0, [1, 2], ends[k] + more[k]) for k in range(3)},
        "reset-2": {k: straight(0.0, [1, 2], ends[k] + 20 * (k - 1)) for k in range(3)},
    }
    panel = make_panel(curves)
    assert panel is not None
    found = list(compare(2, panel, build_options(strategies=["local", "reset"])))
    by_key = {(e.score, e.strategy, e.other): e.difference for e in found}
    expected = student(np.array(more))
    assert by_key["at equal steps", "local", "independent"] == pytest.approx(expected)
    ends_found = student(panel.end("local-2"))
    assert ends_found.low < 0 < ends_found.high
    assert len(found) == 3 * (2 + 2 + 1)
    lines = verdict(found, {2: panel})
    better, worse = (
        "; ".join(
            f"{score} `local` {word}, `reset` indistinguishable"
            for score in ("at equal steps", "on the way", "at equal episodes")
        )
        for word in ("better", "worse")
    )
    assert [re.sub(r" \(0.\d\d to \d.\d\d\)", "", line) for line in lines] == [
        "- **Federated against independent learners, 6 comparisons: better in 3, worse in 0, "
        "indistinguishable in 3.**",
        "- **Federated against one learner that sees everything, 6 comparisons: better in 0, worse "
        "in 3, indistinguishable in 3.**",
        "- Probability of improvement on independent learners: `local` 0.67; `reset` 0.50.",
        "- Probability of improvement on one learner that sees everything: `local` 0.33; `reset` "
        "0.44.",
        f"- 2 clients against independent learners: {better}.",
        f"- 2 clients against one learner that sees everything: {worse}.",
        "- 2 clients, strategies among themselves: all indistinguishable.",
        "- Of the 15 intervals of 95 % behind this, 0.8 would miss zero by chance alone if "
        "nothing differed.",
    ]


def test_one_seed_gives_no_verdict() -> None:
    names = ("single", "independent-2", "local-2")
    panel = make_panel({name: {0: straight(k, [1, 2])} for k, name in enumerate(names)})
    assert panel is not None
    found = list(compare(2, panel, build_options(strategies=["local"])))
    assert "no verdict" in verdict(found, {2: panel})[0]


def build_options(**values: Any) -> Any:
    options = build_parser().parse_args(arguments(Path("x"), Path("y"), "--episodes", "1"))
    for name, value in values.items():
        setattr(options, name, value)
    return options


# ---------------------------------------------------------------------- figure


def test_the_figure_has_a_line_and_a_band_each() -> None:
    x = np.linspace(0.0, 9.0, 10)
    line = Line("a<b", x, x - 1, x + 1)
    alone = Line("alone", -x, x - math.inf, x + math.inf)
    panels = {"2 & 4": (x, [line, alone]), "8": (x, [line])}
    text = draw(panels, "steps", "return")
    assert text == draw(panels, "steps", "return")
    root = ElementTree.fromstring(text)  # noqa: S314 - our own
    words = [e.text for e in root.iter() if e.text]
    assert {"2 & 4", "8", "steps", "return"} <= set(words)
    assert words.count("a<b") == words.count("alone") == 1  # one legend for all panels
    bands = [e for e in root.iter() if "fill-opacity: 0.1" in (e.get("style") or "")]
    assert len(bands) == 2
    drawn = {
        colour: [e for e in root.iter() if _drawn_in(e, colour) and e.get("d", "").count("L") == 9]
        for colour in COLOURS[:2]
    }
    assert [len(paths) for paths in drawn.values()] == [2, 1]
    heights = [float(y) for y in re.findall(r"[ML] \S+ (\S+)", drawn[COLOURS[0]][0].get("d", ""))]
    assert heights == sorted(heights, reverse=True)  # y grows downwards in the file
    np.testing.assert_allclose(np.diff(heights), np.diff(heights).mean(), rtol=0.02)


def _drawn_in(element: ElementTree.Element, colour: str) -> bool:
    return f"stroke: {colour}" in (element.get("style") or "")


# ---------------------------------------------------------------------- plan


@given(st.sampled_from([[2], [2, 4], [3, 5]]), st.integers(1, 4), st.integers(1, 3))
def test_every_arm_has_the_same_episodes_and_evaluations(
    clients: list[int], evaluations: int, times: int
) -> None:
    episodes = math.lcm(*clients) * evaluations * times
    arms = make_arms(clients, ["local", "reset"])
    assert len({arm.name for arm in arms}) == len(arms) == 1 + 3 * len(clients)
    for arm in arms:
        found = settings_of(arm, 5, episodes, evaluations)
        assert found["episodes"] * arm.clients == episodes
        assert found["episodes"] == found["evaluation.every"] * evaluations
        assert found["federated.clients"] == arm.clients
        assert found["federated.enabled"] == (arm.kind in ("local", "reset"))


def test_the_plan(
    write_scenario: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "{out}"
    words = arguments(write_scenario(), out, "--episodes", "8", "--evaluations", "2")
    words += ["--seeds", "2", "--strategies", "average", "--set", "env.max_steps=11"]
    assert main([*words, "--dry-run"]) == 0
    shown = json.loads(capsys.readouterr().out)["runs"]
    arms = ["single", "independent-2", "average-2", "independent-4", "average-4"]
    assert list(shown) == [f"{arm}_seed-{seed}" for seed in (0, 1) for arm in arms]
    assert not out.exists()
    cell = make_plan(build_parser().parse_args(words)).cells[4]
    assert (cell.scenario.episodes, cell.scenario.federated.clients) == (2, 4)
    assert cell.scenario.federated.optimizer_strategy == "average"
    assert cell.scenario.env.max_steps == 11
    assert not cell.scenario.wandb.enabled
    assert Arm("average", 4).cell_name(0) == cell.name


def test_a_plan_may_grow_but_not_change(write_scenario: Write, tmp_path: Path) -> None:
    def plan(*more: str) -> Any:
        words = arguments(write_scenario(), tmp_path / "out", "--clients", "2")
        return make_plan(build_parser().parse_args([*words, "--evaluations", "1", *more]))

    prepare(plan("--episodes", "4", "--seeds", "1"))
    before = (tmp_path / "out" / "single_seed-0" / "config.json").stat().st_mtime_ns
    prepare(plan("--episodes", "4", "--seeds", "2"))
    held = json.loads((tmp_path / "out" / "grid.json").read_text())
    assert len(held["runs"]) == 2 * 5
    assert (tmp_path / "out" / "single_seed-0" / "config.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"single_seed-0/config.json: has other settings"):
        prepare(plan("--episodes", "6", "--seeds", "2"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--episodes", "9"], r"--episodes=9: .*multiples of 40$"),
        (["--episodes", "0"], "--episodes=0: allowed: from 1"),
        (["--episodes", "40", "--seeds", "0"], "--seeds=0: allowed: from 1"),
        (["--episodes", "40", "--clients", "1"], "--clients=1: allowed: from 2"),
        (["--episodes", "40", "--clients", "2", "2"], "--clients: names one twice"),
        (["--episodes", "40", "--set", "seed=3"], r"--set seed='3': the ablation sets that"),
        (["--episodes", "40", "--set", "threads=x"], "threads='x'"),
        (["--episodes", "40", "--set", "evaluation.episodes=0"], "nothing to compare"),
        (["--episodes", "40", "--set", "federated.vary={env.laps: [1, 2]}"], "federated.vary: one"),
        (["--episodes", "40", "--doc", "nowhere.md"], "--doc='nowhere.md': cannot be read"),
        (["--episodes", "40", "--doc", LICENSE], "needs the markers <!-- ablation small -->"),
        (["--episodes", "40", "--report-only"], "no seed is complete with every arm yet"),
    ],
)
def test_wrong_input_is_one_line(
    write_scenario: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    words: str,
) -> None:
    assert main(arguments(write_scenario(), tmp_path / "out", *flags)) == 2
    error = capsys.readouterr().err.strip()
    assert re.search(words, error)
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


def test_flags_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--scenario", "x", "--out", "y", "--episodes", "1", "--strategies", "best"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


# ---------------------------------------------------------------------- a run


@pytest.mark.slow
def test_a_small_ablation_for_real(
    write_scenario: Write, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scenario = write_scenario(env={"max_steps": 20})
    out, doc = tmp_path / "out", tmp_path / "doc.md"
    doc.write_text("# A\n<!-- ablation small --> old <!-- end of ablation small -->\nZ\n")
    words = arguments(scenario, out, "--episodes", "4", "--evaluations", "2", "--clients", "2")
    words += ["--seeds", "1", "--strategies", "local", "--max-parallel", "3", "--doc", str(doc)]
    status, shown = main(words), capfd.readouterr()
    assert status == 0, shown.err
    assert shown.err.count("started") == 3
    assert "no verdict" in shown.out
    held = json.loads((out / "ablation.json").read_text())
    for arm in ("single", "independent-2", "local-2"):
        assert len(held["runs"][arm]["0"]["values"]) == 2
    assert list(held["averaged"]) == ["local-2"]
    text = doc.read_text()
    assert text.startswith("# A\n<!-- ablation small -->\n![learning curves](ablation_small.svg)")
    assert (out / "report.md").read_text() in text
    assert text.endswith("Z\n")
    assert (tmp_path / "ablation_small.svg").read_text() == (out / "curves.svg").read_text()
    results = (out / "results.json").read_bytes()

    assert main(words) == 0
    assert "started" not in capfd.readouterr().err  # what is complete is not run again
    assert (out / "results.json").read_bytes() == results
    assert doc.read_text() == text
