"""What must be the same on all machines of a federation: this project, its settings, Flower.

A run's code is sent to clients by Flower, but works with what is installed there. So a client says
what that is when it says who it is, before it trains, and a SuperLink says it to its operators.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

PROJECT: Final = "0.1.0"  # of the code that this module belongs to; also in pyproject.toml

CODE: Final = Path(__file__).resolve().parents[2]
SETTINGS: Final = ("f110_fl/config/*.py", "sim/config/*.py", "sim/settings.py")
ADVICE: Final = "install the same version on both machines"


@dataclass(frozen=True)
class Versions:
    """What a machine has; "" is not known, and differs from nothing.

    Attributes:
        project: Version of this project.
        schema: Digest of the settings that a scenario may have, without those of plugins.
        flower: Version of Flower.
    """

    project: str = ""
    schema: str = ""
    flower: str = ""

    @property
    def node_config(self) -> dict[str, str]:
        """What a client's SuperNode is started with, for the run's code to find; see `of_node`."""
        return {"project": self.project, "schema": self.schema}

    def differing(self, other: Versions, here: str, there: str) -> str:
        """Return in words what differs from another machine, "" if nothing that matters does.

        Of Flower, releases of one minor version (1.41.0, 1.41.3) go together: that is what Flower
        itself asks of its parts (``flwr.supercore.runtime_version_compatibility``).

        Args:
            other: What the other machine has.
            here: The machine that has this, in words.
            there: The other one.
        """
        found = []
        for name, own, others in (
            ("project", self.project, other.project),
            ("scenario schema", self.schema, other.schema),
            ("Flower", self.flower, other.flower),
        ):
            compared = [_minor(text) if name == "Flower" else text for text in (own, others)]
            if own and others and compared[0] != compared[1]:
                found.append(f"{name} {own} {here}, {others} {there}")
        return f"{'; '.join(found)}; {ADVICE}" if found else ""


def here() -> Versions:
    """Return what belongs to the code that runs."""
    return Versions(PROJECT, _schema_digest(), _installed("flwr"))


def of_node(node_config: Mapping[str, Any]) -> Versions:
    """Return what is installed where a client runs, whose own code came with the run.

    `clients.process` says it in the node's config. A SuperNode that was started in another way
    does not, and the version of the installed package is all that is known.

    Args:
        node_config: Flower's, of the client.
    """
    if "root" not in node_config and "project" not in node_config:
        return Versions()  # it is not on a machine of its own
    project = str(node_config.get("project", "")) or _installed("f110-fl")
    return Versions(project, str(node_config.get("schema", "")), _installed("flwr"))


def read(told: object) -> Versions:
    """Return what another program wrote as JSON, of its texts; whatever else is there is not known.

    Args:
        told: A mapping with the names of the attributes, as `asdict` makes it.
    """
    found = told if isinstance(told, dict) else {}
    known = {name: found.get(name) for name in asdict(Versions())}
    return Versions(**{name: text for name, text in known.items() if isinstance(text, str)})


@cache
def _schema_digest() -> str:
    """Return the start of the SHA-256 of the modules that say which settings there are.

    The JSON schema that pydantic makes of them depends on pydantic's version as well.
    """
    found = hashlib.sha256()
    for place in SETTINGS:
        for path in sorted(CODE.glob(place)):
            content = path.read_bytes()
            found.update(f"{path.relative_to(CODE).as_posix()} {len(content)}\n".encode() + content)
    return found.hexdigest()[:12]


@cache
def _installed(package: str) -> str:
    """Return the version of an installed package, "" if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _minor(text: str) -> list[str]:
    return text.split(".")[:2]
