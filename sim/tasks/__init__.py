"""How episodes are judged: the rewards of tasks; `sim.episodes` has the outcomes.

A task is an objective (`sim.tasks.objectives`), which decides success and pays for how an
episode ends, and any number of shaping terms (`sim.tasks.terms`), which are paid at each step.
"""
