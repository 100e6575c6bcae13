"""Evaluation of the global model, on the server and on clients that differ."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
import yaml
from flwr.app import Context, Message, MessageType, MetricRecord, RecordDict
from in_process import InProcess, carry_out
from programs import call
from small import SMALL, merge

from clients import client_app
from clients.warm import WarmTrainers
from f110_fl.config.scenario import Scenario
from f110_fl.engines.flower.internals import set_message_id
from f110_fl.federation.arrays import to_arrays
from f110_fl.federation.messages import (
    METRICS,
    EvaluateOrder,
    InvalidMessageError,
    Order,
    TrainOrder,
)
from f110_fl.loading.scenarios import dump_scenario, parse_resolved
from f110_fl.rundir import RunDir
from f110_fl.tensors import read_metadata, read_tensors
from f110_fl.training.agents import initial_tensors
from f110_fl.training.evaluation import ModelEvaluator
from f110_fl.training.metrics import evaluation_names, means
from f110_fl.training.trainer import Trainer
from run import main
from server.validation import read_evaluation

VARIED: dict[str, Any] = {
    "env": {
        "spawn_sets": [],
        "spawn": {"kind": "random"},
        "track": {"kind": "oval"},
        "cars": [
            {"name": "car_0", "task": {"kind": "solo_lap", "shaping": [{"term": "progress"}]}},
            {"name": "car_1", "driver": {"kind": "follow_the_gap"}},
        ],
    },
    "evaluation": {"episodes": 3},
    "federated": {
        "evaluate_on": "both",
        "average_decay": 0.5,
        "vary": {"env.track": [{"kind": "circle"}, {"kind": "random"}]},
    },
}


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    scenario = Scenario.model_validate(merge(SMALL, VARIED))
    return carry_out(scenario, tmp_path_factory.mktemp("evaluated") / "run", InProcess())


def evaluations(rundir: RunDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in rundir.evaluations.read_text().splitlines()]


def scenario_of(rundir: RunDir) -> Scenario:
    return parse_resolved(rundir.config.read_text())


@pytest.mark.slow
def test_who_evaluated_what(federation: RunDir) -> None:
    found = [(line["round"], line["on"]) for line in evaluations(federation)]
    assert found == [(0, "server"), (1, "clients"), (1, "server"), (2, "clients"), (2, "server")]


@pytest.mark.slow
def test_the_server_evaluates_the_average_of_the_global_models(federation: RunDir) -> None:
    scenario = scenario_of(federation)
    evaluator = ModelEvaluator(scenario)
    for line in evaluations(federation):
        if line["on"] == "server":
            number = line["round"]
            path = federation.average(number)
            evaluator.load(read_tensors(path) if number else initial_tensors(scenario))
            assert line["metrics"] == means("evaluate", evaluator.run(), ["car_0"])
            assert line["cars"]["car_0"]["episodes"] == 3


@pytest.mark.slow
def test_clients_evaluate_it_where_they_drive(federation: RunDir) -> None:
    scenario = scenario_of(federation)
    last = [line for line in evaluations(federation) if line["on"] == "clients"][-1]
    assert not last["dropped"]
    for client in (0, 1):
        evaluator = ModelEvaluator(scenario.for_client(client))
        evaluator.load(read_tensors(federation.average(2)))
        assert last["by_client"][f"{client:02d}"] == means("evaluate", evaluator.run(), ["car_0"])
    returns = [own["evaluate/car_0/return"] for own in last["by_client"].values()]
    assert returns[0] != returns[1]
    assert last["metrics"]["evaluate/car_0/return"] == pytest.approx(sum(returns) / 2)


def done(result: CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_the_best_global_model_is_kept(federation: RunDir, tmp_path: Path) -> None:
    metadata = read_metadata(federation.best)
    lines = [line for line in evaluations(federation) if line["on"] == "server"]
    score = [
        (x["metrics"]["evaluate/car_0/success-rate"], x["metrics"]["evaluate/car_0/return"])
        for x in lines
    ]
    assert json.loads(metadata["score"]) == pytest.approx(max(score))
    assert score[int(metadata["round"])] == max(score)
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(merge(SMALL, VARIED)))
    flags = ["--mode", "eval", "--checkpoint", federation.best]
    done(call(main, tmp_path, "--scenario", path, *flags, FED_ROOT=str(tmp_path)))
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert report["cars"]["car_0"]["return"]["mean"] == pytest.approx(max(score)[1])


@pytest.mark.slow
def test_an_evaluation_that_a_crash_cut_off_is_made_again(federation: RunDir) -> None:
    before = federation.evaluations.read_text()
    cut = before[: before.rstrip("\n").rfind("\n") + 20]  # the last line, all but its beginning
    federation.evaluations.write_text(cut)
    done(call(main, federation.root, "--resume", federation.root))
    assert federation.evaluations.read_text() == before


def send(order: Order, kind: str) -> Message:
    message = Message(order.to_content(), dst_node_id=9, message_type=kind)
    set_message_id(message, "m")
    node = {"partition-id": 0, "num-partitions": 2}
    context = Context(run_id=1, node_id=9, node_config=node, state=RecordDict(), run_config={})
    return client_app.app(message, context)


def check(content: RecordDict) -> None:
    read_evaluation(content, evaluation_names(["car_0"]))


@pytest.mark.usefixtures("flower_task")
def test_evaluating_changes_nothing_that_a_client_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = Scenario.model_validate(
        merge(SMALL, {"env": {"max_steps": 60}, "federated": {"evaluate_on": "clients"}})
    )
    initial = {k: v for k, v in initial_tensors(scenario).items() if "/model/" in k}
    arrays = to_arrays(initial)
    other = to_arrays({name: torch.zeros_like(t) for name, t in initial.items()})
    for root, evaluated in ((tmp_path / "a", False), (tmp_path / "b", True)):
        monkeypatch.setattr(client_app, "_warm", WarmTrainers())
        of_run = (dump_scenario(scenario), str(root), "run")
        for number in (1, 2):
            order = TrainOrder(arrays, number, *of_run, episodes=1, proximal_mu=0.0)
            send(order, MessageType.TRAIN)
            if evaluated:
                reply = send(EvaluateOrder(other, number, *of_run), MessageType.EVALUATE)
                check(reply.content)
    for name in ("state.safetensors", "car_0.replay"):
        left, right = (tmp_path / run / "clients" / "00" / name for run in "ab")
        assert left.read_bytes() == right.read_bytes()


def test_what_is_not_shared_is_filled_in_by_the_client(tmp_path: Path) -> None:
    scenario = Scenario.model_validate(merge(SMALL, {"federated": {"share": "all_but_head"}}))
    trainer = Trainer(scenario, 0, tmp_path)
    alone = means("evaluate", trainer.evaluate_shared({}), ["car_0"])
    evaluator = ModelEvaluator(scenario)
    evaluator.load({f"car_0/{k}": v for k, v in trainer.learners["car_0"].tensors().items()})
    assert alone == means("evaluate", evaluator.run(), ["car_0"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"evaluate/car_0/return": float("nan")}, "'evaluate/car_0/return' is nan"),
        ({"evaluate/car_0/success-rate": 1.5}, "'evaluate/car_0/success-rate' is 1.5"),
        ({"evaluate/car_0/return": [1.0]}, r"'evaluate/car_0/return' is \[1.0\]"),
        ({"more": 1.0}, "'more' is missing or was not asked for"),
    ],
)
def test_unusable_answers_are_told_apart(changes: dict[str, Any], reason: str) -> None:
    values: dict[str, Any] = dict.fromkeys(evaluation_names(["car_0"]), 1.0)
    check(RecordDict({METRICS: MetricRecord(values)}))
    with pytest.raises(InvalidMessageError, match=reason):
        check(RecordDict({METRICS: MetricRecord(values | changes)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation": {"episodes": 0}}, "evaluate_on needs evaluation.episodes above 0"),
        ({"federated": {"share": "all_but_head"}}, "the server has no heads"),
        (
            {"learners": {"car_0": {"normalise_observations": True}}},
            "the server has no normalisers; allowed: clients, or share: all",
        ),
    ],
)
def test_a_model_that_the_server_does_not_have_whole_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    base = merge(SMALL, {"federated": {"evaluate_on": "server"}})
    with pytest.raises(ValueError, match=message):
        Scenario.model_validate(merge(base, changes))
