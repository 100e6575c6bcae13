"""Compiled kernels: where they are kept, and what a run says while they are made."""
