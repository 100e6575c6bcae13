"""Imports what clients need, in the process from which a simulation's workers are forked."""

import gc

from f110_fl.runs.startup import without_collections

with without_collections():
    import clients.client_app  # noqa: F401
    import f110_fl.training.trainer  # noqa: F401

gc.freeze()  # the workers' collectors do not touch it, so that its memory stays shared
