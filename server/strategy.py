"""A federated round: sampling, validation, aggregation and recording."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from f110_fl.config.scenario import Scenario
from f110_fl.federation.accounting import ends, exceeds, told
from f110_fl.federation.compression import decoded
from f110_fl.federation.messages import (
    EvaluateOrder,
    InvalidMessageError,
    Order,
    TrainOrder,
    TrainReply,
    brief,
    metric_record,
    shown,
)
from f110_fl.loading.scenarios import dump_scenario
from f110_fl.runs.directory import identity
from f110_fl.training.metrics import evaluation_names, measured, summarise
from server.averaging import Averager
from server.privacy import BudgetReachedError, central_privacy
from server.registry import ClientRegistry, sample
from server.rounds import RoundRecorder
from server.validation import (
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


class Sent(NamedTuple):
    """What an order starts from.

    Attributes:
        number: The round that was open when it was sent.
        arrays: The global tensors of that round.
    """

    number: int
    arrays: ArrayRecord


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
        self._central = central_privacy(scenario, recorder.rundir, begun=recorder.resumed_from > 0)
        self._averager = Averager(scenario, self._central)
        self.aggregation = self._averager.aggregation
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
        self._averager.summary()

    def restore(self, initial: ArrayRecord) -> ArrayRecord:
        """Return the global arrays to go on from, with all that the last round left.

        Args:
            initial: Those of a new run.
        """
        return self.recorder.restore(self.aggregation, initial)

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
        self.recorder.begin(number, arrays)
        nodes = [online[client] for client in self._asked]
        proximal_mu = self._averager.begin(number, arrays, config, grid, nodes)
        order = self._order(Sent(number, arrays), proximal_mu)
        return self._send(MessageType.TRAIN, order, nodes)

    def _order(self, sent: Sent, proximal_mu: float) -> TrainOrder:
        return TrainOrder(
            sent.arrays,
            sent.number,
            *self._of_run(),
            episodes=self.scenario.round_episodes(sent.number),
            proximal_mu=proximal_mu,
            previous=self.recorder.chain.previous_of(sent.number),
        )

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
        sent = Sent(number, self._global)
        accepted, dropped = self._sort_out(replies, partial(self._trained, number, sent))
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
                f"{some(dropped)}"
            )
        arrays, metrics = self._averager.average(number, accepted, self._global)
        averaged = self._averager.metrics(metrics, accepted)
        self._complete(number, arrays, accepted, dropped, {"metrics": averaged})
        account, privacy = self.recorder.account, self.scenario.federated.privacy
        if account:
            log.info("Privacy spent: %s", told(privacy, account.spent()))
        if self.evaluation and account and ends(privacy, account.spent()):
            self.evaluation.last = number
        return arrays, metrics

    def _complete(
        self,
        number: int,
        arrays: ArrayRecord,
        accepted: Mapping[int, TrainReply],
        dropped: Mapping[int, str],
        more: Mapping[str, Any],
    ) -> None:
        """Record a round, with more entries in its line."""
        summary = {
            "seconds": round(time.monotonic() - self._started, 3),
            "clients": list(accepted),
            "asked": list(self._asked),
            "dropped": {str(k): v for k, v in dropped.items()},
            **more,
        }
        by_client = {client_id: measured(reply.values) for client_id, reply in accepted.items()}
        self.recorder.complete(number, arrays, self.aggregation, summary, by_client)

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

    def _trained(self, number: int, sent: Sent, client_id: int, content: RecordDict) -> TrainReply:
        """Return a usable reply; its arrays take no memory until they are averaged.

        Args:
            number: The round that it is for.
            sent: What was sent.
            client_id: The client that was asked.
            content: What it answers.
        """
        reply = TrainReply.from_content(content, self._training_names)
        episodes, federated = self.scenario.round_episodes(sent.number), self.scenario.federated
        arrays = decoded(reply.arrays, sent.arrays, federated.compression)
        reply = replace(reply, arrays=arrays)
        limits = Limits(
            float(episodes),
            float(episodes * self.scenario.env.max_steps),
            federated.max_update_norm,
            federated.max_update_ratio,
            need_steps=federated.weighting == "env_steps",
        )
        self._norms[client_id] = validate_training(reply, client_id, sent.arrays, limits)
        key = self.registry.key_of(client_id)
        self.recorder.chain.take(client_id, reply, key, sent.number)
        return replace(reply, arrays=self.recorder.keep(number, client_id, reply.arrays))

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
                accepted[client_id] = usable(message, client_id, read)
            except InvalidMessageError as error:
                dropped[client_id] = str(error)
            else:
                del dropped[client_id]
        return dict(sorted(accepted.items())), dropped

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


def usable(message: Message, client_id: int, read: Callable[[int, RecordDict], Reply]) -> Reply:
    """Return what a client answers.

    Args:
        message: Its answer.
        client_id: The client.
        read: Returns a reply from its client and content, or raises `InvalidMessageError`.

    Raises:
        InvalidMessageError: If it is of no use, for whatever reason; the text is fit to be shown.
        OSError: Of this machine's disk, which is no fault of the client's.
    """
    if message.has_error():
        raise InvalidMessageError(brief(message.error.reason or ""))
    try:
        return read(client_id, message.content)
    except InvalidMessageError as error:
        raise InvalidMessageError(shown(str(error))) from error
    except OSError:
        raise
    except Exception as error:  # whatever else a reply may be, it must not end the run
        reason = f"it cannot be read: {type(error).__name__}: {error}"
        raise InvalidMessageError(shown(reason)) from error


def some(dropped: Mapping[int, str]) -> str:
    """Return the first few reasons, in one line."""
    told = [f"client {client_id}: {reason}" for client_id, reason in sorted(dropped.items())]
    rest = len(told) - MOST_TOLD
    return "; ".join(told[:MOST_TOLD]) + (f"; and {rest} more" if rest > 0 else "")
