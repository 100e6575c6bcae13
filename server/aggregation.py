"""Flower's aggregation strategies, by the names that a scenario uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import (
    Bulyan,
    DifferentialPrivacyServerSideFixedClipping,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    Strategy,
)
from numpy.typing import NDArray

from f110_fl.config.federated import FederatedConfig, StrategyConfig
from f110_fl.federation import messages
from f110_fl.tensors import unprefixed

# What a strategy keeps from round to round, by attribute; the rest are settings.
_STATE = ("current_arrays", "momentum_vector", "m_t", "v_t")


def make_aggregation(config: StrategyConfig) -> FedAvg:
    """Return Flower's strategy of that name, to be called with the clients already chosen."""
    common: dict[str, Any] = {
        "min_train_nodes": 1,
        "min_evaluate_nodes": 1,
        "min_available_nodes": 1,
        "weighted_by_key": messages.WEIGHT,
    }
    match config.name:
        case "fedavg":
            return FedAvg(**common)
        case "fedavgm":
            return FedAvgM(
                server_learning_rate=config.learning_rate,
                server_momentum=config.momentum,
                **common,
            )
        case "fedadam" | "fedyogi":
            return (FedAdam if config.name == "fedadam" else FedYogi)(
                eta=config.learning_rate,
                beta_1=config.beta_1,
                beta_2=config.beta_2,
                tau=config.tau,
                **common,
            )
        case "fedmedian":
            return FedMedian(**common)
        case "fedtrimmedavg":
            return FedTrimmedAvg(beta=config.cut, **common)
        case "krum":
            return Krum(num_malicious_nodes=config.malicious, **common)
        case "multikrum":
            return MultiKrum(
                num_malicious_nodes=config.malicious,
                num_nodes_to_select=config.selected,
                **common,
            )
        case "bulyan":
            return Bulyan(num_malicious_nodes=config.malicious, **common)
        case "fedprox":
            return FedProx(proximal_mu=config.proximal_mu, **common)


def private(aggregation: FedAvg, federated: FederatedConfig, asked: int) -> Strategy:
    """Return the strategy, wrapped in Flower's central differential privacy if that is wanted.

    Args:
        aggregation: The strategy.
        federated: Has the privacy's settings.
        asked: Clients asked in a round.
    """
    privacy = federated.privacy
    if privacy is None or privacy.kind != "central":
        return aggregation
    return DifferentialPrivacyServerSideFixedClipping(
        aggregation, privacy.noise_multiplier, privacy.clipping_norm, asked
    )


def aggregation_state(aggregation: FedAvg) -> dict[str, NDArray[Any]]:
    """Return what a strategy keeps between rounds as named arrays: ``ATTRIBUTE/KEY``."""
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
    """Give a new strategy what `aggregation_state` returned."""
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
