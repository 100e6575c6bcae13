"""Settings from environment variables and the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError, did_you_mean
from f110_fl.files import find_file
from f110_fl.loading.fields import allowed, field_place, place_at, tag_of
from f110_fl.loading.overrides import (
    _CLIENTS,
    _WEIGHTING,
    _WEIGHTS,
    Override,
    SeedPlan,
    _fits,
    implied,
    set_overrides,
)
from sim.config import EnvConfig

_WANDB_MODES: Final = ("online", "offline", "disabled", "shared")


@dataclass(frozen=True)
class Setting:
    """A variable or flag, the scenario's key it sets, and how its text is read."""

    source: str
    path: tuple[str, ...]
    parse: Callable[[str], object] = str
    form: str = ""  # what its text looks like, where that is not what the key takes
    empty_ok: bool = False

    @property
    def allowed(self) -> str:
        """What its text may be, in words."""
        return self.form or allowed(place_at(Scenario, self.path))

    def override(self, text: str) -> Override:
        """Return the override that ``text`` asks for.

        Raises:
            UserError: If the text cannot be read or its value is out of range.
        """
        words = self.allowed
        if not text.strip() and not self.empty_ok:
            raise UserError(f"{self.source}={text!r}: is empty; allowed: {words}")
        try:
            value = self.parse(text)
        except ValueError as error:
            raise UserError(f"{self.source}={text!r}: {error}; allowed: {words}") from None
        if not _fits(self.path, value):
            reason = "an empty federation; " if self.path == _CLIENTS and value == 0 else ""
            hint = did_you_mean(text, place_at(Scenario, self.path).choices)
            raise UserError(f"{self.source}={text!r}: {reason}allowed: {words}{hint}")
        return Override(self.source, self.path, value, text, words)


def _whole(text: str) -> int:
    if not re.fullmatch(r"[-+]?[0-9]+", text.strip(), re.ASCII) or len(text) > 100:
        raise ValueError("not a whole number")
    return int(text)


def _decimal(text: str) -> float:
    pattern = r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"
    if not re.fullmatch(pattern, text.strip(), re.ASCII):
        raise ValueError(f"{text.strip()!r} is not a number")
    return float(text)


def _flag(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}
    if text.strip().lower() not in words:
        raise ValueError("neither 1, true, yes, on nor 0, false, no, off")
    return words[text.strip().lower()]


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ValueError("an empty name between commas")
    return names


def _weights(text: str) -> tuple[float, ...]:
    """Read ``0:2,1:1``, ids in any order, or ``2,1``."""
    entries = [entry.strip() for entry in text.split(",")]
    if not any(":" in entry for entry in entries):
        return tuple(_decimal(entry) for entry in entries)
    weights: dict[int, float] = {}
    for entry in entries:
        client, colon, weight = entry.partition(":")
        if not (colon and re.fullmatch(r"[0-9]{1,9}", client.strip(), re.ASCII)):
            raise ValueError(f"{entry!r} is not id:weight")
        if int(client) in weights:
            raise ValueError(f"client {int(client)} comes twice")
        weights[int(client)] = _decimal(weight)
    if sorted(weights) != list(range(len(weights))):
        raise ValueError(f"client ids are {sorted(weights)}, not 0 to clients - 1, each once")
    return tuple(weights[client] for client in sorted(weights))


def _literal(text: str) -> str:
    """Return the template that ``str.format`` turns into ``text`` itself."""
    return text.replace("{", "{{").replace("}", "}}")


