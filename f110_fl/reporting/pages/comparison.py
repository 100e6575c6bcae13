"""Several runs beside each other: groups that differ in the seed only, bands, differences."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from f110_fl.config.scenario import Scenario
from f110_fl.evaluation.statistics import bootstrap, judge, paired_difference
from f110_fl.reporting.pages.curves import numbers

Float = NDArray[np.float64]
Run = Mapping[str, Any]  # a run as the report has it

POINTS: Final = 60  # of a band
AXES: Final = ("episodes", "steps", "seconds")
_SEED: Final = 20221  # of the bootstrap's samples, so that a report is the same each time
_IGNORED: Final = ("seed", "federated.root", "wandb", "name")  # do not make another experiment


def settings_of(scenario: Scenario) -> dict[str, Any]:
    """Return a scenario's settings by dotted key, lists as a whole."""
    return dict(_flat(scenario.model_dump(mode="json"), ""))


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{key}[{index}]")
    else:
        yield key, value


def settings_table(scenarios: Sequence[Scenario]) -> list[dict[str, Any]]:
    """Return the settings that differ from the defaults or between runs, as texts for JSON.

    Args:
        scenarios: The runs'. Defaults are those of the first one's own algorithms, drivers and
            tasks: settings that only other kinds have, have no default.
    """
    settings = [settings_of(scenario) for scenario in scenarios]
    defaults = _defaults(scenarios[0])
    rows = []
    for key in dict.fromkeys(key for own in settings for key in own):
        values = [own.get(key, _ABSENT) for own in settings]
        default = defaults.get(key, _ABSENT)
        if all(value == default for value in values) or key.startswith(
            ("federated.root", "wandb.")
        ):
            continue
        rows.append({"key": key, "default": _text(default), "values": [_text(v) for v in values]})
    return rows


_ABSENT: Final = object()


def _text(value: Any) -> str | None:
    if value is _ABSENT:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _defaults(scenario: Scenario) -> dict[str, Any]:
    """The settings of a scenario in which nothing is set but what selects a kind."""
    found: dict[str, Any] = {}
    _collect_defaults(scenario, "", found)
    return found


def _collect_defaults(model: Any, key: str, found: dict[str, Any]) -> None:
    """Add the default of each field of a model and of the models in it."""
    for name, field in type(model).model_fields.items():
        path = f"{key}.{name}" if key else name
        value = getattr(model, name)
        if hasattr(type(value), "model_fields"):
            _collect_defaults(value, path, found)
        elif isinstance(value, dict) and any(
            hasattr(type(v), "model_fields") for v in value.values()
        ):
            for inner, part in value.items():
                _collect_defaults(part, f"{path}.{inner}", found)
        elif isinstance(value, tuple) and any(hasattr(type(v), "model_fields") for v in value):
            for index, part in enumerate(value):
                _collect_defaults(part, f"{path}[{index}]", found)
        elif not field.is_required():
            default = field.get_default(call_default_factory=True)
            dumped = type(model).__pydantic_serializer__.to_python(
                model.model_copy(update={name: default}), mode="json", include={name}
            )
            found |= dict(_flat(dumped[name], path))


def groups_of(runs: Sequence[Run], scenarios: Sequence[Scenario]) -> list[dict[str, Any]]:
    """Return the groups of runs with equal settings but for the seed, in order of appearance.

    A group is named by the settings that tell it from the others.
    """
    settings = [
        {k: v for k, v in settings_of(s).items() if not k.startswith(_IGNORED)} for s in scenarios
    ]
    names = [f"{scenario.name}" for scenario in scenarios]
    keys: dict[str, list[int]] = {}
    for index, own in enumerate(settings):
        key = json.dumps([names[index], own], sort_keys=True)
        keys.setdefault(key, []).append(index)
    firsts = [indices[0] for indices in keys.values()]
    differing = [
        key
        for key in dict.fromkeys(key for first in firsts for key in settings[first])
        if len({json.dumps(settings[first].get(key)) for first in firsts}) > 1
    ]
    groups = []
    for indices in keys.values():
        own = settings[indices[0]]
        said = [f"{k.rsplit('.', 1)[-1]}={_text(own[k])}" for k in differing if k in own]
        several = len(set(names)) > 1
        name = ", ".join([*([names[indices[0]]] if several or not said else []), *said[:3]])
        groups.append(
            {"name": name, "runs": indices, "seeds": [int(runs[k]["seed"]) for k in indices]}
        )
    return groups


