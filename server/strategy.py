"""A federated round: sampling, validation, aggregation and recording."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from f110_fl.config.scenario import Scenario
from f110_fl.engines.flower_internals import weighted_mean
from f110_fl.federation.accounting import ends, exceeds, told
from f110_fl.federation.arrays import cast_like
from f110_fl.federation.messages import (
    PROXIMAL_MU,
    WEIGHT,
    EvaluateOrder,
    InvalidMessageError,
    Order,
    TrainOrder,
    TrainReply,
    brief,
    metric_record,
    shown,
)
from f110_fl.federation.privacy import read_secret
from f110_fl.loading.scenarios import dump_scenario
from f110_fl.runs.directory import identity
from f110_fl.tensors import TensorName
from f110_fl.training.metrics import evaluation_names, is_evaluated, measured, summarise, total_name
from server.aggregation import make_aggregation
from server.grids import Chosen
from server.privacy import BudgetReachedError, CentralPrivacy
from server.registry import ClientRegistry, sample, sample_size
from server.rounds import RoundRecorder
from server.validation import (
    ENV_STEPS,
    MOMENTS,
    NETWORKS,
    NORMALISERS,
    Limits,
    outliers,
    read_evaluation,
    validate_training,
)

if TYPE_CHECKING:  # the simulator is imported when it is needed
    from server.evaluation import GlobalEvaluation

log = logging.getLogger("flwr")

MOST_TOLD = 5  # reasons in the line that ends a run; all are in the log

Reply = TypeVar("Reply")


class FederatedStrategy(Strategy):
    """Wraps one of Flower's aggregation strategies for clients with stable identities.

    Replies are validated, then averaged in the order of the client ids, so that a rerun is
    bit-equal. Flower's strategy receives the networks only; optimizer moments, if they are sent,
    are averaged with the clients' weights.

    Args:
        scenario: The run's scenario.
        registry: The clients.
        recorder: Writes the rounds' files, and has the number of the rounds already completed.
        evaluation: Writes the evaluations' file; None: the global model is not evaluated.
    """

    def __init__(
        self,
        scenario: Scenario,
        registry: ClientRegistry,
        recorder: RoundRecorder,
        evaluation: GlobalEvaluation | None = None,
    ) -> None:
        self.scenario = scenario
        self.registry = registry
        self.recorder = recorder
        self.evaluation = evaluation
        self.aggregation = make_aggregation(scenario.federated.strategy)
        self._central = _central(scenario, recorder)
        self._scenario_text = dump_scenario(scenario)
        self._training_names = summarise((), scenario.federated_agents).keys()
        self._asked: tuple[int, ...] = ()
        self._answered: tuple[int, ...] = ()
        self._messages: list[Message] = []
        self._norms: dict[int, dict[str, float]] = {}  # of the round's updates, by client
        self._global = ArrayRecord()
        self._started = 0.0

    def summary(self) -> None:
        """Log the aggregation strategy's settings."""
        self.aggregation.summary()

    def true_round(self, server_round: int) -> int:
        """Return the round's number in the run; Flower also counts from 1 after a resume."""
        return server_round + self.recorder.resumed_from

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask this round's clients to train its episodes from ``arrays``.

        Raises:
            BudgetReachedError: If the round may exceed the privacy budget, and the run ends there.
            RuntimeError: If fewer than ``min_clients`` clients are connected.
        """
        self._check_budget(self.true_round(server_round))
        self._started = time.monotonic()
        self._global = arrays
        self._norms.clear()
        number = self.true_round(server_round)
        online = self.registry.online(grid)
        self._asked = tuple(sample(self.scenario, online, number))
        least = self.scenario.federated.min_clients
        if len(self._asked) < least:
            raise RuntimeError(
                f"round {number}: {len(self._asked)} clients are connected, {least} are needed"
            )
        self.recorder.begin(number)
        nodes = [online[client] for client in self._asked]
        # Flower's strategy may keep the arrays and add to the config; its messages are not used.
        networks, _ = _split(arrays)
        list(self.aggregation.configure_train(number, networks, config, Chosen(grid, nodes)))
        proximal_mu = config.get(PROXIMAL_MU)
        order = TrainOrder(
            arrays,
            number,
            *self._of_run(),
            episodes=self.scenario.round_episodes(number),
            proximal_mu=proximal_mu if isinstance(proximal_mu, float) else 0.0,
        )
        return self._send(MessageType.TRAIN, order, nodes)

    def _check_budget(self, number: int) -> None:
        privacy, account = self.scenario.federated.privacy, self.recorder.account
        if privacy is None or account is None or not exceeds(privacy, account.spent()):
            return
        spent = account.spent()
        words = f"round {number} would take epsilon to {spent['next_epsilon']:.3g}; so far "
        words += told(privacy, spent)
        if ends(privacy, spent):
            raise BudgetReachedError(words)
        log.warning("Above the privacy budget: %s", words)

    def _of_run(self) -> tuple[str, str, str]:
        """Return the run's scenario, directory and name, which every order contains."""
        rundir = self.recorder.rundir
        return self._scenario_text, str(rundir.root), identity(rundir)

    def _send(self, kind: str, order: Order, nodes: Iterable[int]) -> list[Message]:
        """Return the messages, in the order of the clients asked, and store them."""
        content = order.to_content()
        self._messages = [
            Message(content=content, message_type=kind, dst_node_id=node) for node in nodes
        ]
        return self._messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the usable replies and record the round.

        Raises:
            RuntimeError: If fewer than ``min_clients`` replies are usable.
        """
        number = self.true_round(server_round)
        accepted, dropped = self._sort_out(replies, partial(self._trained, number))
        self.recorder.written()
        for client_id, reason in self._outlying(accepted).items():
            dropped[client_id] = reason
            del accepted[client_id]
            self.recorder.discard(number, client_id)
        self._answered = tuple(accepted)
        for client_id, reason in dropped.items():
            log.warning("Round %d goes on without client %d: %s", number, client_id, reason)
        least = self.scenario.federated.min_clients
        if len(accepted) < least:
            raise RuntimeError(
                f"round {number}: {len(accepted)} usable replies, {least} are needed: "
                f"{_some(dropped)}"
            )
        arrays, metrics = self._average(number, accepted)
        self.recorder.complete(
            number,
            arrays,
            self.aggregation,
            {
                "seconds": round(time.monotonic() - self._started, 3),
                "clients": list(accepted),
                "asked": list(self._asked),
                "dropped": {str(k): v for k, v in dropped.items()},
                "metrics": self._measured(metrics, accepted),
            },
            {client_id: measured(reply.values) for client_id, reply in accepted.items()},
        )
        account, privacy = self.recorder.account, self.scenario.federated.privacy
        if account:
            log.info("Privacy spent: %s", told(privacy, account.spent()))
        if self.evaluation and account and ends(privacy, account.spent()):
            self.evaluation.last = number
        return arrays, metrics

    def _outlying(self, accepted: Collection[int]) -> dict[int, str]:
        """Return the clients whose updates are far longer than the others', with the reason.

        With central privacy, which clips them, none: what a client counts must not depend on what
        others sent, or the noise would not hide it.
        """
        if self._central:
            return {}
        ratio, found = self.scenario.federated.max_update_ratio, dict[int, str]()
        for group, what in ((MOMENTS, "moments'"), (NORMALISERS, "normaliser's"), (NETWORKS, "")):
            norms = {client_id: self._norms[client_id][group] for client_id in accepted}
            found |= outliers(norms, ratio, f"{what} update".strip())
        return found

    def _trained(self, number: int, client_id: int, content: RecordDict) -> TrainReply:
        """Return a usable reply; its arrays take no memory until they are averaged."""
        reply = TrainReply.from_content(content, self._training_names)
        episodes, federated = self.scenario.round_episodes(number), self.scenario.federated
        limits = Limits(
            float(episodes),
            float(episodes * self.scenario.env.max_steps),
            federated.max_update_norm,
            federated.max_update_ratio,
            need_steps=federated.weighting == "env_steps",
        )
        self._norms[client_id] = validate_training(reply, client_id, self._global, limits)
        return replace(reply, arrays=self.recorder.keep(number, client_id, reply.arrays))

    def _average(
        self, number: int, accepted: Mapping[int, TrainReply]
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Average the networks by Flower's strategy, and the moments by the clients' weights."""
        start, _ = _split(self._global)
        networks: list[Message] = []
        moments: list[RecordDict] = []
        for client_id, reply in accepted.items():
            weight = self._weight(client_id, reply)
            of_networks, of_moments = _split(reply.arrays)
            if self._central:
                of_networks = self._central.clip(of_networks, start)
            content = reply.weighted(of_networks, weight)
            networks.append(Message(content, dst_node_id=0, message_type=MessageType.TRAIN))
            moments.append(reply.weighted(of_moments, weight))
        arrays, averaged = self.aggregation.aggregate_train(number, networks)
        if arrays is None or averaged is None:
            raise RuntimeError(f"round {number}: too few replies for the strategy")
        if self._central:
            arrays = self._central.release(number, arrays, start, len(accepted))
        arrays = ArrayRecord({**arrays, **weighted_mean(moments, WEIGHT)})
        return cast_like(arrays, self._global), averaged

    def _measured(
        self, averaged: Mapping[str, Any], accepted: Mapping[int, TrainReply]
    ) -> dict[str, float]:
        """Return the averages, those of evaluations over the clients that evaluated only."""
        weights = {client: self._weight(client, reply) for client, reply in accepted.items()}
        count = total_name("evaluate", "episodes")
        evaluated = sum(w for client, w in weights.items() if accepted[client].metrics[count])
        share = evaluated / sum(weights.values())
        return {
            name: value / share if is_evaluated(name) else value
            for name, value in measured(averaged).items()
        }

    def _sort_out(
        self, replies: Iterable[Message], read: Callable[[int, RecordDict], Reply]
    ) -> tuple[dict[int, Reply], dict[int, str]]:
        """Return the usable replies, and the reasons to drop the others, by client id.

        Args:
            replies: The messages received.
            read: Returns a reply from its client and content, or raises `InvalidMessageError`.
        """
        accepted: dict[int, Reply] = {}
        dropped = dict.fromkeys(self._asked, "no answer in time")
        # Flower itself replies for a lost node, so the sender does not identify the client.
        client_of = dict(
            zip((m.metadata.message_id for m in self._messages), self._asked, strict=True)
        )
        for message in replies:
            client_id = client_of.pop(message.metadata.reply_to_message_id, None)
            if client_id is None:
                log.warning("A reply to nothing that was asked, or a second one, is ignored")
                continue
            try:
                if message.has_error():
                    dropped[client_id] = brief(message.error.reason or "")
                    continue
                accepted[client_id] = read(client_id, message.content)
            except InvalidMessageError as error:
                dropped[client_id] = shown(str(error))
            except OSError:  # of this machine's disk, which is no fault of the client's
                raise
            except Exception as error:  # whatever else a reply may be, it must not end the run
                dropped[client_id] = shown(f"it cannot be read: {type(error).__name__}: {error}")
            else:
                del dropped[client_id]
        return dict(sorted(accepted.items())), dropped

    def _weight(self, client_id: int, reply: TrainReply) -> float:
        weighting = self.scenario.federated.weighting
        if weighting == "env_steps":
            return reply.metrics[ENV_STEPS]
        return 1.0 if weighting == "equal" else weighting[client_id]

    def evaluate_on_server(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Evaluate the global model here if it is due; Flower's ``evaluate_fn``."""
        if self.evaluation is None:
            return None
        number = self.true_round(server_round)
        return self.evaluation.on_server(number, self.recorder.evaluated(arrays))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the round's clients to evaluate ``arrays``, if it is due.

        A client that did not reply may still use its directory, and is not asked.
        """
        del config
        number = self.true_round(server_round)
        asked = self.scenario.federated.evaluated_on_clients
        if not asked or self.evaluation is None or not self.evaluation.due(number):
            return []
        online = self.registry.online(grid)
        self._asked = tuple(client for client in self._answered if client in online)
        nodes = [online[client] for client in self._asked]
        order = EvaluateOrder(self.recorder.evaluated(arrays), number, *self._of_run())
        return self._send(MessageType.EVALUATE, order, nodes)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Average the clients' results with equal weights, and record them."""
        replies = list(replies)
        if self.evaluation is None or not replies:
            return None
        names = evaluation_names(self.scenario.federated_agents)
        accepted, dropped = self._sort_out(replies, lambda _, found: read_evaluation(found, names))
        by_client = {client: measured(reply.metrics) for client, reply in accepted.items()}
        found = {
            name: [metrics[name] for metrics in by_client.values() if name in metrics]
            for name in names
        }
        averaged = {name: sum(values) / len(values) for name, values in found.items() if values}
        number = self.true_round(server_round)
        self.evaluation.on_clients(number, averaged, by_client, dropped)
        return metric_record(averaged) if averaged else None


def _central(scenario: Scenario, recorder: RoundRecorder) -> CentralPrivacy | None:
    """Return the server's mechanism of privacy, None if there is none."""
    privacy = scenario.federated.privacy
    if privacy is None or privacy.kind != "central":
        return None
    secret = read_secret(recorder.rundir.privacy_key, begun=recorder.resumed_from > 0)
    return CentralPrivacy(privacy, sample_size(scenario), secret)


def _some(dropped: Mapping[int, str]) -> str:
    """Return the first few reasons, in one line."""
    told = [f"client {client_id}: {reason}" for client_id, reason in sorted(dropped.items())]
    rest = len(told) - MOST_TOLD
    return "; ".join(told[:MOST_TOLD]) + (f"; and {rest} more" if rest > 0 else "")


def _split(arrays: ArrayRecord) -> tuple[ArrayRecord, ArrayRecord]:
    """Return (networks, optimizer moments) of a record."""
    networks, moments = ArrayRecord(), ArrayRecord()
    for name, array in arrays.items():
        is_moment = TensorName.parse(name).kind == "optimizer"
        (moments if is_moment else networks)[name] = array
    return networks, moments
