"""Compression of what clients send: what is lost, what is made good, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import InProcess, Keyed, credentials, federate
from pydantic import ValidationError
from small import SMALL, merge
from verify_run import main as verify

from f110_fl.config.federated import Compression
from f110_fl.config.scenario import Scenario
from f110_fl.federation.arrays import record_of, values_of
from f110_fl.federation.compression import (
    STEPS,
    decoded,
    encoded,
    from_bfloat16,
    left,
    to_bfloat16,
    update,
)
from f110_fl.federation.messages import InvalidMessageError
from f110_fl.files import complete_lines
from f110_fl.rundir import RunDir
from f110_fl.tensors import read_tensors

WEIGHT = "car_0/model/actor/weights.0"
BIAS = "car_0/model/actor/biases.0"
MOMENT = "car_0/optimizer/actor/weights.0/exp_avg_sq"
SCALAR = "car_0/model/temperature/log_alpha"
STEP = "car_0/optimizer/actor/weights.0/step"
COUNT = "car_0/model/observation_normaliser/count"
KINDS: tuple[Compression, ...] = ("float16", "int8")


def tensors(rng: np.random.Generator, scale: float = 1.0) -> dict[str, Any]:
    """Returns a client's tensors of every kind."""
    return {
        WEIGHT: (scale * rng.standard_normal((7, 5))).astype(np.float32),
        BIAS: (scale * rng.standard_normal(5)).astype(np.float32),
        SCALAR: np.asarray(rng.standard_normal(), np.float32),
        MOMENT: (rng.standard_normal((7, 5)) ** 8 * 1e-12).astype(np.float32),
        STEP: np.float32(16_777_213.0) * np.ones((), np.float32),
        COUNT: np.array([12345.678], np.float32),
    }


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_int8_is_within_half_a_step_of_the_difference(rng: np.random.Generator) -> None:
    start, now = tensors(rng), tensors(rng)
    found = update(now, start, {}, "int8")
    assert set(found) == {WEIGHT, BIAS, SCALAR}
    sent = encoded(now, found, "int8")
    steps = dict(zip(sorted(found), values_of(sent)[STEPS], strict=True))
    received = values_of(decoded(sent, record_of(start), "int8"))
    for name, wanted in found.items():
        assert values_of(sent)[name].dtype == np.int8
        assert steps[name] == pytest.approx(np.abs(wanted).max() / 127, rel=1e-6)
        error = np.abs(received[name].astype(float) - start[name] - wanted)
        # and what adding to the global tensor rounds: it is of this size
        assert error.max() <= steps[name] * 0.5 + 8 * np.finfo(np.float32).eps


