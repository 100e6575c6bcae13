"""Messages are what was sent, or they are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from f110_fl.federation.messages import (
    ARRAYS,
    CONFIG,
    METRICS,
    EvaluateOrder,
    EvaluateReply,
    Evidence,
    Identity,
    InvalidMessageError,
    TrainOrder,
    TrainReply,
)

ARRAY_RECORD = ArrayRecord({"car_0/model/actor/weights.0": Array(np.ones(2, np.float32))})
OF_RUN = ("{}", "/runs/1", "1-abc")
TRAIN = TrainOrder(ARRAY_RECORD, 7, *OF_RUN, episodes=5, proximal_mu=0.25)
REPLY = TrainReply(ARRAY_RECORD, {"train/episodes": 5.0, "train/car_0/return": -1.5}, 2)


def test_what_is_sent_is_what_is_read() -> None:
    assert TrainOrder.from_content(TRAIN.to_content()) == TRAIN
    order = EvaluateOrder(ARRAY_RECORD, 7, *OF_RUN)
    assert EvaluateOrder.from_content(order.to_content()) == order
    assert TrainReply.from_content(REPLY.to_content(), REPLY.metrics.keys()) == REPLY
    signed = replace(REPLY, evidence=Evidence("0a" * 32, b"signature"))
    assert TrainReply.from_content(signed.to_content(), REPLY.metrics.keys()) == signed
    found = EvaluateReply({"evaluate/episodes": 3.0})
    assert EvaluateReply.from_content(found.to_content(), found.metrics.keys()) == found
    assert Identity.from_content(Identity(1, 2).to_content()) == Identity(1, 2)


def test_the_keys_on_the_wire() -> None:
    """Those of Flower's own strategies, where they have some."""
    content = TRAIN.to_content()
    assert list(content) == [ARRAYS, CONFIG]
    assert dict(content.config_records[CONFIG]) == {
        "server-round": 7,
        "scenario": "{}",
        "root": "/runs/1",
        "run": "1-abc",
        "episodes": 5,
        "proximal-mu": 0.25,
        "previous": "",
    }
    content = REPLY.to_content()
    assert list(content) == [ARRAYS, METRICS]
    own = {"client-id": 2, "num-examples": 1.0}
    assert dict(content.metric_records[METRICS]) == {**REPLY.metrics, **own}


@pytest.mark.parametrize("key", ["server-round", "scenario", "root", "run", "episodes"])
@pytest.mark.parametrize("value", [None, 0.5, [1], b"1", True])
def test_an_order_with_another_value_is_refused(key: str, value: Any) -> None:
    content = TRAIN.to_content()
    config = content.config_records[CONFIG]
    del config[key]
    if value is not None:
        config[key] = value
    with pytest.raises(InvalidMessageError, match=key):
        TrainOrder.from_content(content)


def test_an_order_that_says_more_is_refused() -> None:
    content = TRAIN.to_content()
    content.config_records[CONFIG]["more"] = 1
    with pytest.raises(InvalidMessageError, match="'more' is missing or was not asked for"):
        TrainOrder.from_content(content)
    with pytest.raises(InvalidMessageError, match="'episodes' is missing or was not asked for"):
        EvaluateOrder.from_content(TRAIN.to_content())


@pytest.mark.parametrize("state", ["", "0A" * 32, "0a" * 31, "0a" * 32 + "\n", 7])
def test_evidence_that_is_none_is_refused(state: Any) -> None:
    content = replace(REPLY, evidence=Evidence("0a" * 32)).to_content()
    content.config_records[CONFIG]["state"] = state
    with pytest.raises(InvalidMessageError, match="state"):
        TrainReply.from_content(content, REPLY.metrics.keys())


SCALARS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(), st.text("01"), st.binary())


@given(st.dictionaries(st.sampled_from(["client-id", "num-clients", "more"]), SCALARS))
def test_whatever_a_node_says_it_is_a_client_or_is_refused(said: dict[str, Any]) -> None:
    try:
        found = Identity.from_content(RecordDict({CONFIG: ConfigRecord(said)}))
    except InvalidMessageError:
        return
    assert said == {"client-id": found.client_id, "num-clients": found.num_clients}
    assert 0 <= found.client_id < found.num_clients


def test_what_is_averaged_is_another_record() -> None:
    """Flower's strategies take arrays out of what they are given."""
    weighted = REPLY.weighted(ArrayRecord(), 3.0)
    assert dict(weighted.metric_records[METRICS]) == {**REPLY.metrics, "num-examples": 3.0}
    assert not weighted.array_records[ARRAYS]
    assert (REPLY.weight, list(REPLY.arrays)) == (1.0, list(ARRAY_RECORD))
