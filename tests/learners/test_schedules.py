"""Learning rates over the updates."""

import pytest
from pydantic import TypeAdapter

from f110_fl.config.learners import ScheduleConfig
from f110_fl.learners.optimizer import rate_factor

HALF_ROOT = 0.5**0.5


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kind": "constant"}, {0: 1, 10**9: 1}),
        ({"kind": "linear", "updates": 10}, {0: 1, 5: 0.5, 9: 0.1, 10: 0, 99: 0}),
        ({"kind": "linear", "updates": 10, "end": 0.2}, {0: 1, 5: 0.6, 10: 0.2, 99: 0.2}),
        ({"kind": "linear", "updates": 4, "end": 3}, {0: 1, 1: 1.5, 4: 3, 99: 3}),
        (
            {"kind": "cosine", "updates": 8, "end": 0.5},
            {0: 1, 2: 0.75 + HALF_ROOT / 4, 4: 0.75, 8: 0.5, 99: 0.5},
        ),
        (
            {"kind": "step", "updates": 3, "factor": 0.5},
            {0: 1, 2: 1, 3: 0.5, 5: 0.5, 6: 0.25, 9: 0.125, 10**9: 0},
        ),
    ],
)
def test_factors(settings, expected):
    schedule = TypeAdapter(ScheduleConfig).validate_python(settings)
    for update, factor in expected.items():
        assert rate_factor(schedule, update) == pytest.approx(factor, abs=1e-12)
