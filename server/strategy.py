"""A federated round: who is asked, what is believed, how it is averaged, what is recorded."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, cast

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from f110_fl import tensors
from f110_fl.config.scenario import Scenario
from f110_fl.federation import messages
from f110_fl.loading.scenarios import dump_scenario
from f110_fl.runs.directory import identity
from f110_fl.training.metrics import evaluation_names
from server.aggregation import make_rule, private
from server.grids import Chosen
from server.roster import Roster, sample, sample_size
from server.rounds import RoundRecorder
from server.validation import evaluation_fault, fault

if TYPE_CHECKING:  # the simulator is imported when it is needed
    from server.evaluation import GlobalEvaluation

log = logging.getLogger("flwr")

MAX_REASON = 300  # characters kept of why a client was dropped


class FederatedStrategy(Strategy):
    """Wraps one of Flower's aggregation rules for clients with stable identities.

    Replies are checked, then averaged in the order of the client ids (a rerun is
    bit-equal). The rule sees the networks only; optimizer moments, where they are sent, are
    averaged with the clients' weights.

    Args:
        scenario: The run's scenario.
        roster: The clients.
        recorder: Writes the rounds' files; knows the rounds that are already done.
        evaluation: Writes the evaluations' file; None if the global model is not evaluated.
    """

    def __init__(
        self,
        scenario: Scenario,
        roster: Roster,
        recorder: RoundRecorder,
        evaluation: GlobalEvaluation | None = None,
    ) -> None:
        self.scenario = scenario
        self.roster = roster
        self.recorder = recorder
        self.evaluation = evaluation
        self.rule = make_rule(scenario.federated.strategy)
        self._aggregator = private(self.rule, scenario.federated, sample_size(scenario))
        self._scenario_text = dump_scenario(scenario)
        self._asked: tuple[int, ...] = ()
        self._answered: tuple[int, ...] = ()
        self._messages: list[Message] = []
        self._global = ArrayRecord()
        self._started = 0.0

    def summary(self) -> None:
        """Log the rule's settings."""
        self._aggregator.summary()

    def true_round(self, server_round: int) -> int:
        """Return the round's number in the run; Flower counts from 1 after a resume, too."""
        return server_round + self.recorder.resumed_from

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask this round's clients to train its episodes from ``arrays``.

        Raises:
            RuntimeError: If fewer than ``min_clients`` clients are connected.
        """
        self._started = time.monotonic()
        self._global = arrays
        number = self.true_round(server_round)
        online = self.roster.online(grid)
        self._asked = tuple(sample(self.scenario, online, number))
        least = self.scenario.federated.min_clients
        if len(self._asked) < least:
            raise RuntimeError(
                f"round {number}: {len(self._asked)} clients are connected, {least} are needed"
            )
        self.recorder.begin(number)
        nodes = [online[client] for client in self._asked]
        self._order(config, number)
        config[messages.EPISODES] = self.scenario.round_episodes(number)
        # The rule may keep the arrays and add to the config; whom to ask is settled.
        networks, _ = _split(arrays)
        list(self._aggregator.configure_train(number, networks, config, Chosen(grid, nodes)))
        return self._send(MessageType.TRAIN, arrays, config, nodes)

    def _order(self, config: ConfigRecord, number: int) -> None:
        """Put into ``config`` what every order tells a client."""
        config[messages.ROUND] = number
        config[messages.SCENARIO] = self._scenario_text
        config[messages.ROOT] = str(self.recorder.rundir.root)
        config[messages.RUN] = identity(self.recorder.rundir)

    def _send(
        self, kind: str, arrays: ArrayRecord, config: ConfigRecord, nodes: Iterable[int]
    ) -> list[Message]:
        """Return the messages, in the order of the clients asked, and remember them."""
        content = RecordDict({messages.ARRAYS: arrays, messages.CONFIG: config})
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
        episodes = self.scenario.round_episodes(number)
        max_steps = float(episodes * self.scenario.env.max_steps)
        limit = self.scenario.federated.max_update_norm
        accepted, dropped = self._sort_out(
            replies,
            lambda content: fault(content, self._global, max_steps, limit),
            partial(self._keep, number),
        )
        self.recorder.written()
        self._answered = tuple(accepted)
        for client_id, reason in dropped.items():
            log.warning("Round %d goes on without client %d: %s", number, client_id, reason)
        least = self.scenario.federated.min_clients
        if len(accepted) < least:
            raise RuntimeError(
                f"round {number}: {len(accepted)} usable replies, {least} are needed: {dropped}"
            )
        by_client = {
            client_id: dict(reply.content.metric_records[messages.METRICS])
            for client_id, reply in accepted.items()
        }
        arrays, metrics = self._average(number, accepted)
        self.recorder.complete(
            number,
            arrays,
            self.rule,
            {
                "seconds": round(time.monotonic() - self._started, 3),
                "clients": list(accepted),
                "asked": list(self._asked),
                "dropped": {str(k): v for k, v in dropped.items()},
                "metrics": dict(metrics),
            },
            by_client,
        )
        return arrays, metrics

    def _average(
        self, number: int, accepted: Mapping[int, Message]
    ) -> tuple[ArrayRecord, MetricRecord]:
        """Apply the rule to the networks and a weighted mean to the moments."""
        moments: list[RecordDict] = []
        for client_id, reply in accepted.items():
            metrics = reply.content.metric_records[messages.METRICS]
            del metrics[messages.CLIENT_ID]
            metrics[messages.WEIGHT] = self._weight(client_id, metrics)
            networks, own = _split(reply.content.array_records[messages.ARRAYS])
            reply.content[messages.ARRAYS] = networks
            moments.append(RecordDict({messages.ARRAYS: own, messages.METRICS: metrics}))
        arrays, averaged = self._aggregator.aggregate_train(number, list(accepted.values()))
        if arrays is None or averaged is None:
            raise RuntimeError(f"round {number}: the replies are too few for the strategy")
        if len(next(iter(moments)).array_records[messages.ARRAYS]):
            arrays = ArrayRecord({**arrays, **aggregate_arrayrecords(moments, messages.WEIGHT)})
        return messages.cast_like(arrays, self._global), averaged

    def _keep(self, number: int, client_id: int, content: RecordDict) -> None:
        """Have a reply's arrays where they take no memory until they are averaged."""
        arrays = content.array_records[messages.ARRAYS]
        content[messages.ARRAYS] = self.recorder.keep(number, client_id, arrays)

    def _sort_out(
        self,
        replies: Iterable[Message],
        fault_of: Callable[[RecordDict], str | None],
        keep: Callable[[int, RecordDict], None] = lambda *_: None,
    ) -> tuple[dict[int, Message], dict[int, str]]:
        """Return usable replies and reasons against the rest, each by client id."""
        accepted: dict[int, Message] = {}
        dropped = dict.fromkeys(self._asked, "no answer in time")
        # Flower answers itself for a node that is gone, so the sender does not tell whose it is.
        client_of = dict(
            zip((m.metadata.message_id for m in self._messages), self._asked, strict=True)
        )
        for reply in replies:
            client_id = client_of[reply.metadata.reply_to_message_id]
            if reply.has_error():
                reason: str | None = _brief(reply.error.reason or "")
            else:
                reason = fault_of(reply.content)
            if reason is None:
                keep(client_id, reply.content)
                accepted[client_id] = reply
                del dropped[client_id]
            else:
                dropped[client_id] = reason
        return dict(sorted(accepted.items())), dropped

    def _weight(self, client_id: int, metrics: MetricRecord) -> float:
        weighting = self.scenario.federated.weighting
        if weighting == "env_steps":
            return float(metrics[messages.ENV_STEPS])  # type: ignore[arg-type]
        return 1.0 if weighting == "equal" else weighting[client_id]

    def evaluate_on_server(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Evaluate the global model here, if it is time; Flower's ``evaluate_fn``."""
        if self.evaluation is None:
            return None
        return self.evaluation.on_server(self.true_round(server_round), arrays)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the round's clients to evaluate ``arrays``, if it is time.

        One that did not answer may still be at work in its directory, and is left alone.
        """
        number = self.true_round(server_round)
        asked = self.scenario.federated.evaluated_on_clients
        if not asked or self.evaluation is None or not self.evaluation.due(number):
            return []
        online = self.roster.online(grid)
        self._asked = tuple(client for client in self._answered if client in online)
        self._order(config, number)
        nodes = [online[client] for client in self._asked]
        return self._send(MessageType.EVALUATE, arrays, config, nodes)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Average what clients found, each counting the same, and record it."""
        replies = list(replies)
        if self.evaluation is None or not replies:
            return None
        agents = self.scenario.federated_agents
        accepted, dropped = self._sort_out(replies, lambda c: evaluation_fault(c, agents))
        by_client = {
            client: cast("dict[str, float]", dict(reply.content.metric_records[messages.METRICS]))
            for client, reply in accepted.items()
        }
        averaged = {
            name: sum(own[name] for own in by_client.values()) / len(by_client)
            for name in (evaluation_names(agents) if by_client else ())
        }
        number = self.true_round(server_round)
        self.evaluation.on_clients(number, averaged, by_client, dropped)
        return MetricRecord(averaged) if averaged else None  # type: ignore[arg-type]


def _brief(reason: str) -> str:
    """Return the last line of what may be a coloured traceback; the whole of it is in the log."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", reason)
    lines = [line.strip() for line in plain.splitlines() if line.strip(" >'\"")]
    return lines[-1][-MAX_REASON:] if lines else "no reason given"


def _split(arrays: ArrayRecord) -> tuple[ArrayRecord, ArrayRecord]:
    """Return (networks, optimizer moments) of a record."""
    networks, moments = ArrayRecord(), ArrayRecord()
    for name, array in arrays.items():
        (moments if tensors.is_optimizer_tensor(name) else networks)[name] = array
    return networks, moments
