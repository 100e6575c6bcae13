"""How far the clients of a round moved, and how far apart they ended, from their files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from f110_fl.rundir import RunDir
from f110_fl.tensors import TensorName

MOST_BYTES: Final = 2**29  # read for a report; of more, rounds at equal steps are left out


class Drift:
    """Norms of rounds, each read once; a round whose files are gone has none.

    Args:
        rundir: The run's directory.
    """

    def __init__(self, rundir: RunDir) -> None:
        self._rundir = rundir
        self._found: dict[int, dict[str, Any] | None] = {}

    def chosen(self, rounds: list[dict[str, Any]]) -> list[int]:
        """Return the rounds whose files are few enough to be read, the last one among them.

        Those whose files were removed are left out, unless they were read before.
        """
        numbers = [
            number
            for number in (int(line["round"]) for line in rounds)
            if self._found.get(number) or self._rundir.global_tensors(number).is_file()
        ]
        if not numbers:
            return []
        sizes = [path.stat().st_size for path in self._files(numbers[-1]) if path.is_file()]
        most = max(1, MOST_BYTES // max(sum(sizes), 1))
        step = -(-len(numbers) // most)
        return numbers[::-1][::step][::-1]

    def of(self, number: int, clients: list[int]) -> dict[str, Any] | None:
        """Return a round's norms over the networks' parameters, L2; None without its files.

        Returns:
            ``norm`` of the global model's change; by client ``update``, the norm of its change,
            and ``drift``, its distance from the new global model; ``agreement``, the mean cosine
            between the changes of two clients.
        """
        if number not in self._found:
            self._found[number] = self._compute(number, clients)
        return self._found[number]

    def _files(self, number: int) -> Iterator[Path]:
        yield self._rundir.global_tensors(number)
        yield from self._rundir.round(number).glob("client_*.safetensors")

    def _compute(self, number: int, clients: list[int]) -> dict[str, Any] | None:
        now = _parameters(self._rundir.global_tensors(number))
        before = _parameters(self._rundir.global_tensors(number - 1))
        if now is None:
            return None
        update, drift = dict[str, float](), dict[str, float]()
        ways: NDArray[Any] = np.zeros(0)
        for client in clients:
            own = _parameters(self._rundir.client_tensors(number, client), len(now))
            if own is None:
                continue
            drift[str(client)] = _norm(own - now)
            if before is None or len(before) != len(now):
                continue
            way = own - before
            length = update[str(client)] = _norm(way)
            if length > 0.0:
                ways = ways + way / length if len(ways) else way / length
        return {
            "norm": None if before is None else _norm(now - before),
            "update": update or None,
            "drift": drift or None,
            "agreement": _agreement(ways, len(update)),
        }


def _agreement(ways: NDArray[Any], count: int) -> float | None:
    """The mean cosine of pairs, from the sum of unit vectors: |sum|² = N + N (N - 1) mean."""
    if count < 2 or not len(ways):
        return None
    return (float(np.vdot(ways, ways)) - count) / (count * (count - 1))


def _norm(values: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.sum(np.square(values, dtype=np.float64))))


def _parameters(path: Path, size: int | None = None) -> NDArray[np.float32] | None:
    """All parameters of a file's networks in one array; None if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            names = sorted(n for n in file.keys() if TensorName.parse(n).kind == "model")  # noqa: SIM118 - it is no mapping
            parts = [file.get_tensor(name).ravel().astype(np.float32) for name in names]
    except (OSError, SafetensorError):
        return None
    found = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return found if size is None or len(found) == size else None
