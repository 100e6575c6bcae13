"""Names of tensors, taken apart and put together."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from f110_fl.tensors import TensorName, owned

WORDS = st.text("abc_.0123456789", min_size=1)


@given(st.builds(TensorName, st.sampled_from(["model", "local"]), WORDS, WORDS, agent=WORDS))
def test_a_name_is_what_it_was_made_of(name: TensorName) -> None:
    assert TensorName.parse(str(name)) == name


def test_parts() -> None:
    name = TensorName.parse("car_0/optimizer/critic/weights.2/exp_avg")
    assert name == TensorName("optimizer", "critic", "weights.2", "exp_avg", agent="car_0")
    assert name.layer == 2
    assert TensorName.parse("car_0/model/normaliser/mean").layer == -1
    own = TensorName.of_learner("model/actor/biases.10")
    assert (own.agent, own.network, own.layer) == ("", "actor", 10)
    assert str(own) == "model/actor/biases.10"


def test_a_foreign_name_lacks_parts() -> None:
    assert TensorName.parse("weights") == TensorName("", "", "", agent="weights")
    assert TensorName.parse("car_0/local/replay/row/count/n").slot == "count/n"


def test_an_agents_own() -> None:
    zero = torch.zeros(1)
    names = ("a/model/q/w", "a/optimizer/q/w/step", "a/local/rng", "ab/model/q/w")
    tensors = dict.fromkeys(names, zero)
    assert owned(tensors, "a", "model").keys() == {"model/q/w"}
    assert owned(tensors, "a", "model", "optimizer").keys() == {"model/q/w", "optimizer/q/w/step"}
    assert owned(tensors, "b", "model") == {}
