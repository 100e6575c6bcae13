"""How many examples property tests draw, and which.

The profile ``same``, which `conftest` loads, draws the same examples every time and keeps none
from one run to the next: what passes here passes elsewhere. ``fuzz`` draws many others, by the
seed that it is given: ``make fuzz SEED=12``. Neither looks at the clock.
"""

from __future__ import annotations

from typing import Final

from hypothesis import HealthCheck, settings

USUAL: Final = 100  # examples in the profile `same`

_STEADY: Final = settings(
    database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("same", _STEADY, max_examples=USUAL, derandomize=True)
settings.register_profile("fuzz", _STEADY, max_examples=20 * USUAL, print_blob=True)


def examples(count: int) -> settings:
    """Returns the settings of a test that draws ``count`` examples, and more in ``fuzz``.

    A test without draws `USUAL`.
    """
    return settings(max_examples=count * settings().max_examples // USUAL)
