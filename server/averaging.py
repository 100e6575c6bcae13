"""What a server makes of rounds' replies, which may be computed again at any later time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid

from f110_fl.config.scenario import Scenario
from f110_fl.engines.flower.internals import weighted_mean
from f110_fl.federation import sharing
from f110_fl.federation.arrays import cast_like, record_of, to_arrays, value, values_of
from f110_fl.federation.messages import PROXIMAL_MU, WEIGHT, TrainReply
from f110_fl.tensors import TensorName
from f110_fl.training.metrics import is_evaluated, measured, total_name
from server.aggregation import make_aggregation
from server.grids import Chosen
from server.privacy import CentralPrivacy
from server.validation import ENV_STEPS


class Averager:
    """Averages networks by one of Flower's strategies, and moments by the clients' weights.

    Args:
        scenario: The run's scenario.
        central: The server's mechanism of privacy; None: there is none.

    Attributes:
        aggregation: Flower's strategy, with what it keeps from round to round.
    """

    def __init__(self, scenario: Scenario, central: CentralPrivacy | None) -> None:
        self._weighting = scenario.federated.weighting
        self.aggregation = make_aggregation(scenario.federated.strategy)
        self._central = central

    def summary(self) -> None:
        """Log the aggregation strategy's settings."""
        self.aggregation.summary()

    def begin(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid, nodes: list[int]
    ) -> float:
        """Show the strategy a round's tensors, which it may keep, before they are sent.

        Args:
            number: The round.
            arrays: The global tensors.
            config: Flower's, to which the strategy may add.
            grid: Flower's.
            nodes: The nodes that are asked.

        Returns:
            The weight of FedProx's proximal term; 0: none.
        """
        networks, _ = _split(arrays)
        # Its messages are not used.
        list(self.aggregation.configure_train(number, networks, config, Chosen(grid, nodes)))
        proximal_mu = config.get(PROXIMAL_MU)
        return proximal_mu if isinstance(proximal_mu, float) else 0.0

    def average(
        self, number: int, accepted: Mapping[int, TrainReply], reference: ArrayRecord
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Return the average of a round's replies.

        Args:
            number: The round.
            accepted: The replies, in the order of the clients' ids.
            reference: The global tensors that the round started from, for names and types.

        Raises:
            RuntimeError: If they are too few for the strategy.
        """
        start, _ = _split(reference)
        networks: list[Message] = []
        moments: list[RecordDict] = []
        for client_id, reply in accepted.items():
            weight = self._weight(client_id, reply)
            of_networks, of_moments = _split(reply.arrays)
            if self._central:
                of_networks = self._central.clip(of_networks, start)
            content = reply.weighted(of_networks, weight)
            networks.append(Message(content, dst_node_id=0, message_type=MessageType.TRAIN))
            if of_moments:
                moments.append(reply.weighted(of_moments, weight))
        arrays, averaged = self.aggregation.aggregate_train(number, networks)
        if arrays is None or averaged is None:
            raise RuntimeError(f"round {number}: too few replies for the strategy")
        if self._central:
            arrays = self._central.release(number, arrays, start, len(accepted))
        if moments:
            arrays = ArrayRecord({**arrays, **weighted_mean(moments, WEIGHT)})
        return cast_like(arrays, reference), averaged

    def metrics(
        self, averaged: Mapping[str, Any], accepted: Mapping[int, TrainReply]
    ) -> dict[str, float]:
        """Return averages of metrics, those of evaluations over the clients that evaluated only.

        Args:
            averaged: Averages over all clients.
            accepted: The clients' replies.
        """
        weights = {client: self._weight(client, reply) for client, reply in accepted.items()}
        count = total_name("evaluate", "episodes")
        evaluated = sum(w for client, w in weights.items() if accepted[client].metrics[count])
        share = evaluated / sum(weights.values())
        return {
            name: value / share if is_evaluated(name) else value
            for name, value in measured(averaged).items()
        }

    def _weight(self, client_id: int, reply: TrainReply) -> float:
        if self._weighting == "env_steps":
            return reply.metrics[ENV_STEPS]
        return 1.0 if self._weighting == "equal" else self._weighting[client_id]


def _split(arrays: ArrayRecord) -> tuple[ArrayRecord, ArrayRecord]:
    """Return (networks, optimizer moments) of a record; itself if there are no moments."""
    networks, moments = ArrayRecord(), ArrayRecord()
    of_moments = {name for name in arrays if TensorName.parse(name).kind == "optimizer"}
    if not of_moments:  # Flower checks each entry of a record, which takes a while
        return arrays, moments
    for name, array in arrays.items():
        (moments if name in of_moments else networks)[name] = array
    return networks, moments


def mix(start: ArrayRecord, found: ArrayRecord, weight: float) -> ArrayRecord:
    """Return (1 - weight) start + weight found, tensor by tensor (FedAsync, arXiv 1903.03934)."""
    mixed = {
        name: before + weight * (value(found[name]).astype(np.float64) - before)
        for name, before in values_of(start).items()
    }
    return cast_like(record_of(mixed), start)


def starting_tensors(
    scenario: Scenario, *, read: bool
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return what a federation starts from: what is averaged, and what every client sets itself.

    Args:
        scenario: The run's scenario.
        read: Whether learners start from the files of their ``initial``; otherwise only names,
            shapes and types count.

    Returns:
        The averaged tensors, and the zeroed moments, by name.

    Raises:
        UserError: If such a file cannot be read or does not fit.
    """
    from f110_fl.training.agents import initial_tensors

    tensors = {
        name: tensor
        for name, tensor in initial_tensors(scenario, read=read).items()
        if TensorName.parse(name).agent in scenario.federated_agents
    }
    imposed = {n: torch.zeros_like(tensors[n]) for n in sharing.zeroed_names(tensors, scenario)}
    return sharing.select(tensors, sharing.averaged_names(tensors, scenario)), imposed


class RunningAverage:
    """An exponential moving average of the networks: w_avg <- d w_avg + (1 - d) w after a round.

    Averages of the iterates vary less than the iterates (Polyak and Juditsky 1992). The n-th
    round has d = min(decay, 1 - 1 / n), so that the first ones are averaged with equal weights:
    otherwise the first model would count for longest.

    Args:
        decay: Largest d, below 1.

    Attributes:
        tensors: The average by name; empty before the first round.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self.tensors: dict[str, torch.Tensor] = {}

    def update(self, number: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take a round in.

        Args:
            number: The round, counted from 1.
            tensors: The global ones after it. Moments are left out; of what is not a
                floating-point number, the last counts.
        """
        step = 1.0 - min(self._decay, 1.0 - 1.0 / number)
        for name, tensor in tensors.items():
            if TensorName.parse(name).kind != "model":
                continue
            before = self.tensors.get(name)
            if before is None or not tensor.is_floating_point():
                self.tensors[name] = tensor.clone()
            else:
                before.lerp_(tensor, step)

    def over(self, arrays: ArrayRecord) -> ArrayRecord:
        """Return the global arrays with the average in place of the networks, if there is one."""
        return ArrayRecord({**arrays, **to_arrays(self.tensors)})
