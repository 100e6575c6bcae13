"""Differential privacy: the mechanism, its secret, its account, and the end at its budget."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_grid import FakeGrid, sent
from flwr.app import ConfigRecord, Message, MessageType
from pydantic import ValidationError
from scipy.stats import kstest
from strategy_cases import NAME, NODES, SHAPE, answer, ask, order, scenario, strategy

from f110_fl.config.privacy import CentralPrivacyConfig, LocalPrivacyConfig
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError
from f110_fl.federation import accounting
from f110_fl.federation.arrays import record_of, to_arrays, values_of
from f110_fl.federation.messages import TrainReply
from f110_fl.federation.privacy import clipped, noised, read_secret
from f110_fl.loading.scenarios import dump_scenario
from f110_fl.reporting.summary import closing_lines, is_complete
from f110_fl.rundir import RunDir
from f110_fl.runs import preflight
from f110_fl.tensors import read_tensors
from f110_fl.training.metrics import summarise
from server.privacy import BudgetReachedError
from server.server_app import run_rounds
from server.validation import ENV_STEPS

pytestmark = pytest.mark.usefixtures("flower_task")

SECRET = bytes(range(32))
CENTRAL = {"kind": "central", "clipping_norm": 1.0, "noise_multiplier": 2.0}

# Flower's own, which is private and here a reference only.
flowers_clipping = import_module("flwr.supercore.differential_privacy").compute_clip_model_update


def keyed(root: Path) -> Path:
    """Give a run's directory a known secret."""
    root.mkdir(parents=True, exist_ok=True)
    RunDir(root).privacy_key.write_bytes(SECRET)
    return root


# ------------------------------------------------------------------------------------ account


def test_epsilon_of_the_accountants_own_example() -> None:
    """dp-accounting 0.6.0, test_compute_epsilon_delta_gaussian: 4.530877117 gives (1, 1e-6)."""
    once = accounting.epsilon(4.530877117, 1e-6, 1)
    assert 1.0 <= once < 1.001  # a bound: Flower's orders of Renyi divergence are fewer
    # Gaussian releases add up as one with a deviation smaller by the root of their number.
    assert accounting.epsilon(4.530877117 * 3.0, 1e-6, 9) == pytest.approx(once, rel=1e-9)
    assert accounting.epsilon(1.0, 1e-5, 0) == 0.0


def test_the_local_account_is_of_two_clipped_updates() -> None:
    """Flower's epsilon of a round holds for a sensitivity; two updates may be 2 C apart."""
    local = LocalPrivacyConfig(clipping_norm=0.5, sensitivity=1.0, epsilon=1.0, delta=1e-5)
    assert local.deviation == pytest.approx(math.sqrt(2 * math.log(1.25e5)))
    assert local.accounted_multiplier == pytest.approx(local.deviation)
    assert accounting.epsilon(local.accounted_multiplier, local.delta, 1) < 1.0  # as promised
    wide = local.model_copy(update={"clipping_norm": 5.0})
    assert accounting.epsilon(wide.accounted_multiplier, wide.delta, 1) > 1.0


def test_a_budget_allows_as_many_rounds_as_fit() -> None:
    privacy = CentralPrivacyConfig(noise_multiplier=2.0, budget=5.0)
    fitting = [n for n in range(50) if accounting.epsilon(2.0, 1e-5, n) <= 5.0]
    assert accounting.affordable(privacy, 50) == fitting[-1] == 4
    assert accounting.affordable(privacy, 3) == 3
    assert accounting.affordable(privacy.model_copy(update={"budget": None}), 50) == 50


def test_the_client_asked_most_often_is_accounted_for() -> None:
    account = accounting.PrivacyAccount(CentralPrivacyConfig(), 3)
    for asked in ([0, 1], [1, 2], [1]):
        account.count(asked)
    spent = account.spent()
    assert spent["releases"] == 3
    assert spent["epsilon"] == accounting.epsilon(1.0, 1e-5, 3)
    assert spent["next_epsilon"] == accounting.epsilon(1.0, 1e-5, 4)
    other = accounting.PrivacyAccount(CentralPrivacyConfig(), 3)
    other.load(account.state())
    assert other.spent() == spent
    with pytest.raises(UserError, match="no account of its earlier rounds"):
        accounting.PrivacyAccount(CentralPrivacyConfig(), 2).load(account.state())


def test_without_an_accountant_or_a_round_in_the_budget_nothing_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poor = scenario(privacy=CENTRAL | {"budget": 0.5})
    with pytest.raises(UserError, match=r"budget 0.5: one round costs epsilon 2\.17 at delta"):
        preflight.check_privacy(poor)
    preflight.check_privacy(scenario(privacy=CENTRAL | {"budget": 0.5, "at_budget": "warn"}))
    (line,) = preflight.curtailed(scenario(privacy=CENTRAL | {"budget": 5.0}))
    assert "is enough for 4 of the run's 5 rounds" in line
    monkeypatch.setattr(accounting, "BACKEND", "dp_accounting_that_is_not_there")
    with pytest.raises(UserError, match=r"pip install 'f110-fl\[privacy\]'"):
        preflight.check_privacy(poor)


