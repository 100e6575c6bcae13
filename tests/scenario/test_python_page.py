"""The program of docs/python.md, run as it stands."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

from small import REPOSITORY
from watching import TIMEOUT

PAGE = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_page_is_a_program_that_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert result.returncode == 0, result.stderr
    settings, driven, rate = result.stdout.splitlines()
    assert settings == re.findall(r"  # (54 .*)$", PAGE, re.MULTILINE)[0]
    assert re.fullmatch(r"[a-z_]+ -?[0-9.]+ in [0-9]+ steps", driven)
    found = ast.literal_eval(rate)
    assert found["count"] == round(20 * found["rate"])
    assert found["low"] <= found["rate"] <= found["high"]
    assert found["rate"] > 0.5  # it is a trained policy, in the scenario that it was trained in