def test_float16_is_within_its_rounding(rng: np.random.Generator) -> None:
    start, now = tensors(rng), tensors(rng)
    found = update(now, start, {}, "float16")
    for wanted in found.values():
        lost = np.abs(left(wanted, "float16"))
        assert (lost <= np.maximum(np.abs(wanted) * 2.0**-11, 2.0**-25)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_other_tensors_keep_their_meaning(kind: Compression, rng: np.random.Generator) -> None:
    start, now = tensors(rng), tensors(rng)
    sent = encoded(now, update(now, start, {}, kind), kind)
    received = values_of(decoded(sent, record_of(start), kind))
    assert {k: v.shape for k, v in received.items()} == {k: v.shape for k, v in now.items()}
    for name in (STEP, COUNT):  # float16 and bfloat16 would have neither
        assert received[name].tobytes() == now[name].tobytes()
    assert (received[MOMENT] > 0).all()
    np.testing.assert_allclose(received[MOMENT], now[MOMENT], rtol=2.0**-8, atol=0)
    again = values_of(decoded(sent, record_of(start), kind))
    assert all(again[name].tobytes() == array.tobytes() for name, array in received.items())


def test_moments_are_rounded_as_torch_does(rng: np.random.Generator) -> None:
    plain = rng.standard_normal(1000) * 10.0 ** rng.integers(-38, 38, 1000)
    halfway = (np.arange(1000, dtype=np.uint32) << 16 | 0x3F808000).view(np.float32)
    for array in (plain.astype(np.float32), halfway, np.zeros((), np.float32)):
        wanted = torch.from_numpy(array).to(torch.bfloat16).float().numpy()
        np.testing.assert_array_equal(from_bfloat16(to_bfloat16(array)), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_is_sent_adds_up_to_all_that_was_learned(
    kind: Compression, rng: np.random.Generator
) -> None:
    start = tensors(rng)
    true, sent = np.zeros((7, 5)), np.zeros((7, 5))
    before: dict[str, Any] = {}
    for _ in range(50):
        # Small differences beside a large one, which alone would be rounded away every time.
        now = {name: array.copy() for name, array in start.items()}
        now[WEIGHT] += (1e-3 * rng.random((7, 5))).astype(np.float32)
        now[WEIGHT][0, 0] += np.float32(1.0)
        true += now[WEIGHT].astype(float) - start[WEIGHT]
        before = update(now, start, before, kind)
        sent += before[WEIGHT].astype(float) - left(before[WEIGHT], kind)
    rest = left(before[WEIGHT], kind)
    np.testing.assert_allclose(sent + rest, true, rtol=0, atol=2e-5)  # sums of float32
    alone = 50 * np.rint(1e-3 * 0.5 / (1 / 127)) / 127
    assert alone == 0 < sent[1:].min()


def test_nothing_and_next_to_nothing_can_be_sent(rng: np.random.Generator) -> None:
    start = tensors(rng)
    received = values_of(
        decoded(encoded(start, update(start, start, {}, "int8"), "int8"), record_of(start), "int8")
    )
    assert received[WEIGHT].tobytes() == start[WEIGHT].tobytes()
    tiny = np.full(3, 1.5e-44, np.float32)
    np.testing.assert_array_equal(left(tiny, "int8") + (tiny - left(tiny, "int8")), tiny)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", ["missing", "more", "type", "shape", "bytes", "steps"])
def test_replies_that_are_none_are_refused(
    kind: Compression, wrong: str, rng: np.random.Generator
) -> None:
    start, now = tensors(rng), tensors(rng)
    sent = encoded(now, update(now, start, {}, kind), kind)
    values = values_of(sent)
    if wrong == "missing":
        del sent[BIAS]
    elif wrong == "more":
        sent["car_0/model/actor/weights.9"] = sent[BIAS]
    elif wrong == "type":
        sent[WEIGHT] = record_of({"a": now[WEIGHT]})["a"]
    elif wrong == "shape":
        sent[WEIGHT] = record_of({"a": values[WEIGHT][:3]})["a"]
    elif wrong == "bytes":
        sent[WEIGHT].data = sent[WEIGHT].data[:-1]
    elif kind == "int8":
        sent[STEPS] = record_of({"a": np.array([1, np.nan], np.float32)})["a"]
    else:
        sent[STEPS] = record_of({"a": np.ones(2, np.float32)})["a"]
    with pytest.raises(InvalidMessageError, match="tensor"):
        decoded(sent, record_of(start), kind)


def test_noise_of_clients_is_not_rounded() -> None:
    changes = {"federated": {"compression": "int8", "privacy": {"kind": "local"}}}
    with pytest.raises(ValidationError, match=r"'local' with compression 'int8'.*allowed: 'none'"):
        Scenario.model_validate(merge(SMALL, changes))


# ------------------------------------------------------------------ a federation


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Two signing clients, two rounds; the server was lost in the second and went on."""
    root = tmp_path_factory.mktemp("compressed") / "run"
    made = credentials(root)
    federate(root, Keyed(made, cut=2), federated={"compression": "int8"})
    return federate(root, Keyed(made), resumed=True, federated={"compression": "int8"})


def test_a_run_that_went_on_has_the_bytes_of_one_left_alone(run: RunDir, tmp_path: Path) -> None:
    alone = federate(tmp_path / "alone", InProcess(), federated={"compression": "int8"})
    links = [[line["chain"]["link"] for line in complete_lines(r.rounds)] for r in (run, alone)]
    assert len(links[0]) == 2
    assert links[0] == links[1]
    for client in range(2):
        assert run.state(client).read_bytes() == alone.state(client).read_bytes()
        assert any("/update/" in name for name in read_tensors(run.state(client)))


def test_a_run_is_proven_and_computed_again(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify([str(run.root), "--recompute", "--client", "1", "--round", "2"]) == 0
    assert verify([str(run.root), "--recompute"]) == 0
    assert "WRONG" not in capsys.readouterr().out