# ---------------------------------------------------------------------------------- mechanism


def test_clipping_is_flowers_and_takes_an_update_of_zero() -> None:
    rng = np.random.default_rng(3)
    for scale in (0.01, 1.0, 100.0):
        start = {n: rng.normal(size=s) for n, s in (("a", (3, 4)), ("b", (5,)))}
        moved = {n: a + scale * rng.normal(size=a.shape) for n, a in start.items()}
        theirs = [moved["a"].copy(), moved["b"].copy()]
        flowers_clipping(theirs, [start["a"], start["b"]], 1.5)
        ours = clipped(moved, start, 1.5)
        for name, other in zip(("a", "b"), theirs, strict=True):
            np.testing.assert_allclose(ours[name], other, rtol=1e-12, atol=1e-12)
    with pytest.raises(ZeroDivisionError):  # why it is not called: a client in its warm-up
        flowers_clipping([start["a"].copy()], [start["a"]], 1.5)
    assert np.array_equal(clipped(start, start, 1.5)["a"], start["a"])


def test_noise_depends_on_secret_round_and_arrays_and_is_gaussian() -> None:
    arrays = {"b": np.ones(40_000), "a": np.zeros((100, 100))}
    found = noised(arrays, 0.5, SECRET, 3)
    again = noised(dict(reversed(arrays.items())), 0.5, SECRET, 3)
    noise = np.concatenate([(found[n] - arrays[n]).ravel() for n in arrays]) / 0.5
    assert all(np.array_equal(found[name], again[name]) for name in arrays)
    assert kstest(noise, "norm").pvalue > 0.01
    others = [
        noised(arrays, 0.5, bytes(32), 3),
        noised(arrays, 0.5, SECRET, 4),
        noised(arrays | {"b": arrays["b"] + 1e-9}, 0.5, SECRET, 3),
    ]
    for other in others:
        own = np.concatenate([(other[n] - arrays[n]).ravel() for n in arrays]) / 0.5
        assert abs(np.corrcoef(noise, own)[0, 1]) < 0.03  # six deviations


def test_a_secret_is_for_its_owner_and_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "privacy.key"
    with pytest.raises(UserError, match=r"privacy\.key: is gone"):
        read_secret(path, begun=True)
    secret = read_secret(path, begun=False)
    assert len(secret) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret(path, begun=False) == read_secret(path, begun=True) == secret
    path.write_bytes(b"short")
    with pytest.raises(UserError, match="has 5 bytes; allowed: 32"):
        read_secret(path, begun=True)


def test_a_client_without_a_usable_reply_counts_as_one_that_did_not_move(tmp_path: Path) -> None:
    """The mean's denominator is the number asked, whoever is dropped; nobody is an outlier."""
    quiet = CENTRAL | {"noise_multiplier": 1e-9}
    for name, values, total in (
        ("all", (0.01, 0.01, 10.0), 0.01 + 0.01 + 0.5),  # a norm of 20 is clipped to 1
        ("two", (0.01, 10.0), 0.01 + 0.5),
    ):
        server = strategy(keyed(tmp_path / name), privacy=quiet)
        asked = ask(server)
        arrays, _ = server.aggregate_train(1, [answer(asked[k], v) for k, v in enumerate(values)])
        assert arrays is not None
        np.testing.assert_allclose(arrays[NAME].numpy(), total / 3, rtol=1e-5)
        (line,) = RunDir(tmp_path / name).rounds.read_text().splitlines()
        assert json.loads(line)["privacy"]["releases"] == 1


def test_a_round_that_is_released_again_is_the_same(tmp_path: Path) -> None:
    """As after a crash before the commit; with one reply less, it is not the same noise."""

    def release(root: Path, clients: Iterable[int]) -> np.ndarray:
        server = strategy(keyed(root), privacy=CENTRAL)
        asked = ask(server)
        arrays, _ = server.aggregate_train(1, [answer(asked[k], 0.1 * k) for k in clients])
        assert arrays is not None
        return arrays[NAME].numpy()

    first = release(tmp_path / "a", (0, 1, 2))
    assert np.array_equal(first, release(tmp_path / "b", (2, 0, 1)))
    # Without noise, they differ by a third of client 1's update, 0.1; with the same noise, too.
    assert np.abs(first - release(tmp_path / "c", (0, 2)) - 0.1 / 3).min() > 1e-3


