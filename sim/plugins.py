"""What other packages add to the simulator and to the learning: drivers, terms, tracks, learners.

A package says what it adds by a `Plugin`, which it declares as an entry point of the group
``f110_fl.plugins``; in its ``pyproject.toml``::

    [project.entry-points."f110_fl.plugins"]
    anything = "my_package.plugin:PLUGIN"

and in ``my_package/plugin.py``::

    class CruiseConfig(Config):  # from sim.settings
        \"\"\"Drive along the centre line.\"\"\"

        kind: Literal["cruise"] = Field("cruise", description="Selects this driver. [-]")
        speed: float = Field(2.0, gt=0, description="Speed held. [m/s]")

    PLUGIN = Plugin(drivers=(Part(CruiseConfig, "my_package.cruise:Cruise"),))

From then on ``driver: {kind: cruise, speed: 3}`` is allowed wherever a driver's settings are, and
checked, completed by editors and explained in messages as the built-in ones are, which are parts
too. What an implementation must be is described in `sim.drivers.base` (drivers), `sim.tasks.terms`
(terms of a reward), `sim.tracks.factory` (kinds of tracks), `f110_fl.learners.base` (learners) and
`f110_fl.learners.networks.encoder` (networks before the learners' own);
``docs/extending.md`` has a package with one of each.

The module with the plugin is imported with the settings' models. So of the simulator it must
import nothing but this module and `sim.settings`, and nothing heavy: implementations, which
import what they like, belong in other modules.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import Field

from sim.settings import Config

GROUP: Final = "f110_fl.plugins"  # of entry points


class PluginError(ValueError):
    """A plugin cannot be used; one line says which and why."""


@dataclass(frozen=True)
class Part:
    """One thing to choose by settings.

    Attributes:
        config: Its settings. The field that selects it (``kind`` of drivers, tracks and encoders,
            ``term`` of terms, ``algorithm`` of learners) is a ``Literal`` with its word, and the
            default.
        implementation: ``module:name`` of what it does; imported when it is first needed.
    """

    config: type[Config]
    implementation: str


@dataclass(frozen=True)
class Plugin:
    """What a package adds."""

    drivers: tuple[Part, ...] = ()
    terms: tuple[Part, ...] = ()
    tracks: tuple[Part, ...] = ()
    learners: tuple[Part, ...] = ()
    encoders: tuple[Part, ...] = ()


@cache
def _installed() -> tuple[tuple[str, Plugin], ...]:
    """Return the plugins of all installed packages, each with words for a message.

    Raises:
        PluginError: If one cannot be imported, or is not a `Plugin`.
    """
    found = []
    for entry in sorted(entry_points(group=GROUP)):
        who = f"plugin {entry.name} = {entry.value!r}"
        try:
            plugin = entry.load()
        except Exception as error:
            raise PluginError(f"{who} cannot be imported: {_told(error)}") from error
        if not isinstance(plugin, Plugin):
            raise PluginError(f"{who} is a {type(plugin).__name__}; a sim.plugins.Plugin is needed")
        found.append((who, plugin))
    return tuple(found)


def with_plugins(
    what: str, tag: str, ours: Sequence[type[Config]], reserved: Iterable[str] = ()
) -> tuple[type[Config], ...]:
    """Return the settings of our own parts and then those of plugins' parts.

    Args:
        what: The field of `Plugin` that has the parts.
        tag: The settings' field that selects one.
        ours: Our own parts' settings.
        reserved: Words that are taken besides.

    Raises:
        PluginError: If a plugin's part has no such field, or its word is taken.
    """
    configs = {_word(config, tag): config for config in ours}
    for who, plugin in _installed():
        for part in getattr(plugin, what):
            word = _word(part.config, tag)
            if word is None:
                name = getattr(part.config, "__name__", repr(part.config))
                raise PluginError(
                    f"{who}: {what}: {name} must be a sim.settings.Config with a field {tag} of "
                    f"a single word: {tag}: Literal['word'] = 'word'"
                )
            if word in configs or word in reserved:
                raise PluginError(f"{who}: {what}: {tag} {word!r} is taken already")
            configs[word] = part.config
    return tuple(configs.values())


def _word(config: type[Config], tag: str) -> str | None:
    """Return the word that selects a part with these settings, None if there is none."""
    if not (isinstance(config, type) and issubclass(config, Config)):
        return None
    field = config.model_fields.get(tag)
    if field is None or get_origin(field.annotation) is not Literal:
        return None
    words = get_args(field.annotation)
    return words[0] if len(words) == 1 and words[0] == field.default else None


def union(configs: Iterable[type[Config]], tag: str) -> Any:
    """Return the union type of these settings, which ``tag`` tells apart."""
    first, *others = configs
    if not others:  # nothing to tell apart, which pydantic refuses to do
        return first
    return Annotated[Union[(first, *others)], Field(discriminator=tag)]


def implementation(what: str, ours: Mapping[type[Config], Any], config: Config) -> Any:
    """Return what settings select.

    Args:
        what: The field of `Plugin` that has such parts.
        ours: Our own implementations by their settings; a text is ``module:name`` of one, which
            is imported now.
        config: The settings.

    Raises:
        PluginError: If it cannot be imported.
        TypeError: If they are not the settings of one of the parts.
    """
    found = ours.get(type(config))
    if found is None:
        parts = (part for _, plugin in _installed() for part in getattr(plugin, what))
        found = next((part.implementation for part in parts if part.config is type(config)), None)
    if found is None:
        known = ", ".join(kind.__name__ for kind in ours)
        raise TypeError(
            f"none of the {what} takes {type(config).__name__}; there are those of: {known}"
        )
    return _load(found) if isinstance(found, str) else found


@cache
def _load(reference: str) -> Any:
    module, _, name = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        raise PluginError(f"{reference!r} cannot be imported: {_told(error)}") from error


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
