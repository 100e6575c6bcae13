"""The messages between server and clients, each as a dataclass.

Only ``to_content`` and ``from_content`` know the keys of Flower's records. A message from the
other side is not trusted: ``from_content`` accepts exactly what its docstring says, so every one of
these dataclasses is complete, has the right types, and contains only finite numbers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Final, Self, get_type_hints

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from f110_fl.federation.versions import Versions

# Names of records, as Flower's strategies expect them.
ARRAYS: Final = "arrays"
CONFIG: Final = "config"
METRICS: Final = "metrics"

# Keys that Flower's strategies write or read, besides "server-round".
PROXIMAL_MU: Final = "proximal-mu"
WEIGHT: Final = "num-examples"

CLIENT_ID: Final = "client-id"

MAX_REASON: Final = 300  # characters kept of the reason why a client was dropped
_LONGEST: Final = 100_000  # characters looked at


class InvalidMessageError(ValueError):
    """A message is invalid; the text says why."""


def brief(reason: str) -> str:
    """Return the last line of an error from the other side, fit to be shown and kept.

    It may be a coloured traceback; Flower's clients answer with the error's class and message:
    ``<class '...'>:<'...'>``.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m|^<class '[\w.]+'>:<'|'>$", "", reason.strip()[-_LONGEST:])
    lines = [line.strip() for line in plain.splitlines() if line.strip(" >'\"")]
    return shown(lines[-1][-MAX_REASON:] if lines else "no reason given")


def shown(text: str) -> str:
    """Return a text with words from the other side, fit to be shown and kept.

    What would move a terminal's cursor, set its title, hide what is written or be taken for an
    event (`f110_fl.reporting.announce`) is escaped, and what is too long is cut.

    Returns:
        At most ``MAX_REASON`` printable characters.
    """
    start = text[: MAX_REASON + 1]
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in start)
    return plain if len(plain) <= MAX_REASON else plain[: MAX_REASON - 3] + "..."


@dataclass(frozen=True)
class Order:
    """The content of every order from the server to a client.

    Attributes:
        arrays: The averaged tensors.
        server_round: From 1; for an evaluation, the completed round.
        scenario: The run's resolved scenario as text.
        root: The run's directory on the server's machine.
        run: The run's unique name, for a client that keeps its state elsewhere.
    """

    arrays: ArrayRecord
    server_round: int
    scenario: str
    root: str
    run: str

    def to_content(self) -> RecordDict:
        """Return the message's records."""
        return RecordDict({ARRAYS: self.arrays, CONFIG: _settings_record(self)})

    @classmethod
    def from_content(cls, content: RecordDict) -> Self:
        """Read the records: arrays, and a config record with these keys and types.

        Raises:
            InvalidMessageError: If anything is missing, superfluous or of another type.
        """
        _check_records(content, ARRAYS, CONFIG)
        settings = _read_settings(content.config_records[CONFIG], cls)
        return cls(content.array_records[ARRAYS], **settings)


@dataclass(frozen=True)
class EvaluateOrder(Order):
    """Evaluate the averaged models in the client's environment, without learning."""


@dataclass(frozen=True)
class TrainOrder(Order):
    """Train a round from the averaged tensors.

    Attributes:
        episodes: Number of episodes.
        proximal_mu: Weight of FedProx's proximal term; 0: none.
        previous: The last link of the run's chain (`f110_fl.federation.chain`), to be signed.
    """

    episodes: int
    proximal_mu: float
    previous: str = ""


@dataclass(frozen=True)
class Evidence:
    """What a client says of its reply besides it.

    Attributes:
        state: SHA-256 of the state file that the round leaves in its directory.
        signature: Of `f110_fl.federation.chain.statement`; empty: it has no key.
    """

    state: str
    signature: bytes = b""


@dataclass(frozen=True)
class TrainReply:
    """A client's reply after a round.

    Attributes:
        arrays: Its tensors.
        metrics: Means and totals of the round's episodes, by name.
        client_id: The client.
        weight: Its weight in an average, which the server replaces.
        evidence: What it says of the reply; None: nothing.
    """

    arrays: ArrayRecord
    metrics: Mapping[str, float]
    client_id: int
    weight: float = 1.0
    evidence: Evidence | None = None

    @property
    def values(self) -> dict[str, float]:
        """All of its numbers, by their keys."""
        return {**self.metrics, CLIENT_ID: self.client_id, WEIGHT: self.weight}

    def to_content(self) -> RecordDict:
        """Return the message's records."""
        content = RecordDict({ARRAYS: self.arrays, METRICS: metric_record(self.values)})
        if self.evidence is not None:
            content[CONFIG] = _settings_record(self.evidence)
        return content

    @classmethod
    def from_content(cls, content: RecordDict, names: Collection[str]) -> Self:
        """Read the records: arrays, one number for each key, and evidence, if there is any.

        Args:
            content: The message's records.
            names: Names of the metrics.

        Raises:
            InvalidMessageError: If anything is missing, superfluous or not a finite number.
        """
        evidence = None
        if CONFIG in content:
            _check_records(content, ARRAYS, METRICS, CONFIG)
            evidence = Evidence(**_read_settings(content.config_records[CONFIG], Evidence))
            if not re.fullmatch(r"[0-9a-f]{64}", evidence.state):
                raise InvalidMessageError(f"state is {evidence.state!r:.100}, not a SHA-256")
        else:
            _check_records(content, ARRAYS, METRICS)
        values = _numbers(content.metric_records[METRICS], {*names, CLIENT_ID, WEIGHT})
        client_id, weight = values.pop(CLIENT_ID), values.pop(WEIGHT)
        if type(client_id) is not int:
            raise InvalidMessageError(f"metric {CLIENT_ID!r} is {client_id!r}")
        return cls(content.array_records[ARRAYS], values, client_id, weight, evidence)

    def weighted(self, arrays: ArrayRecord, weight: float) -> RecordDict:
        """Return the metrics and some arrays as records that Flower's strategies average."""
        metrics = metric_record({**self.metrics, WEIGHT: weight})
        return RecordDict({ARRAYS: arrays, METRICS: metrics})


