"""What is refused before it can be averaged."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from f110_fl.federation.messages import (
    ARRAYS,
    CLIENT_ID,
    CONFIG,
    MAX_REASON,
    METRICS,
    WEIGHT,
    InvalidMessageError,
    TrainReply,
    brief,
    shown,
)
from f110_fl.training.metrics import summarise
from server.validation import Limits, outliers, validate_training

A, B = "car_0/model/actor/weights.0", "car_0/model/actor/biases.0"
STEPS, EPISODES = 100.0, 5.0
CLIENT = 3
EMPTY = summarise((), ["car_0"])


def arrays(**values: Any) -> ArrayRecord:
    content = {A: np.ones((2, 3), np.float32), B: np.zeros(2, np.float32)} | values
    return ArrayRecord({name: Array(value) for name, value in content.items()})


def metrics(**changes: Any) -> MetricRecord:
    own = {"train/episodes": 1.0, "train/env-steps": 40.0, "train/car_0/return": -10.0}
    values = EMPTY | own | {CLIENT_ID: CLIENT, WEIGHT: 1.0}
    return MetricRecord({**values, **{k: v for k, v in changes.items() if v is not None}})


def check(
    sent: ArrayRecord | None = None, said: MetricRecord | None = None, norm: float | None = None
) -> str | None:
    """Return why a reply is refused, or None."""
    return check_content(
        RecordDict(
            {
                ARRAYS: arrays() if sent is None else sent,
                METRICS: metrics() if said is None else said,
            }
        ),
        norm,
    )


def check_content(content: RecordDict, norm: float | None = None) -> str | None:
    try:
        reply = TrainReply.from_content(content, EMPTY)
        validate_training(reply, CLIENT, arrays(), Limits(EPISODES, STEPS, norm))
    except InvalidMessageError as error:
        return str(error)
    return None


def test_an_honest_reply_is_used() -> None:
    assert check() is None


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (arrays(extra=np.zeros(1, np.float32)), "'extra' is missing or was not asked for"),
        (ArrayRecord({A: Array(np.ones((2, 3), np.float32))}), "missing or was not asked for"),
        (arrays(**{A: np.ones((3, 2), np.float32)}), "is float32[3, 2]"),
        (arrays(**{A: np.ones((2, 3), np.float64)}), "is float64[2, 3]"),
        (arrays(**{B: np.array([0, np.nan], np.float32)}), f"{B!r} is not finite"),
        (arrays(**{B: np.array([0, np.inf], np.float32)}), f"{B!r} is not finite"),
    ],
)
def test_tensors(sent: ArrayRecord, reason: str) -> None:
    found = check(sent)
    assert found is not None
    assert reason in found


def test_a_header_that_lies_is_found() -> None:
    truth = Array(np.ones((2, 3), np.float32))
    liars = [
        Array(dtype="float32", shape=(2, 3), stype=truth.stype, data=b"nonsense"),
        Array(dtype="float32", shape=(2, 3), stype=truth.stype, data=truth.data[:-4]),
        Array(
            dtype="float32",
            shape=(2, 3),
            stype=truth.stype,
            data=Array(np.ones((5, 5), np.float32)).data,
        ),
    ]
    for liar in liars:
        sent = arrays()
        sent[A] = liar
        assert check(sent) is not None


@pytest.mark.parametrize("name", ["train/episodes", "train/env-steps", WEIGHT])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 1e308])
def test_absurd_counts(name: str, value: float) -> None:
    assert check(said=metrics(**{name: value})) is not None


def test_zero_weight_and_too_many_steps() -> None:
    assert check(said=metrics(**{WEIGHT: 0.0})) is not None
    assert check(said=metrics(**{"train/env-steps": STEPS})) is None
    assert check(said=metrics(**{"train/env-steps": STEPS + 1})) is not None


def test_missing_and_multiple_values() -> None:
    assert "missing" in str(check(said=MetricRecord({"x": 1.0})))
    assert "'extra' is missing or was not asked for" in str(check(said=metrics(extra=1.0)))
    assert "[1.0, 2.0]" in str(check(said=metrics(**{"train/car_0/return": [1.0, 2.0]})))


@pytest.mark.parametrize("said", [CLIENT + 1, float(CLIENT), None])
def test_nobody_answers_for_another(said: float | None) -> None:
    spoilt = metrics()
    del spoilt[CLIENT_ID]
    if said is not None:
        spoilt[CLIENT_ID] = said
    assert check(said=spoilt) is not None


def test_records_that_do_not_belong() -> None:
    whole = {ARRAYS: arrays(), METRICS: metrics()}
    assert check_content(RecordDict(whole)) is None
    for content in (
        {},
        {ARRAYS: arrays()},
        whole | {"more": arrays()},
        {ARRAYS: arrays(), CONFIG: ConfigRecord()},
        {ARRAYS: metrics(), METRICS: arrays()},
    ):
        assert "its records are" in str(check_content(RecordDict(content)))
    unsigned = RecordDict(whole | {CONFIG: ConfigRecord()})
    assert "'signature' is missing" in str(check_content(unsigned))


@given(scale=st.floats(0.01, 100))
def test_the_norm_bound_is_that_of_all_tensors_together(scale: float) -> None:
    """A moves by (scale, 0, ...), B by (0, scale): the distance is scale * sqrt(2)."""
    a, b = np.ones((2, 3), np.float32), np.zeros(2, np.float32)
    a[0, 0] += np.float32(scale)
    b[1] += np.float32(scale)
    sent = arrays(**{A: a, B: b})
    length = scale * 2**0.5
    assert check(sent, norm=length * 1.001) is None
    assert "update norm" in str(check(sent, norm=length * 0.999))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train/car_0/success-rate", 1.01),
        ("train/car_0/crash-rate", -0.01),
        ("train/car_0/success-rate", 7.0),
        ("train/car_0/return", 1.7e308),
        ("train/car_0/return", -1e300),
    ],
)
def test_metrics_have_the_ranges_that_they_can_have(name: str, value: float) -> None:
    assert f"metric {name!r} is {value!r}" in str(check(said=metrics(**{name: value})))


@given(
    st.lists(st.floats(1.0, 3.0), min_size=3, max_size=20),
    st.lists(st.floats(31.0, 1e30), max_size=9),
    st.randoms(),
)
def test_updates_many_medians_long_are_left_out(
    honest: list[float], hostile: list[float], order: Random
) -> None:
    """As long as they are fewer than the others; a spread of three among these is none."""
    hostile = hostile[: (len(honest) - 1)]
    norms = dict(enumerate([*honest, *hostile, 0.0]))
    shuffled = list(norms.items())
    order.shuffle(shuffled)
    found = outliers(dict(shuffled), 10.0)
    assert sorted(found) == list(range(len(honest), len(honest) + len(hostile)))
    assert outliers(norms, None) == {}


def test_two_that_trained_tell_nothing_of_each_other() -> None:
    assert outliers({0: 1.0, 1: 1e6, 2: 0.0, 3: 0.0}, 10.0) == {}


@given(st.text())
def test_what_is_shown_leaves_a_terminal_alone(text: str) -> None:
    for word in (shown(text), brief(text)):
        assert word.isprintable()
        assert len(word) <= MAX_REASON


def test_escapes_and_megabytes_are_cut() -> None:
    title = "\x1b]0;owned\x07\x1b[2J"
    assert "\x1b" not in brief(f"Traceback\n{title} disk full")
    assert "disk full" in brief(f"Traceback\n{title} disk full")
    truth = Array(np.ones((2, 3), np.float32))
    sent = arrays()
    sent[A] = Array(dtype=title + "x" * 5_000_000, shape=(2, 3), stype="", data=truth.data)
    found = shown(str(check(sent)))
    assert found.startswith(f"tensor {A!r} is \\x1b]0;owned")
    assert len(found) <= MAX_REASON
