"""One of five clients sends random weights: what that does to a mean, with and without a bound."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from small import REPOSITORY
from watching import TIMEOUT


@pytest.mark.slow
def test_a_bound_or_a_median_withstands_what_ruins_a_mean() -> None:
    command = [sys.executable, str(REPOSITORY / "tools" / "hostile_clients.py"), "--json"]
    # After 5 rounds returns still grow steeply, and what is kept is a matter of luck.
    command += ["--rounds", "8", "--strategies", "fedavg", "bounded", "fedmedian"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert result.returncode == 0, result.stderr
    rows = {row["federation"]: row for row in json.loads(result.stdout)}
    assert list(rows) == ["honest", "fedavg", "bounded", "fedmedian"]
    assert rows["honest"]["return"] > 3  # untrained cars crash at once: below -1
    assert rows["honest"]["crashes"] < 0.1
    assert rows["fedavg"]["kept"] < 0.5
    assert rows["bounded"]["kept"] >= 0.9
    assert rows["fedmedian"]["kept"] >= 0.9
