"""What clients need, imported once by the process that a simulation's workers are forked from."""

import gc

from f110_fl.runs.startup import without_collections

with without_collections():
    import clients.client_app  # noqa: F401
    import f110_fl.training.trainer  # noqa: F401

gc.freeze()  # the workers' collectors leave it alone, so that they go on sharing its memory
