"""Settings from outside a scenario: variables, flags and Flower's run config, in one table.

The command line wins over the environment, the environment over the scenario, the
scenario over the defaults. A value that cannot be used is never ignored: it raises a
``UserError`` that names the variable or flag, the value and what is allowed. So does an
empty value, except in ``WANDB_*`` variables, where it means unset, as in W&B itself, and
for ``--wandb-prefix``; and so does a setting that does not go with what run.py is to do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError

from f110_fl.config.keys import KeyPath, parse_key
from f110_fl.config.scenario import Scenario
from f110_fl.errors import UserError, did_you_mean
from f110_fl.loading import texts
from f110_fl.loading.fields import Field, allowed, field_at
from f110_fl.loading.overrides import Override, refuse_contradictions, set_overrides


class Mode(Enum):
    """What run.py is to do, and how it refuses a setting that does not go with that."""

    TRAIN = "not in training; leave it out"
    EVALUATE = "not with --mode eval; leave it out"
    GRID = "not with a grid; leave it out"
    SUPERLINK = "not with --superlink; leave it out"
    RESUME = "cannot change in a resumed run; leave it out"
    RESUME_GRID = "cannot change in a resumed grid; leave it out"
    RESUME_SUPERLINK = "cannot change in a resumed run on a SuperLink; leave it out"


NEW: Final = frozenset({Mode.TRAIN, Mode.EVALUATE, Mode.GRID, Mode.SUPERLINK})
RESUMED: Final = frozenset({Mode.RESUME, Mode.RESUME_GRID, Mode.RESUME_SUPERLINK})
HERE: Final = frozenset({Mode.TRAIN, Mode.GRID, Mode.RESUME, Mode.RESUME_GRID})
LINKED: Final = frozenset({Mode.SUPERLINK, Mode.RESUME_SUPERLINK})


@dataclass(frozen=True)
class Setting:
    """A setting from outside: its spellings, what it sets, and what it goes with."""

    key: str = ""  # the scenario's that it sets, dotted; "": run.py itself asks for it
    variable: str = ""
    flag: str = ""
    run_config: str = ""  # key in [tool.flwr.app.config] of pyproject.toml
    modes: frozenset[Mode] = NEW
    read: Callable[[str], object] | None = None  # None: as the key's type is written
    form: str = ""  # what its text looks like, where that is not what the key takes
    empty_ok: bool = False
    about: str = ""  # for --help, where there is no key whose description says it
    needs: str = ""  # without which it means nothing
    options: Mapping[str, Any] = field(default_factory=dict)  # of argparse

    @property
    def path(self) -> KeyPath:
        """The keys that lead to what it sets."""
        return parse_key(self.key) or ()

    @property
    def target(self) -> Field:
        """What the models say of what it sets."""
        return field_at(Scenario, self.path)

    def override(self, text: str, source: str) -> Override:
        """Return the override that a text asks for.

        Args:
            text: What the user wrote.
            source: Where, as messages call it: one of the setting's spellings.

        Raises:
            UserError: If the text cannot be read or its value is out of range.
        """
        words = self.form or allowed(self.target.first)
        if not text.strip() and not self.empty_ok:
            raise UserError(f"{source}={text!r}: is empty; allowed: {words}")
        read = self.read or texts.READERS.get(self.target.first.annotation, str)
        try:
            value = read(text)
        except ValueError as error:
            raise UserError(f"{source}={text!r}: {error}; allowed: {words}") from None
        if not (callable(value) or _fits(self.target, value)):
            hint = did_you_mean(text, self.target.choices)
            raise UserError(f"{source}={text!r}: allowed: {words}{hint}")
        return Override(source, self.path, value, text, words)


def _fits(target: Field, value: object) -> bool:
    """Return whether the one field takes ``value``, whatever its neighbours are."""
    kind: Any = target.annotation
    for constraint in target.constraints:
        kind = Annotated[kind, constraint]
    try:
        TypeAdapter(kind, config=ConfigDict(allow_inf_nan=False)).validate_python(
            value, strict=True
        )
    except ValidationError:
        return False
    return True


WEIGHTING: Final = "federated.weighting"
EXTENDABLE: Final = NEW | {Mode.RESUME, Mode.RESUME_SUPERLINK}
WANDB_MODES: Final = ("online", "offline", "disabled", "shared")

# fmt: off
SETTINGS: Final = (
    # What run.py is to do.
    Setting(flag="--scenario", about="scenario, YAML",
            modes=frozenset({Mode.TRAIN, Mode.EVALUATE, Mode.SUPERLINK}),
            options={"metavar": "FILE"}),
    Setting(flag="--grid", about="many runs, YAML: base, matrix, runs",
            modes=frozenset({Mode.GRID}), options={"metavar": "FILE"}),
    Setting(flag="--resume",
            about="go on with a run, exactly; --episodes may extend it; or with a grid",
            modes=RESUMED, options={"metavar": "RUN_DIR"}),
    Setting(flag="--mode",
            about="learn, or run evaluation.episodes greedily and report (default: train)",
            modes=frozenset({Mode.EVALUATE}),
            options={"choices": ("train", "eval"), "default": "train"}),
    Setting(flag="--checkpoint",
            about="models to evaluate: best, state or global.safetensors",
            modes=frozenset({Mode.EVALUATE}), needs="--mode eval", options={"metavar": "FILE"}),
    Setting(flag="--max-parallel",
            about="clients, replicas or runs of a grid at a time (default: cores)",
            modes=HERE, options={"metavar": "N"}),
    Setting(flag="--engine",
            about="clients in one simulation, or a process each with TLS and keys "
                  "(default: simulation)",
            modes=HERE,
            options={"choices": ("simulation", "deployment"), "default": "simulation"}),
    Setting(flag="--superlink",
            about="run on the clients that are connected to this SuperLink; files are left there",
            modes=LINKED, options={"metavar": "HOST:PORT"}),
    Setting(flag="--root-certificates", about="the SuperLink's authority, PEM",
            modes=LINKED, needs="--superlink HOST:PORT", options={"metavar": "FILE"}),
    Setting(flag="--insecure", about="plain text to the SuperLink; loopback only",
            modes=LINKED, needs="--superlink HOST:PORT", options={"action": "store_true"}),
    Setting(variable="FED_CLIENT_ID", modes=frozenset({Mode.TRAIN})),
    Setting(variable="WANDB_MODE", modes=NEW | RESUMED, options={"choices": WANDB_MODES}),
    # What the scenario says: key, variable, flag, key of the run config.
    Setting("federated.clients", "FED_TOTAL_CLIENTS", "--repeat", read=texts.clients),
    Setting("episodes", "", "--episodes", "episodes", modes=EXTENDABLE),
    Setting("evaluation.episodes", "", "--eval-episodes", "eval-episodes"),
    Setting("env.track", "", "--map", read=texts.track, form=texts.TRACKS),
    Setting("seed", "RUN_SEED", "", "seed"),
    Setting("federated.enabled", "FED_ENABLED"),
    Setting("federated.root", "FED_ROOT", "", "fed-root"),
    Setting("federated.round_interval", "FED_ROUND_INTERVAL", "", "round-interval"),
    Setting("federated.optimizer_strategy", "FED_OPTIMIZER_STRATEGY", "", "optimizer-strategy"),
    Setting("federated.checkpoint_after_sync", "FED_CHECKPOINT_AFTER_SYNC", "",
            "checkpoint-after-sync"),
    Setting("federated.timeout", "FED_TIMEOUT", "", "timeout"),
    Setting("federated.agents", "FED_AGENTS", "", "agents",
            read=texts.names, form="learners' names between commas"),
    Setting(WEIGHTING, "FED_AVG_MODE", "", "weighting",
            read=texts.weighting,
            form="equal, env_steps, or weights, which FED_WEIGHTS or the scenario lists"),
    Setting(WEIGHTING, "FED_WEIGHTS", "", "weights",
            read=texts.weights, form="numbers above 0, as id:weight,... or weight,..."),
    Setting("collect.num_envs", "COLLECT_WORKERS", "--collect-workers"),
    Setting("collect.prefetch", "COLLECT_PREFETCH", "--collect-prefetch"),
    Setting("collect.seed_stride", "COLLECT_SEED_STRIDE", "--collect-seed-stride"),
    Setting("wandb.group_template", "WANDB_RUN_GROUP", read=texts.literal),
    Setting("wandb.name_template", "WANDB_NAME", read=texts.literal),
    Setting("wandb.group_template", "", "--wandb-group-template"),
    Setting("wandb.name_template", "", "--wandb-name-template"),
    Setting("wandb.prefix", "", "--wandb-prefix", "wandb-prefix", empty_ok=True),
    # Over all of the above.
    Setting(flag="--set", about="settings by dotted key, values in YAML: "
                                "learners.car_0.discount=0.98",
            options={"metavar": "KEY=VALUE", "nargs": "+", "action": "extend"}),
    Setting("seed", "", "--auto-seed", read=texts.counted_seeds, empty_ok=True,
            about="seed every client by its index", options={"action": "store_true"}),
    Setting("seed.base", "", "--seed-base", needs="--auto-seed"),
    Setting("seed.step", "", "--seed-step", needs="--auto-seed"),
)
# fmt: on

VARIABLES: Final = tuple(s.variable for s in SETTINGS if s.variable and s.key)  # of scenarios


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all flags of the table, as plain texts."""
    for setting in SETTINGS:
        if setting.flag:
            options = dict(setting.options)
            if setting.key and not options:
                options["metavar"] = "N" if setting.target.first.annotation is int else "VALUE"
            words = setting.about or f"{_uncapitalised(setting.target.about)} ({setting.key})"
            words += f": {setting.form}" if setting.form else ""
            parser.add_argument(setting.flag, help=words.replace("%", "%%"), **options)


