"""The sum tree against brute force."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from f110_fl.learners.off_policy.sumtree import SumTree

capacities = st.integers(1, 40)


def draw(tree: SumTree, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    indices = np.full(len(uniforms), -1, dtype=np.int64)
    priorities = np.full(len(uniforms), np.nan)
    tree.sample(uniforms, indices, priorities)
    return indices, priorities


@given(capacities, st.data())
def test_assignments_match_an_array(capacity, data):
    items = st.tuples(st.integers(0, capacity - 1), st.integers(0, 1000))
    tree, expected = SumTree(capacity), np.zeros(capacity)
    for many in data.draw(st.lists(st.lists(items, max_size=8), max_size=8)):
        indices = np.array([i for i, _ in many], dtype=np.int64)
        values = np.array([v for _, v in many], dtype=np.float64)
        tree.assign(indices, values)
        for index, value in many:
            expected[index] = value
        np.testing.assert_array_equal(tree.leaves, expected)
        assert tree.total == expected.sum()


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20),
)
def test_draws_match_a_search_of_the_cumulative_sum(leaves, uniforms):
    # Integers up to 50 keep all sums and differences exact, so the indices must be equal.
    tree = SumTree(len(leaves))
    tree.load(np.array(leaves, dtype=np.float64))
    u = np.array(uniforms)
    mass = (np.arange(len(u)) + u) * (sum(leaves) / len(u))
    expected = np.searchsorted(np.cumsum(leaves), mass, side="right")
    expected = np.minimum(expected, np.flatnonzero(leaves)[-1])  # mass rounded up to the total
    indices, priorities = draw(tree, u)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(priorities, np.array(leaves)[expected])


@given(
    st.lists(st.just(0.0) | st.floats(1e-9, 1e9), min_size=1, max_size=40).filter(any),
    st.integers(1, 20),
)
def test_an_item_without_priority_is_never_drawn(leaves, size):
    tree = SumTree(len(leaves))
    tree.load(np.array(leaves))
    for u in (0.0, 0.5, np.nextafter(1.0, 0.0)):
        indices, priorities = draw(tree, np.full(size, u))
        assert (priorities > 0).all()
        np.testing.assert_array_equal(priorities, np.array(leaves)[indices])


def test_loading_leaves_restores_the_tree_bit_by_bit():
    rng = np.random.default_rng(0)
    tree, copy = SumTree(1000), SumTree(1000)
    copy.load(rng.random(1000))  # to be forgotten
    for _ in range(50):
        tree.assign(rng.integers(0, 700, 64), rng.random(64) * 1e3)
    copy.load(tree.leaves[:700])
    uniforms = rng.random(512)
    np.testing.assert_array_equal(draw(copy, uniforms)[0], draw(tree, uniforms)[0])
    assert copy.total == tree.total


def test_many_changes_leave_no_rounding_error():
    rng = np.random.default_rng(1)
    tree = SumTree(8)
    for _ in range(2000):
        tree.assign(rng.integers(0, 8, 32), 10.0 ** rng.uniform(-8, 8, 32))
    tree.assign(np.arange(8), np.full(8, 0.25))
    assert tree.total == 2.0


def test_frequencies_are_proportional_to_priorities():
    leaves = np.array([0.0, 1.0, 2.5, 0.5, 0.0, 4.0, 0.01, 1.99])
    tree, rng = SumTree(len(leaves)), np.random.default_rng(2)
    tree.load(leaves)
    draws, size = 2000, 16
    counts = np.zeros(len(leaves))
    for _ in range(draws):
        counts += np.bincount(draw(tree, rng.random(size))[0], minlength=len(leaves))
    p = leaves / leaves.sum()
    # Strata make the variance at most that of independent draws.
    bound = 4.5 * np.sqrt(draws * size * p * (1 - p))
    assert (np.abs(counts - draws * size * p) <= bound).all()


def test_strata_bound_every_draws_counts():
    tree, rng = SumTree(4), np.random.default_rng(3)
    tree.load(np.array([1.0, 1.0, 1.0, 1.0]))
    for _ in range(50):
        np.testing.assert_array_equal(np.bincount(draw(tree, rng.random(8))[0]), [2, 2, 2, 2])
