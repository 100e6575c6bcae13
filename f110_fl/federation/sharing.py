"""Selects the tensors of a learner that a federation averages and those that it zeroes.

Server and clients apply the same rules to the same names (`f110_fl.tensors.TensorName`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from f110_fl.config.federated import OptimizerStrategy
from f110_fl.config.scenario import Scenario
from f110_fl.tensors import TensorName

if TYPE_CHECKING:  # torch takes a second to import
    import torch


# The slots of an optimizer that a sync (averages, zeroes); the others stay on the client.
# Averaging Adam's second moment and restarting its first follows FedAdamW (arXiv 2510.27486);
# the step count goes with the second moment, whose bias it corrects.
SLOTS: Final[Mapping[OptimizerStrategy, tuple[set[str], set[str]]]] = {
    "local": (set(), set()),
    "average": ({"exp_avg", "exp_avg_sq", "step"}, set()),
    "reset": (set(), {"exp_avg", "exp_avg_sq", "step"}),
    "average_second_moment": ({"exp_avg_sq", "step"}, {"exp_avg"}),
}


def averaged_names(names: Iterable[str], scenario: Scenario) -> frozenset[str]:
    """Return the tensors that clients send and the server averages."""
    slots, _ = SLOTS[scenario.federated.optimizer_strategy]
    shared = _shared(names, scenario)
    return frozenset(str(n) for n in shared if n.kind == "model" or n.slot in slots)


def zeroed_names(names: Iterable[str], scenario: Scenario) -> frozenset[str]:
    """Return the moments that every client itself sets to zero at a sync."""
    _, slots = SLOTS[scenario.federated.optimizer_strategy]
    shared = _shared(names, scenario)
    return frozenset(str(n) for n in shared if n.kind == "optimizer" and n.slot in slots)


def select(tensors: Mapping[str, torch.Tensor], names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Return the named tensors, in name order."""
    return {name: tensors[name] for name in sorted(names)}


def _shared(names: Iterable[str], scenario: Scenario) -> list[TensorName]:
    """Return the parameters that take part, and the optimizer slots that belong to them."""
    parsed = [TensorName.parse(name) for name in names]
    match scenario.federated.share:
        case "all":
            return parsed
        case "actor":
            acting = {agent: config.acting for agent, config in scenario.learners.items()}
            return [n for n in parsed if n.network.removesuffix("_target") in acting[n.agent]]
        case "all_but_normaliser":
            return [n for n in parsed if not n.network.endswith("normaliser")]
        case "all_but_head":
            last = _last_layers(parsed)
            return [n for n in parsed if n.layer != last.get((n.agent, n.network))]


def _last_layers(names: Iterable[TensorName]) -> dict[tuple[str, str], int]:
    """Return every network's output layer, its highest number, by (agent, network)."""
    last: dict[tuple[str, str], int] = {}
    for name in names:
        if name.kind == "model":
            key = name.agent, name.network
            last[key] = max(last.get(key, -1), name.layer)
    return last