@dataclass(frozen=True)
class Series:
    """A run's values of a metric, over each of the axes."""

    axes: Mapping[str, Float]  # (K,)
    values: Float  # (K,)


def series_of(run: Run, metric: str, of: str, agent: str) -> Series | None:
    """Return a run's curve of a metric; None if it has none.

    Args:
        run: As the report has it.
        metric: ``success``, ``return`` or ``lap``.
        of: ``global``: evaluations of the global model, on the server where there are such;
            ``evaluation``: the clients' own, averaged; ``training``: training episodes.
        agent: The learning car.
    """
    if of == "global":
        return _of_globals(run, metric, agent)
    curves = run["training"] if of == "training" else run["evaluations"]["clients"]
    if of == "training" and len(curves) > 1:
        curves = [curve for curve in curves if curve["client"] is None] or curves[:1]
    found = [curve for curve in (_of_curve(c, metric, agent) for c in curves) if curve is not None]
    if not found:
        return None
    if len(found) == 1:
        return found[0]
    least = min(len(each.values) for each in found)  # clients evaluate at the same episodes
    return Series(
        {a: np.mean([each.axes[a][:least] for each in found], axis=0) for a in AXES},
        np.mean([each.values[:least] for each in found], axis=0),
    )


def _of_curve(curve: Mapping[str, Any], metric: str, agent: str) -> Series | None:
    own = curve["agents"].get(agent)
    if own is None:
        return None
    values = own.get(metric)
    if metric == "success" and values is None:
        values = own["outcomes"].get("success", [0.0] * len(curve["episodes"]))
    return _series({axis: curve[axis] for axis in AXES}, values)


def _of_globals(run: Run, metric: str, agent: str) -> Series | None:
    found = [e for e in run["globals"] if agent in e["agents"]]
    server = [e for e in found if e["on"] == "server"]
    found = server or found
    values = [e["agents"][agent].get(metric) for e in found]
    return _series({axis: [e[axis] for e in found] for axis in AXES}, values)


def _series(axes: Mapping[str, Sequence[Any]], values: Sequence[Any]) -> Series | None:
    table = np.array([*(axes[a] for a in AXES), values], np.float64)
    table = table[:, np.isfinite(table).all(axis=0)]
    if not table.shape[1]:
        return None
    return Series(dict(zip(AXES, table, strict=False)), table[-1])


