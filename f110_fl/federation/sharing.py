"""Which of a learner's tensors a federation averages, which it zeroes, which stay at home.

Names are ``AGENT/model/NETWORK/PARAMETER`` and ``AGENT/optimizer/OPTIMIZER/PARAMETER/SLOT``
(`f110_fl.learners.base`). Server and clients apply the same rules to the same names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from f110_fl.config.federated import OptimizerStrategy
from f110_fl.config.scenario import Scenario
from f110_fl.tensors import _Part, _slot, is_optimizer_tensor

if TYPE_CHECKING:  # torch takes a second to import
    import torch


# What a sync does with each slot of an optimizer; slots that are not named stay at home.
# Averaging Adam's second moment and restarting its first follows FedAdamW (arXiv 2510.27486);
# the step count goes with the second moment, whose bias it corrects.
AVERAGED_SLOTS: Final[Mapping[OptimizerStrategy, frozenset[str]]] = {
    "local": frozenset(),
    "average": frozenset({"exp_avg", "exp_avg_sq", "step"}),
    "reset": frozenset(),
    "average_second_moment": frozenset({"exp_avg_sq", "step"}),
}
ZEROED_SLOTS: Final[Mapping[OptimizerStrategy, frozenset[str]]] = {
    "local": frozenset(),
    "average": frozenset(),
    "reset": frozenset({"exp_avg", "exp_avg_sq", "step"}),
    "average_second_moment": frozenset({"exp_avg"}),
}


def averaged_names(names: Iterable[str], scenario: Scenario) -> frozenset[str]:
    """Return the tensors that clients send and the server averages."""
    shared = _shared(names, scenario)
    slots = AVERAGED_SLOTS[scenario.federated.optimizer_strategy]
    return frozenset(n for n in shared if not is_optimizer_tensor(n) or _slot(n) in slots)


def zeroed_names(names: Iterable[str], scenario: Scenario) -> frozenset[str]:
    """Return the moments that every client sets to zero at a sync, without their being sent."""
    shared = _shared(names, scenario)
    slots = ZEROED_SLOTS[scenario.federated.optimizer_strategy]
    return frozenset(n for n in shared if is_optimizer_tensor(n) and _slot(n) in slots)


def select(tensors: Mapping[str, torch.Tensor], names: Iterable[str]) -> dict[str, torch.Tensor]:
    """Return the named tensors, in name order."""
    return {name: tensors[name] for name in sorted(names)}


def _shared(names: Iterable[str], scenario: Scenario) -> list[str]:
    """Return the parameters that take part, and the optimizer slots that belong to them."""
    parts = {name: _Part(name) for name in names}
    match scenario.federated.share:
        case "all":
            return list(parts)
        case "actor":
            acting = {agent: config.acting for agent, config in scenario.learners.items()}
            return [
                n for n, p in parts.items() if p.network.removesuffix("_target") in acting[p.agent]
            ]
        case "all_but_normaliser":
            return [n for n, part in parts.items() if not part.network.endswith("normaliser")]
        case "all_but_head":
            heads = _last_layers(parts.values())
            return [n for n, p in parts.items() if (p.agent, p.network, p.layer) not in heads]


def _last_layers(parts: Iterable[_Part]) -> set[tuple[str, str, int]]:
    """Return (agent, network, layer) of every network's output layer: its highest number."""
    last: dict[tuple[str, str], int] = {}
    for part in parts:
        if part.kind == "model":
            key = part.agent, part.network
            last[key] = max(last.get(key, -1), part.layer)
    return {(*key, layer) for key, layer in last.items()}