VARIABLES: Final = (
    Setting("FED_TOTAL_CLIENTS", _CLIENTS, _whole),
    Setting("FED_ROOT", ("federated", "root")),
    Setting("FED_ROUND_INTERVAL", ("federated", "round_interval"), _whole),
    Setting("FED_CHECKPOINT_AFTER_SYNC", ("federated", "checkpoint_after_sync"), _flag),
    Setting("FED_OPTIMIZER_STRATEGY", ("federated", "optimizer_strategy")),
    Setting("FED_ENABLED", ("federated", "enabled"), _flag),
    Setting("FED_AGENTS", ("federated", "agents"), _names, "learners' names between commas"),
    Setting("FED_AVG_MODE", _WEIGHTING),
    Setting("FED_TIMEOUT", ("federated", "timeout"), _decimal),
    Setting("FED_WEIGHTS", _WEIGHTS, _weights, "numbers above 0, as id:weight,... or weight,..."),
    Setting("RUN_SEED", ("seed",), _whole),
    Setting("COLLECT_WORKERS", ("collect", "workers"), _whole),
    Setting("COLLECT_PREFETCH", ("collect", "prefetch"), _whole),
    Setting("COLLECT_SEED_STRIDE", ("collect", "seed_stride"), _whole),
    Setting("WANDB_RUN_GROUP", ("wandb", "group_template"), _literal),
    Setting("WANDB_NAME", ("wandb", "name_template"), _literal),
)

FLAGS: Final = (
    Setting("--repeat", _CLIENTS, _whole),
    Setting("--episodes", ("episodes",), _whole),
    Setting("--eval-episodes", ("evaluation", "episodes"), _whole),
    Setting("--collect-workers", ("collect", "workers"), _whole),
    Setting("--collect-prefetch", ("collect", "prefetch"), _whole),
    Setting("--collect-seed-stride", ("collect", "seed_stride"), _whole),
    Setting("--wandb-prefix", ("wandb", "prefix"), empty_ok=True),
    Setting("--wandb-group-template", ("wandb", "group_template")),
    Setting("--wandb-name-template", ("wandb", "name_template")),
)


def environment_overrides(environ: Mapping[str, str]) -> list[Override]:
    """Return the settings that environment variables bring.

    ``RUN_SEED`` replaces the scenario's ``seeds`` too. ``FED_WEIGHTS`` implies weighting by
    weights; ``FED_AVG_MODE`` other than ``weights`` drops the scenario's weights.
    ``WANDB_RUN_GROUP`` and ``WANDB_NAME`` are taken literally, without ``{...}`` filled in.
    ``WANDB_MODE`` is only checked: W&B reads it itself.

    Args:
        environ: The variables, such as ``os.environ``.

    Returns:
        The overrides, in the order of ``VARIABLES``.

    Raises:
        UserError: If a value cannot be used, two contradict each other, or the name of a
            ``FED_*`` variable is a near miss of a known one.
    """
    _check_names(environ)
    mode = environ.get("WANDB_MODE", "")
    if mode and mode not in _WANDB_MODES:
        hint = did_you_mean(mode, _WANDB_MODES)
        raise UserError(f"WANDB_MODE={mode!r}: allowed: {', '.join(_WANDB_MODES)}{hint}")
    overrides: list[Override] = []
    for setting in VARIABLES:
        text = environ.get(setting.source)
        if text is not None and (text or not setting.source.startswith("WANDB_")):
            overrides.append(setting.override(text))
    given = {override.path: override for override in overrides}
    if _WEIGHTS in given and _WEIGHTING in given and given[_WEIGHTING].value != "weights":
        raise UserError(
            f"{given[_WEIGHTS].name} contradicts {given[_WEIGHTING].name}; "
            "allowed with FED_WEIGHTS: FED_AVG_MODE=weights, or none"
        )
    return [*(other for o in overrides for other in implied(o)), *overrides]


def _check_names(environ: Mapping[str, str]) -> None:
    known = [*(setting.source for setting in VARIABLES), "FED_CLIENT_ID"]
    for name in sorted(environ):
        if name.startswith("FED_") and name not in known:
            hint = did_you_mean(name, known, cutoff=0.8)
            if hint:  # else it is somebody else's variable
                raise UserError(f"{name}={environ[name]!r}: unknown variable{hint}")


