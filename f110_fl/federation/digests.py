"""SHA-256 of what a run is made of, in hexadecimal: code, settings, files, numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from f110_fl.config.scenario import Scenario
from f110_fl.rundir import RunDir

CODE: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("clients", "f110_fl", "server", "sim")  # those that Flower sends with a run
CLOCK: Final = "/seconds"  # what metrics of wall-clock time end with

# Settings that change nothing that a round computes: how many follow, who else is told, where its
# files are, and which are kept.
_OUTSIDE: Final[dict[str, Any]] = {
    "episodes": True,
    "wandb": True,
    "federated": {"root": True, "keep_states": True},
}


def canonical(value: object) -> bytes:
    """Return the one text by which a value is hashed: JSON, sorted, without spaces, in ASCII.

    Raises:
        ValueError: If it contains a number that is not finite.
        TypeError: If JSON has no such value.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def digest(value: object) -> str:
    """Return the SHA-256 of a value; see `canonical`."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def code_digest(code: Path = CODE) -> str:
    """Return the digest of names and contents of this project's Python files.

    Those of plugins, and of the libraries below, are not among them; ``starts.jsonl`` has the
    versions of the latter.
    """
    files = [path for package in PACKAGES for path in (code / package).rglob("*.py")]
    return digest({path.relative_to(code).as_posix(): file_digest(path) for path in files})


def scenario_digest(scenario: Scenario) -> str:
    """Return the digest of all settings that decide what a round computes.

    Left out are ``episodes``, which a resumed run may raise, ``wandb``, ``federated.root`` and
    ``federated.keep_states``.
    """
    return digest(scenario.model_dump(mode="json", exclude=_OUTSIDE))


def inputs_digest(rundir: RunDir) -> str:
    """Return the digest of the files that a run depends on, by name, wherever they are.

    Raises:
        OSError: If ``inputs.json`` cannot be read.
        ValueError: If it is not a mapping of paths to digests.
    """
    found = json.loads(rundir.inputs.read_bytes()) if rundir.inputs.exists() else {}
    if not isinstance(found, dict):
        raise ValueError(f"{rundir.inputs}: not a mapping")  # noqa: TRY004 - as documented
    return digest(sorted([Path(path).name, known] for path, known in found.items()))


def metrics_digest(metrics: Mapping[str, float]) -> str:
    """Return the digest of a reply's metrics without those of wall-clock time."""
    return digest({name: value for name, value in metrics.items() if not name.endswith(CLOCK)})
