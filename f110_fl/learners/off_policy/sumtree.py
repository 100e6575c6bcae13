"""A sum tree: draws indices in proportion to their priorities in logarithmic time.

The tree is one array: node ``i`` has the children ``2 i`` and ``2 i + 1``, the root is 1 and
the leaves fill the second half. A parent is always recomputed as the sum of its children, so
rounding errors never accumulate and the leaves alone determine every node.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]


@njit(cache=True, nogil=True, error_model="numpy")
def _assign(nodes: Float, indices: Int, values: Float) -> None:
    for k in range(len(indices)):
        node = len(nodes) // 2 + indices[k]
        nodes[node] = values[k]
        while node > 1:
            node //= 2
            nodes[node] = nodes[2 * node] + nodes[2 * node + 1]


@njit(cache=True, nogil=True, error_model="numpy")
def _rebuild(nodes: Float, count: int) -> None:
    """Sum up what is above the first ``count`` leaves; all other nodes are 0."""
    first = len(nodes) // 2
    while first > 1:
        first, count = first // 2, (count + 1) // 2
        for node in range(first, first + count):
            nodes[node] = nodes[2 * node] + nodes[2 * node + 1]


@njit(cache=True, nogil=True, error_model="numpy")
def _sample(nodes: Float, uniforms: Float, indices: Int, priorities: Float) -> None:
    leaves = len(nodes) // 2
    stratum = nodes[1] / len(uniforms)
    for k in range(len(uniforms)):
        mass = (k + uniforms[k]) * stratum
        node = 1
        while node < leaves:
            node *= 2
            # Rounding can leave `mass` at the far end: never enter a subtree without mass.
            if mass >= nodes[node] and nodes[node + 1] > 0.0:
                mass -= nodes[node]
                node += 1
        indices[k] = node - leaves
        priorities[k] = nodes[node]


class SumTree:
    """Priorities of ``capacity`` items, all 0 at first.

    Args:
        capacity: Number of items, at least 1.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._nodes = np.zeros(2 << (capacity - 1).bit_length())

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self._nodes[1])

    @property
    def leaves(self) -> Float:
        """(capacity,), the priorities; a view to read from."""
        first = len(self._nodes) // 2
        return self._nodes[first : first + self._capacity]

    def assign(self, indices: Int, values: Float) -> None:
        """Set the priorities of items (B,) to values (B,) >= 0; the last of duplicates counts."""
        _assign(self._nodes, indices, values)

    def load(self, leaves: Float) -> None:
        """Set the priorities of the first n items to ``leaves`` (n,), of all others to 0."""
        self._nodes[:] = 0.0
        self.leaves[: len(leaves)] = leaves
        _rebuild(self._nodes, len(leaves))

    def sample(self, uniforms: Float, indices: Int, priorities: Float) -> None:
        """Draw one item from each of B equal strata of the total (Schaul et al. 2016, app. B.2.1).

        The total must be positive; items of priority 0 are never drawn.

        Args:
            uniforms: (B,), position inside each stratum in [0, 1).
            indices: (B,), receives the items drawn.
            priorities: (B,), receives their priorities.
        """
        _sample(self._nodes, uniforms, indices, priorities)
