"""Batched numba simulator of 1:10 racing cars, and environments over it."""
