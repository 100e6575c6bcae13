"""What is read of a run's files, whole or not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from run_files import episode, write_run
from small import SMALL

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.reporting.events import EpisodeEvent, EvaluationEvent, Monitor, RoundEvent
from f110_fl.reporting.pages.history import Episodes, History, read_history
from f110_fl.rundir import RunDir


def test_columns_have_nothing_where_an_episode_has_nothing() -> None:
    episodes = Episodes()
    for number in (1, 2, 3, 4):
        episodes.add(episode(0, number))
    assert len(episodes) == episodes.last == 4
    losses = episodes.column("loss/car_0/critic_loss")
    np.testing.assert_array_equal(np.isnan(losses), [False, True, False, True])
    assert np.isnan(episodes.column("lap/car_1")).all()
    won = [episode(0, n).result.outcomes["car_0"] == "success" for n in (1, 2, 3, 4)]
    laps = episodes.column("lap/car_0")
    np.testing.assert_array_equal(np.where(won, laps, 10.0), [10.0] * 4)
    np.testing.assert_array_equal(np.isnan(laps), np.logical_not(won))


def test_files_and_events_tell_the_same(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run")
    read = read_history(rundir)
    followed = History(rundir, read.scenario)
    Monitor(rundir, 2).tell(followed)
    assert read.missing == []
    assert read.rounds == followed.rounds
    assert read.globals == followed.globals
    for client in (0, 1):
        for name in ("episode", "return/car_0", "loss/car_0/critic_loss"):
            for mine, its in zip(
                (read.training, read.evaluations),
                (followed.training, followed.evaluations),
                strict=True,
            ):
                np.testing.assert_array_equal(mine[client].column(name), its[client].column(name))


def test_rounds_follow_each_other_on_the_clock(tmp_path: Path) -> None:
    history = read_history(write_run(tmp_path / "run", clients=2, episodes=20, interval=5))
    np.testing.assert_allclose(history.round_ends(), [0, 5, 11, 18, 26])
    trained, evaluated = history.clock(1)
    # Episodes of 0.6 s; the tenth is followed by four of an evaluation.
    np.testing.assert_allclose(
        trained[:10], [*(0.6 * np.arange(1, 6)), *(5 + 0.6 * np.arange(1, 6))]
    )
    np.testing.assert_allclose(evaluated[:4], 8.0 + 0.6 * np.arange(1, 5))
    assert trained[10] == pytest.approx(11.6)


def test_an_order_lasts_until_the_round_that_its_reply_closes(tmp_path: Path) -> None:
    """Mode asynchronous: its episodes are not squeezed into the round that sent it."""
    history = read_history(write_run(tmp_path / "run", clients=2, episodes=20, interval=5))
    for line, client, order in zip(history.rounds, (0, 0, 1, 0), (1, 2, 1, 3), strict=True):
        line |= {"clients": [client], "asynchronous": {"order": order}, "seconds": 1.0}
    trained, _ = history.clock(1)
    np.testing.assert_allclose(trained[:5], 0.6 * np.arange(1, 6))
    trained, _ = history.clock(0)
    assert trained[4] == pytest.approx(1.0)


def test_replicas_have_a_clock_of_their_own(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run", federated={"enabled": False, "evaluate_on": "none"})
    trained, evaluated = read_history(rundir).clock(0)
    np.testing.assert_allclose(trained[:10], 0.5 * np.arange(1, 11))
    np.testing.assert_allclose(evaluated[:4], 5.0 + 0.5 * np.arange(1, 5))
    assert trained[10] == pytest.approx(7.5)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run")
    rundir.evaluations.unlink()
    rundir.episodes(1).unlink()
    with rundir.rounds.open("ab") as file:
        file.write(b'{"round": 9, "sec\n\x00\x00\x00\n')
    with rundir.episodes(0).open("a") as file:
        file.write('{"kind": "train"}\n[1]\n')
    history = read_history(rundir)
    assert history.missing == [
        "clients/00/episodes.jsonl: 1 of 58 lines unreadable",
        "clients/01/episodes.jsonl: not there",
        "rounds.jsonl: 2 of 10 lines unreadable",
        "evaluations.jsonl: not there",
    ]
    assert len(history.rounds) == 8
    assert len(history.training[0]) == 40


def test_a_run_without_a_scenario_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run there \(no config.json\)"):
        read_history(RunDir(tmp_path))
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(UserError, match=r"config\.json:1: byte 0xff is not UTF-8 text"):
        read_history(RunDir(tmp_path))


def test_clients_elsewhere_are_known_by_their_rounds(tmp_path: Path) -> None:
    rundir = write_run(tmp_path / "run", clients=2)
    for client in (0, 1):
        rundir.episodes(client).unlink()
    rundir.round(1).mkdir()
    rundir.metrics(1).write_text(json.dumps({"by_client": {"00": {"train/env-steps": 3.0}}}))
    assert read_history(rundir).rounds[0]["by_client"] == {"00": {"train/env-steps": 3.0}}


def test_events_of_others_are_left_out(tmp_path: Path) -> None:
    history = History(RunDir(tmp_path), Scenario.model_validate(SMALL))
    history.handle(EpisodeEvent(7, episode(7, 1)))
    history.handle(RoundEvent({"round": 1}))
    history.handle(EvaluationEvent({"round": 1}))
    assert [len(e) for e in history.training.values()] == [0, 0]
    assert history.rounds == history.globals == [{"round": 1}]
