"""run.py's flags as argparse has them, and what --help says of them and of variables."""

from __future__ import annotations

import argparse
import re
from typing import Any, Final

from f110_fl.loading.fields import allowed
from f110_fl.loading.flags import SETTINGS, Setting

# Titles of groups of flags in --help, by the flag that the others there need or resemble.
GROUPS: Final = {
    "--scenario": "what to run",
    "--mode eval": "only with --mode eval",
    "--superlink": "on clients that are connected already",
    "--superlink HOST:PORT": "on clients that are connected already",
    "--fetch RUN": "on clients that are connected already",
    "--set": "settings, over those of the scenario (key; variable)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all flags of the table in groups; their values are plain texts."""
    groups = {title: parser.add_argument_group(title) for title in dict.fromkeys(GROUPS.values())}
    for setting in SETTINGS:
        options: dict[str, Any] = {"help": explained(setting).replace("%", "%%")}
        if setting.switch:
            options["action"] = "store_true"
        elif setting.choices:
            options |= {"choices": setting.choices, "default": setting.choices[0]}
        else:
            number = setting.target.first.annotation is int
            options["metavar"] = setting.metavar or ("N" if number else "VALUE")
        if setting.optional:
            options |= {"nargs": "?", "const": ""}
        if setting.several:
            options |= {"nargs": "+", "action": "extend"}
        if setting.flag:
            groups[_group(setting)].add_argument(setting.flag, **options)


def _group(setting: Setting) -> str:
    """Return the title under which --help has a flag."""
    keyed = "--set" if setting.key else setting.flag
    return next((GROUPS[f] for f in (setting.needs, keyed) if f in GROUPS), GROUPS["--scenario"])


def explained(setting: Setting) -> str:
    """Return what a setting does, its allowed values and its unit, for --help.

    What it sets follows in brackets: its key in the scenario, and its variable beside its flag.
    """
    if not setting.key:
        return setting.about
    target = setting.target.first
    text = about = setting.about or setting.target.phrase
    values = "" if setting.switch else setting.form or allowed(target._replace(unit=""))
    if not values.startswith("text"):
        text += f": {values}" if values else ""
        said = target.annotation not in (int, float) or target.unit in re.findall(r"\w+", about)
        text += f" [{target.unit}]" if target.unit and not said else ""
    beside = f"; {setting.variable}" if setting.flag and setting.variable else ""
    return f"{text} ({setting.key}{beside})"


def variables_alone() -> list[tuple[str, str]]:
    """Return the variables that have no flag, each with what it does."""
    return [(s.variable, explained(s)) for s in SETTINGS if s.variable and not s.flag]