@pytest.mark.parametrize(
    ("federated", "learner", "words"),
    [
        ({"strategy": {"name": "fedadam"}}, {}, "its noise fits a plain mean"),
        ({"weighting": "env_steps"}, {}, "clients that count equally"),
        ({"share": "all"}, {"normalise_observations": True}, "car_0, which normalises"),
        ({"optimizer_strategy": "average"}, {}, "moments that no noise protects"),
    ],
)
def test_what_the_noise_would_not_fit_is_refused(
    federated: dict[str, Any], learner: dict[str, Any], words: str
) -> None:
    data = scenario().model_dump(mode="json")
    data["learners"]["car_0"] |= learner
    data["federated"] |= federated | {"privacy": CENTRAL}
    with pytest.raises(ValidationError, match=words):
        Scenario.model_validate(data)


# -------------------------------------------------------------------------------------- a run


class Federation(FakeGrid):
    """Clients whose networks move by a number of their own in every round."""

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        replies = []
        for message in messages:
            if message.metadata.message_type != MessageType.TRAIN:
                replies += super().send_and_receive([message], timeout=timeout)
                continue
            client = self.clients[message.metadata.dst_node_id]
            start = values_of(order(message).arrays)
            arrays = record_of({n: a + np.float32(0.01 * client) for n, a in start.items()})
            metrics = summarise((), ["car_0"]) | {ENV_STEPS: 10.0}
            reply = TrainReply(arrays, metrics, client)
            replies.append(Message(reply.to_content(), reply_to=sent(message)))
        return replies


def run(root: Path, **federated: Any) -> tuple[Scenario, RunDir]:
    """Run what a run in ``root`` has left, to its end."""
    server = strategy(root, **federated)
    chosen, rundir = server.scenario, server.recorder.rundir
    rundir.config.write_text(dump_scenario(chosen))
    run_rounds(Federation(NODES), server, to_arrays({NAME: torch.zeros(SHAPE)}))
    return chosen, rundir


def test_a_run_ends_at_its_budget_and_goes_on_with_a_larger_one(tmp_path: Path) -> None:
    straight, stopped = keyed(tmp_path / "straight"), keyed(tmp_path / "stopped")
    kept: dict[str, Any] = {"keep_rounds": 3}
    run(straight, privacy=CENTRAL, **kept)
    chosen, rundir = run(stopped, privacy=CENTRAL | {"budget": 4.5}, **kept)
    lines = [json.loads(line) for line in rundir.rounds.read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2, 3]  # of five
    assert [line["privacy"]["epsilon"] for line in lines] == [
        accounting.epsilon(2.0, 1e-5, n) for n in (1, 2, 3)
    ]
    assert lines[-1]["privacy"]["epsilon"] <= 4.5 < lines[-1]["privacy"]["next_epsilon"]
    assert is_complete(chosen, rundir)
    closing = "\n".join(closing_lines(chosen, rundir))
    assert "epsilon 4.01 of 4.5 (delta 1e-05) after 3 rounds of a client" in closing
    assert "FED_PRIVACY_BUDGET=EPSILON" in closing
    before = rundir.server.read_bytes()
    run(stopped, privacy=CENTRAL | {"budget": 4.5}, **kept)  # nothing is left to do
    assert rundir.server.read_bytes() == before
    chosen, rundir = run(stopped, privacy=CENTRAL | {"budget": 50.0}, **kept)
    for number in (3, 4, 5):
        path = rundir.global_tensors(number)
        assert path.read_bytes() == RunDir(straight).global_tensors(number).read_bytes()
    ours, theirs = read_tensors(rundir.server), read_tensors(RunDir(straight).server)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    # The secret is in its own file only.
    others = [p for p in stopped.rglob("*") if p.is_file() and p != rundir.privacy_key]
    words = (SECRET, SECRET.hex().encode())
    assert len(others) > 10
    assert not any(word in path.read_bytes() for path in others for word in words)


def test_a_budget_may_be_exceeded_if_that_is_wanted(tmp_path: Path) -> None:
    privacy = CENTRAL | {"budget": 2.0, "at_budget": "warn"}
    _, rundir = run(keyed(tmp_path), privacy=privacy)
    assert len(rundir.rounds.read_text().splitlines()) == 5


def test_a_run_whose_secret_or_account_is_gone_does_not_go_on(tmp_path: Path) -> None:
    root = keyed(tmp_path / "run")
    run(root, privacy=CENTRAL | {"budget": 2.5})
    plain = tmp_path / "plain"
    shutil.copytree(root, plain)
    RunDir(root).privacy_key.unlink()
    with pytest.raises(UserError, match=r"privacy\.key: is gone"):
        strategy(root, privacy=CENTRAL)
    server = strategy(plain, privacy=CENTRAL | {"budget": 2.5})
    arrays = server.recorder.restore(server.aggregation, to_arrays({NAME: torch.zeros(SHAPE)}))
    with pytest.raises(BudgetReachedError, match=r"round 2 would take epsilon to 3\.19; so far"):
        list(server.configure_train(1, arrays, ConfigRecord(), FakeGrid(NODES)))