def bands_of(runs: Sequence[Run], groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the interquartile mean over each group's runs, with its bootstrap interval.

    Runs are compared at the same numbers of an axis: from where all of a group have a value to
    the end of the shortest, linear in between. A group is one task, hence one stratum.
    """
    bands = []
    agents = list(dict.fromkeys(agent for run in runs for agent in run["agents"]))
    kinds = [
        (m, of, a) for of in ("global", "evaluation", "training") for m in METRICS for a in agents
    ]
    for index, group in enumerate(groups):
        for metric, of, agent in kinds:
            series = [series_of(runs[k], metric, of, agent) for k in group["runs"]]
            known = [each for each in series if each is not None and len(each.values) > 1]
            if not known:
                continue
            for axis in AXES:
                band = _band(known, axis)
                if band is not None:
                    what = {"group": index, "metric": metric, "of": of, "agent": agent}
                    bands.append({**what, "axis": axis, **band})
    return bands


METRICS: Final = ("success", "return", "lap")


def _band(series: Sequence[Series], axis: str) -> dict[str, Any] | None:
    first = max(each.axes[axis][0] for each in series)
    last = min(each.axes[axis][-1] for each in series)
    if last <= first:
        return None
    x = np.linspace(first, last, POINTS)
    values = np.array([np.interp(x, each.axes[axis], each.values) for each in series])
    strata = np.zeros(len(series), np.int64)
    found = bootstrap(values, np.random.default_rng(_SEED), strata)
    return {
        "x": numbers(x),
        "iqm": numbers(found.value),
        "low": numbers(found.low),
        "high": numbers(found.high),
    }


def _last(run: Run, metric: str, of: str) -> float:
    found = [series_of(run, metric, of, agent) for agent in run["agents"]]
    values = [each.values[-1] for each in found if each is not None]
    return float(np.mean(values)) if values else np.nan


def _judged(run: Run) -> str:
    """What a run's success is read off: its global model, its clients' models, or training."""
    return next(
        (of for of in ("global", "evaluation") if not np.isnan(_last(run, "return", of))),
        "training",
    )


_SCORES: Final[tuple[tuple[str, str, str, Callable[[Run], float]], ...]] = (
    ("success", "Success, last evaluation", "share", lambda r: _last(r, "success", _judged(r))),
    ("return", "Return, last evaluation", "number", lambda r: _last(r, "return", _judged(r))),
    ("lap", "Lap time, s", "seconds", lambda r: _last(r, "lap", _judged(r))),
    ("steps", "Steps", "count", lambda r: float(r["steps"] or np.nan)),
    ("seconds", "Wall-clock, s", "seconds", lambda r: float(r["seconds"] or np.nan)),
)
COMPARED: Final = ("success", "return", "lap")


def table_of(runs: Sequence[Run], groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the groups' last values with intervals, and differences paired by seed."""
    scores = {key: np.array([of(run) for run in runs]) for key, _, _, of in _SCORES}
    shown = [entry for entry in _SCORES if np.isfinite(scores[entry[0]]).any()]
    rows = []
    for index, group in enumerate(groups):
        cells: dict[str, Any] = {}
        for key, *_ in shown:
            values = scores[key][group["runs"]]
            values = values[np.isfinite(values)]
            cells[key] = _cell(values) if len(values) else None
        rows.append({"group": index, "cells": cells})
    pairs = [
        pair
        for a, b in combinations(range(len(groups)), 2)
        for key in COMPARED
        if (pair := _pair(groups, b, a, key, scores[key])) is not None
    ]
    columns = [{"key": key, "title": title, "form": form} for key, title, form, _ in shown]
    return {"columns": columns, "rows": rows, "pairs": pairs}


def _cell(values: Float) -> dict[str, Any]:
    found = bootstrap(values, np.random.default_rng(_SEED), np.zeros(len(values), np.int64))
    value, low, high = numbers([float(found.value), float(found.low), float(found.high)])
    return {"value": value, "low": low, "high": high}


def _pair(
    groups: Sequence[Mapping[str, Any]], ours: int, theirs: int, key: str, scores: Float
) -> dict[str, Any] | None:
    sign = -1.0 if key == "lap" else 1.0  # less is better
    left, right = (
        {seed: sign * value for seed, value in own if np.isfinite(value)}
        for own in (
            zip(groups[g]["seeds"], scores[groups[g]["runs"]], strict=True) for g in (ours, theirs)
        )
    )
    seeds = left.keys() & right.keys()
    if not seeds:
        return None
    found = paired_difference(left, right)
    low, high = sorted((sign * float(found.low), sign * float(found.high)))
    difference, low_, high_ = numbers([sign * float(found.value), low, high])
    return {
        "group": ours,
        "other": theirs,
        "key": key,
        "difference": difference,
        "low": low_,
        "high": high_,
        "seeds": len(seeds),
        "verdict": judge(float(found.low), float(found.high)),
    }