def client_id(environ: Mapping[str, str], total: int) -> int | None:
    """Return this learner's index from ``FED_CLIENT_ID``, None if it is not set.

    Args:
        environ: The variables, such as ``os.environ``.
        total: Number of clients, from the loaded scenario.

    Raises:
        UserError: If it is not a whole number from 0 to ``total - 1``.
    """
    text = environ.get("FED_CLIENT_ID")
    if text is None:
        return None
    try:
        index = _whole(text)
    except ValueError:
        index = -1
    if not 0 <= index < total:
        words = f"a whole number from 0 to {total - 1}, as there are {total} clients"
        raise UserError(f"FED_CLIENT_ID={text!r}: allowed: {words}")
    return index


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that :func:`command_line_overrides` reads, as plain texts."""
    for flag in FLAGS:
        words = f"sets {'.'.join(flag.path)}: {flag.allowed}"
        parser.add_argument(flag.source, metavar="VALUE", help=words.replace("%", "%%"))
    tracks = f"{', '.join(_ready_tracks())}, or a map's YAML or a centre line's CSV file"
    parser.add_argument("--map", metavar="NAME_OR_FILE", help=tracks)
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        help="settings by dotted key, values in YAML: learners.car_0.discount=0.98",
    )
    parser.add_argument("--auto-seed", action="store_true", help="seed every client by its index")
    parser.add_argument("--seed-base", metavar="N", help="client 0's seed; the scenario's")
    parser.add_argument("--seed-step", metavar="N", help="from one client's to the next's; 1")


def command_line_overrides(args: argparse.Namespace) -> list[Override]:
    """Return the settings that flags bring.

    Args:
        args: What a parser with :func:`add_arguments` returned; flags not given are None.

    Returns:
        The overrides; ``load_scenario`` counts out the seeds of ``--auto-seed``.

    Raises:
        UserError: If a value cannot be used.
    """
    overrides = []
    for flag in FLAGS:
        text = getattr(args, flag.source[2:].replace("-", "_"), None)
        if text is not None:
            overrides.append(flag.override(str(text)))
    if getattr(args, "map", None) is not None:
        overrides.append(_track(args.map))
    return overrides + _seed_plan(args)


def _ready_tracks() -> list[str]:
    """Return the kinds of track that need no further keys."""
    return [
        tag_of(model)[1]
        for model in field_place(EnvConfig, "track").models
        if not any(field.is_required() for field in model.model_fields.values())
    ]


def _track(text: str) -> Override:
    ready = _ready_tracks()
    words = f"{', '.join(ready)}, or a map's YAML or a centre line's CSV file"
    value = {"kind": text}
    if text not in ready:
        file = find_file(text, Path.cwd())
        if file is None:
            hint = did_you_mean(text, ready)
            raise UserError(f"--map={text!r}: no such track or file; allowed: {words}{hint}")
        value = {"kind": "centerline" if file.suffix == ".csv" else "map", "file": str(file)}
    return Override("--map", ("env", "track"), value, text, words)


def _seed_plan(args: argparse.Namespace) -> list[Override]:
    base, step = getattr(args, "seed_base", None), getattr(args, "seed_step", None)
    given = {"--seed-base": base, "--seed-step": step}
    texts = {flag: str(text) for flag, text in given.items() if text is not None}
    if not getattr(args, "auto_seed", False):
        for flag, text in texts.items():
            raise UserError(
                f"{flag}={text!r}: does nothing without --auto-seed; "
                "allowed: --auto-seed too, or RUN_SEED for one seed"
            )
        return []
    words = allowed(field_place(Scenario, "seed"))
    for flag, text in texts.items():
        Setting(flag, ("seed",), _whole).override(text)  # refuses what is no seed
    steps = 1 if step is None else int(step)
    if steps == 0:
        raise UserError(f"--seed-step={step!r}: allowed: a whole number from 1")
    plan = SeedPlan(None if base is None else int(base), steps)
    source = " ".join(["--auto-seed", *(f"{flag}={text}" for flag, text in texts.items())])
    return [Override(source, ("seeds",), plan, "", words)]


def outside_overrides(arguments: argparse.Namespace, environ: Mapping[str, str]) -> list[Override]:
    """Return the settings of variables and, winning over them, of flags.

    Raises:
        UserError: If a value cannot be used, or two flags contradict each other.
    """
    flags = command_line_overrides(arguments)
    return [
        *environment_overrides(environ),
        *flags,
        *set_overrides(arguments.set or (), flags),
    ]