def _uncapitalised(text: str) -> str:
    """Return a phrase as it is inside a sentence; names such as W&B stay as they are."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def outside_overrides(
    arguments: argparse.Namespace, environ: Mapping[str, str], *, of_grid: bool = False
) -> list[Override]:
    """Return the settings of variables and, winning over them, of flags.

    Args:
        arguments: What a parser with :func:`add_arguments` returned.
        environ: The variables, such as ``os.environ``.
        of_grid: Whether what is resumed is a grid.

    Raises:
        UserError: If a value cannot be used, two contradict each other, or one does not go with
            what run.py is to do.
    """
    refuse_misplaced(arguments, environ, of_grid=of_grid)
    return [*environment_overrides(environ), *command_line_overrides(arguments)]


def refuse_misplaced(
    arguments: argparse.Namespace, environ: Mapping[str, str], *, of_grid: bool = False
) -> None:
    """Refuse what does not go with what run.py is to do; see :func:`outside_overrides`."""
    mode = _mode(arguments, of_grid=of_grid)
    for setting in SETTINGS:
        if mode not in setting.modes:
            for name in _given(setting, arguments, environ):
                reason = f"needs {setting.needs}" if setting.needs else mode.value
                raise UserError(f"{name}: {reason}")


def _mode(arguments: argparse.Namespace, *, of_grid: bool) -> Mode:
    resumed = getattr(arguments, "resume", None) is not None
    if getattr(arguments, "superlink", None) is not None:
        return Mode.RESUME_SUPERLINK if resumed else Mode.SUPERLINK
    if getattr(arguments, "grid", None) is not None:
        return Mode.GRID
    if resumed:
        return Mode.RESUME_GRID if of_grid else Mode.RESUME
    return Mode.EVALUATE if getattr(arguments, "mode", None) == "eval" else Mode.TRAIN


def _given(
    setting: Setting, arguments: argparse.Namespace, environ: Mapping[str, str]
) -> Iterator[str]:
    """Yield the spellings that the user gave a setting in, with their values."""
    value = _value(setting, arguments)
    if value not in (None, False, setting.options.get("default")):
        yield setting.flag if value is True else f"{setting.flag}={_shown(value)!r}"
    text = environ.get(setting.variable)
    if text or (text is not None and not setting.variable.startswith("WANDB_")):
        yield f"{setting.variable}={text!r}"


def _value(setting: Setting, arguments: argparse.Namespace) -> Any:
    """Return what the parser says of a setting; None if its flag is not given."""
    return getattr(arguments, setting.flag[2:].replace("-", "_"), None) if setting.flag else None


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def environment_overrides(environ: Mapping[str, str]) -> list[Override]:
    """Return the settings that environment variables bring.

    ``WANDB_RUN_GROUP`` and ``WANDB_NAME`` are taken literally, without ``{...}`` filled in.
    ``WANDB_MODE`` is only checked: W&B reads it itself.

    Args:
        environ: The variables, such as ``os.environ``.

    Returns:
        The overrides, in the order of the table.

    Raises:
        UserError: If a value cannot be used, two contradict each other, or the name of a
            ``FED_*`` variable is a near miss of a known one.
    """
    known = [setting.variable for setting in SETTINGS if setting.variable]
    for name in sorted(environ):
        if name.startswith("FED_") and name not in known:
            hint = did_you_mean(name, known, cutoff=0.8)
            if hint:  # else it is somebody else's variable
                raise UserError(f"{name}={environ[name]!r}: unknown variable{hint}")
    found = []
    for setting in SETTINGS:
        text, choices = environ.get(setting.variable), setting.options.get("choices")
        if text is None or (not text and setting.variable.startswith("WANDB_")):
            continue
        if setting.key:
            found.append(setting.override(text, setting.variable))
        elif choices and text not in choices:
            words = f"{', '.join(choices)}{did_you_mean(text, choices)}"
            raise UserError(f"{setting.variable}={text!r}: allowed: {words}")
    refuse_contradictions(found)
    return found


def command_line_overrides(arguments: argparse.Namespace) -> list[Override]:
    """Return the settings that flags bring.

    Args:
        arguments: What a parser with :func:`add_arguments` returned; flags not given are None.

    Raises:
        UserError: If a value cannot be used, or two contradict each other.
    """
    found: list[Override] = []
    for setting in SETTINGS:
        value = _value(setting, arguments)
        if setting.flag == "--set":
            found += set_overrides(value or (), found)
        elif not setting.key or value is None or value is False:
            continue
        elif value is True:
            found.append(setting.override("", setting.flag))
        elif setting.needs == "--auto-seed" and not arguments.auto_seed:
            raise UserError(
                f"{setting.flag}={value!r}: does nothing without --auto-seed; "
                "allowed: --auto-seed too, or RUN_SEED for one seed"
            )
        else:
            found.append(setting.override(str(value), setting.flag))
    return found


def run_config_overrides(run_config: Mapping[str, Any]) -> list[Override]:
    """Return the settings that ``flwr run --run-config`` brings; an empty value brings none.

    Raises:
        UserError: If a value cannot be used, or two contradict each other.
    """
    found = [
        setting.override(str(run_config[setting.run_config]), f"--run-config {setting.run_config}")
        for setting in SETTINGS
        if str(run_config.get(setting.run_config, "")) != ""
    ]
    refuse_contradictions(found)
    return found


def setting_of(key: str) -> Setting:
    """Return the first setting of a scenario's key."""
    return next(setting for setting in SETTINGS if setting.key == key)


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
        index = texts.whole(text)
    except ValueError:
        index = -1
    if not 0 <= index < total:
        words = f"a whole number from 0 to {total - 1}, as there are {total} clients"
        raise UserError(f"FED_CLIENT_ID={text!r}: allowed: {words}")
    return index