@dataclass(frozen=True)
class EvaluateReply:
    """A client's metrics of an evaluation of the averaged models, by name."""

    metrics: Mapping[str, float]

    def to_content(self) -> RecordDict:
        """Return the message's records."""
        return RecordDict({METRICS: metric_record(self.metrics)})

    @classmethod
    def from_content(cls, content: RecordDict, names: Collection[str]) -> Self:
        """Read the records: one number for each of the names.

        Raises:
            InvalidMessageError: If anything is missing, superfluous or not a finite number.
        """
        _check_records(content, METRICS)
        return cls(_numbers(content.metric_records[METRICS], names))


@dataclass(frozen=True)
class Identity:
    """A client's reply to a query: its identity, which does not depend on its node's id.

    Attributes:
        client_id: Its number in the federation, from 0.
        num_clients: Number of clients of the federation for which it was started.
        project: See `f110_fl.federation.versions.Versions`; so are the next two.
    """

    client_id: int
    num_clients: int
    project: str = ""
    schema: str = ""
    flower: str = ""

    @property
    def versions(self) -> Versions:
        """What is installed where it runs."""
        return Versions(self.project, self.schema, self.flower)

    def to_content(self) -> RecordDict:
        """Return the message's records."""
        return RecordDict({CONFIG: _settings_record(self)})

    @classmethod
    def from_content(cls, content: RecordDict) -> Self:
        """Read the records: a config record with these keys, the first below the second.

        Raises:
            InvalidMessageError: For anything else.
        """
        _check_records(content, CONFIG)
        found = cls(**_read_settings(content.config_records[CONFIG], cls))
        if not 0 <= found.client_id < found.num_clients:
            raise InvalidMessageError(f"it is client {found.client_id} of {found.num_clients}")
        if len(found.project + found.schema + found.flower) > MAX_REASON:
            raise InvalidMessageError("its versions are longer than versions are")
        return found


def identity_query(versions: Versions) -> RecordDict:
    """Return the records of a query for a client's identity.

    Args:
        versions: What the run is of, so that a client that is left out knows why.
    """
    return RecordDict({CONFIG: _settings_record(versions)})


def asked_versions(content: RecordDict) -> Versions:
    """Return what a query for a client's identity says of the run.

    Raises:
        InvalidMessageError: For anything else.
    """
    _check_records(content, CONFIG)
    return Versions(**_read_settings(content.config_records[CONFIG], Versions))


def metric_record(values: Mapping[str, float]) -> MetricRecord:
    """Return numbers as Flower's record, in their order."""
    return MetricRecord({**values})


_Settings = Order | Evidence | Identity | Versions


@cache  # Python compiles the names of the types anew each time
def _settings(kind: type[_Settings]) -> Mapping[str, tuple[str, type]]:
    """Return key, in Flower's spelling, and type of each field in a config record."""
    types = get_type_hints(kind)
    names = [field.name for field in fields(kind) if field.name != ARRAYS]
    return {name: (name.replace("_", "-"), types[name]) for name in names}


def _settings_record(message: _Settings) -> ConfigRecord:
    settings = _settings(type(message))  # type: ignore[arg-type]  # mypy takes no class as hashable
    return ConfigRecord({key: getattr(message, name) for name, (key, _) in settings.items()})


def _check_records(content: RecordDict, *names: str) -> None:
    """Refuse a message with other records than these, or of other kinds."""
    kinds = {ARRAYS: ArrayRecord, CONFIG: ConfigRecord, METRICS: MetricRecord}
    found = {name: type(record) for name, record in content.items()}
    if found != {name: kinds[name] for name in names}:
        raise InvalidMessageError(f"its records are {sorted(found)}, not {sorted(names)}")


def _check_keys(record: Mapping[str, object], keys: Collection[str], what: str) -> None:
    differing = sorted(set(record).symmetric_difference(keys))
    if differing:
        raise InvalidMessageError(f"{what} {differing[0]!r} is missing or was not asked for")


def _read_settings(record: Mapping[str, object], kind: type[_Settings]) -> dict[str, Any]:
    """Return the values of a config record by field, after a check of their types."""
    settings = _settings(kind)  # type: ignore[arg-type]  # as above
    _check_keys(record, {key for key, _ in settings.values()}, "setting")
    for key, expected in settings.values():
        if type(record[key]) is not expected:
            raise InvalidMessageError(f"setting {key!r} is {record[key]!r:.100}")
    return {name: record[key] for name, (key, _) in settings.items()}


def _numbers(record: Mapping[str, Any], names: Collection[str]) -> dict[str, float]:
    """Return the values of a metric record, in its order, which must be finite numbers."""
    _check_keys(record, names, "metric")
    numbers: dict[str, float] = {}
    for name, value in record.items():
        # A bool is no number here, and an int may be too large for a float.
        if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
            raise InvalidMessageError(f"metric {name!r} is {value!r:.100}")
        numbers[name] = value
    return numbers
