"""What travels between server and clients: record names, and tensors as Flower arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
from flwr.app import Array, ArrayRecord

if TYPE_CHECKING:  # torch takes a second to import, and saying who one is needs none of it
    import torch

ARRAYS: Final = "arrays"
CONFIG: Final = "config"
METRICS: Final = "metrics"

# Keys of the config that goes with every training message.
ROUND: Final = "server-round"
EPISODES: Final = "episodes"
SCENARIO: Final = "scenario"
ROOT: Final = "root"  # the run's directory where the server is
RUN: Final = "run"  # the run's name, for a client that keeps its state elsewhere

# Keys of the answer to a query.
CLIENT_ID: Final = "client-id"
NUM_CLIENTS: Final = "num-clients"

# The weight of a client in the average; the server sets it, whatever the client says.
WEIGHT: Final = "num-examples"
ENV_STEPS: Final = "train/env-steps"
# FedProx's weight, as Flower's strategy names it in the config.
PROXIMAL_MU: Final = "proximal-mu"


def to_arrays(tensors: Mapping[str, torch.Tensor]) -> ArrayRecord:
    """Return the tensors as a Flower record, in name order."""
    return ArrayRecord(
        {name: Array.from_numpy_ndarray(tensors[name].numpy()) for name in sorted(tensors)}
    )


def to_tensors(arrays: ArrayRecord) -> dict[str, torch.Tensor]:
    """Return a record's arrays as tensors that own their memory."""
    import torch

    return {name: torch.from_numpy(array.numpy()) for name, array in arrays.items()}


def cast_like(arrays: ArrayRecord, reference: ArrayRecord) -> ArrayRecord:
    """Return arrays in name order with the reference's types; rules compute in higher ones."""
    return ArrayRecord(
        {
            name: Array(np.asarray(arrays[name].numpy(), dtype=reference[name].dtype))
            for name in sorted(reference)
        }
    )
