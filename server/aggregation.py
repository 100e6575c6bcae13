"""Flower's aggregation strategies, by the names that a scenario uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import (
    Bulyan,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
)
from numpy.typing import NDArray

from f110_fl.config.federated import StrategyConfig
from f110_fl.federation import messages
from f110_fl.tensors import unprefixed

# The attributes that a strategy keeps from round to round; the others are settings.
_STATE = ("current_arrays", "momentum_vector", "m_t", "v_t")


_ADAPTIVE = {"eta": "learning_rate", "beta_1": "beta_1", "beta_2": "beta_2", "tau": "tau"}
_BYZANTINE = {"num_malicious_nodes": "malicious"}
# Flower's class of each strategy, and which of our settings each of its arguments is.
_STRATEGIES: Mapping[str, tuple[type[FedAvg], Mapping[str, str]]] = {
    "fedavg": (FedAvg, {}),
    "fedavgm": (FedAvgM, {"server_learning_rate": "learning_rate", "server_momentum": "momentum"}),
    "fedadam": (FedAdam, _ADAPTIVE),
    "fedyogi": (FedYogi, _ADAPTIVE),
    "fedmedian": (FedMedian, {}),
    "fedtrimmedavg": (FedTrimmedAvg, {"beta": "cut"}),
    "krum": (Krum, _BYZANTINE),
    "multikrum": (MultiKrum, _BYZANTINE | {"num_nodes_to_select": "selected"}),
    "bulyan": (Bulyan, _BYZANTINE),
    "fedprox": (FedProx, {"proximal_mu": "proximal_mu"}),
}


def make_aggregation(config: StrategyConfig) -> FedAvg:
    """Return Flower's strategy of that name, to be called with the clients already chosen."""
    strategy, arguments = _STRATEGIES[config.name]
    settings: dict[str, Any] = {theirs: getattr(config, ours) for theirs, ours in arguments.items()}
    return strategy(
        min_train_nodes=1,
        min_evaluate_nodes=1,
        min_available_nodes=1,
        weighted_by_key=messages.WEIGHT,
        **settings,
    )


def aggregation_state(aggregation: FedAvg) -> dict[str, NDArray[Any]]:
    """Return the state that a strategy keeps between rounds, as arrays ``ATTRIBUTE/KEY``."""
    state: dict[str, NDArray[Any]] = {}
    for attribute in _STATE:
        value = getattr(aggregation, attribute, None)
        if isinstance(value, ArrayRecord):
            value = {key: array.numpy() for key, array in value.items()}
        elif isinstance(value, list):  # FedAvgM's momentum, in the order of the arrays
            value = {f"{index:06d}": array for index, array in enumerate(value)}
        if value is not None:
            state |= {f"{attribute}/{key}": np.asarray(array) for key, array in value.items()}
    return state


def load_aggregation_state(aggregation: FedAvg, state: Mapping[str, NDArray[Any]]) -> None:
    """Restore in a new strategy the state that `aggregation_state` returned."""
    for attribute in _STATE:
        own = dict(sorted(unprefixed(attribute, state).items()))
        if not own:
            continue
        if attribute == "momentum_vector":
            setattr(aggregation, attribute, list(own.values()))
        elif attribute == "current_arrays" and isinstance(aggregation, FedAvgM):
            setattr(aggregation, attribute, ArrayRecord({k: Array(v) for k, v in own.items()}))
        else:
            setattr(aggregation, attribute, own)
