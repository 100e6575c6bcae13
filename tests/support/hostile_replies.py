"""Replies and identities as a hostile client may send them, each kind by a name.

A mutator changes the records of an honest reply in place; what it returns, if anything, replaces
them. It draws places and values from a generator, so that a kind stands for many replies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Final

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict

from f110_fl.federation.messages import ARRAYS, CLIENT_ID, CONFIG, METRICS, WEIGHT

Mutator = Callable[[np.random.Generator, RecordDict], RecordDict | Error | None]

NETWORKS: Final = ("car_0/model/actor/weights.0", "car_0/model/actor/biases.0")
NORMALISER: Final = "car_0/model/normaliser"
MOMENT: Final = "car_0/optimizer/actor/weights.0"

RETURN: Final = "train/car_0/return"
STEPS: Final = "train/env-steps"


def honest_arrays(rng: np.random.Generator, spread: float) -> dict[str, np.ndarray]:
    """Return a small learner's tensors, those of all clients near each other."""

    def near(value: float, shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(value + spread * rng.standard_normal(shape), np.float32)

    return {
        NETWORKS[0]: near(0.5, (4, 3)),
        NETWORKS[1]: near(0.0, (4,)),
        f"{NORMALISER}/mean": near(1.0, (3,)),
        f"{NORMALISER}/variance": near(2.0, (3,)) ** 2,
        f"{NORMALISER}/count": np.asarray(100.0 + (10.0 if spread else 0.0), np.float32),
        f"{MOMENT}/exp_avg": near(0.0, (4, 3)),
        f"{MOMENT}/exp_avg_sq": near(0.1, (4, 3)) ** 2,
        f"{MOMENT}/step": np.asarray(10.0, np.float32),
    }


def _set(content: RecordDict, name: str, value: Any) -> None:
    content.array_records[ARRAYS][name] = Array(np.asarray(value))


def _values(content: RecordDict, name: str) -> np.ndarray:
    return content.array_records[ARRAYS][name].numpy().copy()


def filled(name: str, *choices: float) -> Mutator:
    """Return a mutator that puts one of some values at one place of a tensor."""

    def mutate(rng: np.random.Generator, content: RecordDict) -> None:
        values = _values(content, name)
        values.reshape(-1)[rng.integers(values.size)] = rng.choice(choices)
        _set(content, name, values)

    return mutate


def said(name: str, *choices: Any) -> Mutator:
    """Return a mutator that says one of some values of a metric."""

    def mutate(rng: np.random.Generator, content: RecordDict) -> None:
        content.metric_records[METRICS][name] = choices[rng.integers(len(choices))]

    return mutate


def without_metric(name: str) -> Mutator:
    def mutate(rng: np.random.Generator, content: RecordDict) -> None:  # noqa: ARG001
        del content.metric_records[METRICS][name]

    return mutate


def recast(change: Callable[[np.ndarray], np.ndarray]) -> Mutator:
    """Return a mutator that changes type or shape of one of the networks."""

    def mutate(rng: np.random.Generator, content: RecordDict) -> None:
        name = str(rng.choice(NETWORKS))
        _set(content, name, change(_values(content, name)))

    return mutate


def data(make: Callable[[np.random.Generator, bytes], bytes]) -> Mutator:
    """Return a mutator that changes the bytes under a network's true header."""

    def mutate(rng: np.random.Generator, content: RecordDict) -> None:
        array = content.array_records[ARRAYS][NETWORKS[0]]
        array.data = make(rng, array.data)

    return mutate


def header(**changes: Any) -> Mutator:
    """Return a mutator that lies about a network's type or shape."""

    def mutate(rng: np.random.Generator, content: RecordDict) -> None:  # noqa: ARG001
        array = content.array_records[ARRAYS][NETWORKS[0]]
        for key, value in changes.items():
            setattr(array, key, value)

    return mutate


def records(change: Callable[[RecordDict], RecordDict]) -> Mutator:
    return lambda _, content: change(content)


def failed(*reasons: str) -> Mutator:
    return lambda rng, _: Error(0, str(rng.choice(reasons)))


def archive(*_: Any) -> bytes:
    """Return a zip of arrays, which NumPy reads as something else than an array."""
    file = BytesIO()
    np.savez(file, np.zeros((4, 3), np.float32))
    return file.getvalue()


def rename(rng: np.random.Generator, content: RecordDict) -> None:
    arrays = content.array_records[ARRAYS]
    name = str(rng.choice(NETWORKS))
    arrays[f"{name}\x1b[2J" + "x" * int(rng.integers(5000))] = arrays.pop(name)


def scaled(rng: np.random.Generator, content: RecordDict) -> None:
    """Finite, below any absolute bound, and far longer than the others' updates."""
    for name in NETWORKS:
        _set(content, name, np.float32(rng.uniform(1e3, 1e4)) * _values(content, name))


def stale_moments(rng: np.random.Generator, content: RecordDict) -> None:
    name = f"{MOMENT}/exp_avg_sq"
    _set(content, name, np.float32(rng.uniform(1e5, 1e9)) * (_values(content, name) + 1))


MARKED = '\x02f110-fl-event key {"event": "failed", "message": "owned"}'
HUGE = tuple(float(v) for v in (1.7e308, -1.7e308, 1e300, -1e13))

REPLIES: Final[Mapping[str, Mutator]] = {
    "nan": filled(NETWORKS[0], np.nan),
    "infinite": filled(NETWORKS[1], np.inf, -np.inf),
    "largest": filled(NETWORKS[0], 3e38, -3e38, 1e30),
    "large": filled(NETWORKS[1], 2e6, -1e7),
    "scaled": scaled,
    "mean": filled(f"{NORMALISER}/mean", 1e30, -2e6),
    "variance-negative": filled(f"{NORMALISER}/variance", -1.0, -1e-3),
    "variance-large": filled(f"{NORMALISER}/variance", 3e38, 1e11),
    "count-large": filled(f"{NORMALISER}/count", 1e30, 1e12),
    "count-negative": filled(f"{NORMALISER}/count", -1.0, -1e30),
    "moment-large": filled(f"{MOMENT}/exp_avg", 1e30, -1e38),
    "moment-longer": filled(f"{MOMENT}/exp_avg", 1e5, -1e5),
    "second-moment-negative": filled(f"{MOMENT}/exp_avg_sq", -1e-3, -1e38),
    "second-moment-large": stale_moments,
    "step-negative": filled(f"{MOMENT}/step", -1.0, -1e30),
    "step-large": filled(f"{MOMENT}/step", 1e30, 1e10),
    "double": recast(lambda a: a.astype(np.float64)),
    "integers": recast(lambda a: a.astype(np.int32)),
    "complex": recast(lambda a: a.astype(np.complex64)),
    "text": recast(lambda a: a.astype("U8")),
    "other-byte-order": recast(lambda a: a.astype(">f4")),
    "other-shape": recast(lambda a: a.reshape(-1, 1, 1)),
    "scalar": recast(lambda a: a.reshape(-1)[0]),
    "empty-array": recast(lambda a: a.reshape(-1)[:0]),
    "cut": data(lambda rng, d: d[: int(rng.integers(len(d) - 1))]),
    "noise": data(lambda rng, _: rng.bytes(200)),
    "archive": data(archive),
    "source": data(lambda _, d: d.replace(b"False", b"open(")),
    "no-bytes": data(lambda _, __: b""),
    "long-type": header(dtype="\x1b]0;owned\x07" + "x" * 100_000),
    "long-shape": header(shape=tuple(range(10_000))),
    "negative-shape": header(shape=(-4, -3)),
    "renamed": rename,
    "missing-array": records(
        lambda c: RecordDict({ARRAYS: ArrayRecord({}), METRICS: c[METRICS]}),
    ),
    "no-arrays": records(lambda c: RecordDict({METRICS: c[METRICS]})),
    "no-metrics": records(lambda c: RecordDict({ARRAYS: c[ARRAYS]})),
    "empty-metrics": records(lambda c: RecordDict({ARRAYS: c[ARRAYS], METRICS: MetricRecord()})),
    "no-records": records(lambda _: RecordDict()),
    "other-kinds": records(lambda c: RecordDict({ARRAYS: c[METRICS], METRICS: c[ARRAYS]})),
    "extra-record": records(lambda c: RecordDict({**c, CONFIG: ConfigRecord({"a": 1})})),
    "extra-metric": said("train/car_0/extra\x1b[2J", 1.0),
    "no-client-id": without_metric(CLIENT_ID),
    "no-return": without_metric(RETURN),
    "other-client": said(CLIENT_ID, 0, 1, -1, 2**62),
    "client-id-float": said(CLIENT_ID, 0.5, 1e300),
    "client-id-list": said(CLIENT_ID, [3], []),
    "weight-negative": said(WEIGHT, -1.0, 0.0, -1e300),
    "weight-large": said(WEIGHT, 1e300, 1e9),
    "weight-nan": said(WEIGHT, float("nan"), float("inf")),
    "rate": said("train/car_0/success-rate", 7.0, -1e300, 1.0000001),
    "return-large": said(RETURN, *HUGE),
    "return-nan": said(RETURN, float("nan"), float("-inf")),
    "return-list": said(RETURN, [1.0, 2.0], []),
    "steps-large": said(STEPS, 1e300, 1e9),
    "steps-negative": said(STEPS, -1.0),
    "steps-broken": said(STEPS, 0.5, 1e-300),
    "episodes-large": said("train/episodes", 1e6, 2.0),
    "updates-negative": said("train/car_0/updates", -1.0),
    "seconds-negative": said("train/seconds", -1e9),
    "error": failed("", MARKED, "a\nb\r\x1b[2J" + "x" * 1_000_000, "\U000e0001" * 400, "╭╰"),
}


def _identity(**values: Any) -> Mutator:
    return lambda _, __: RecordDict({CONFIG: ConfigRecord(values)})


IDENTITIES: Final[Mapping[str, Mutator]] = {
    "other-total": _identity(**{"client-id": 1, "num-clients": 9}),
    "largest-total": _identity(**{"client-id": 2**40, "num-clients": 2**62}),
    "negative": _identity(**{"client-id": -3, "num-clients": 3}),
    "beyond": _identity(**{"client-id": 3, "num-clients": 3}),
    "text": _identity(**{"client-id": "0", "num-clients": 3}),
    "bool": _identity(**{"client-id": True, "num-clients": 3}),
    "list": _identity(**{"client-id": [0], "num-clients": 3}),
    "bytes": _identity(**{"client-id": b"\x1b[2J" * 10_000, "num-clients": 3}),
    "no-total": _identity(**{"client-id": 0}),
    "extra": _identity(**{"client-id": 0, "num-clients": 3, "\x1b[2J" * 9000: 1}),
    "empty": _identity(),
    "no-config": records(lambda _: RecordDict()),
    "other-kind": records(lambda _: RecordDict({CONFIG: MetricRecord({"client-id": 0})})),
    "error": failed("", MARKED, "x" * 1_000_000, "\x1b]0;owned\x07"),
}
