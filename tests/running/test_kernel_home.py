"""Where nothing can be kept on disk, kernels are compiled for the run at hand, and that is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small import REPOSITORY

from f110_fl.loading.flags import idle_variables
from f110_fl.runs.startup import ensure_kernel_cache

NOWHERE = "/proc/nope"


def test_nothing_is_told_where_kernels_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    assert ensure_kernel_cache() == []
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "kernels")


def test_a_temporary_directory_stands_in_and_goes_with_the_process(tmp_path: Path) -> None:
    script = (
        "import os\n"
        "from f110_fl.runs.startup import ensure_kernel_cache\n"
        "print(ensure_kernel_cache())\n"
        "print(os.environ['NUMBA_CACHE_DIR'])\n"
    )
    variables = {"NUMBA_CACHE_DIR": NOWHERE, "TMPDIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    told, folder = process.stdout.splitlines()
    assert told.count("', '") == 0
    assert NOWHERE in told
    assert Path(folder).parent == tmp_path
    assert not Path(folder).exists()


def test_variables_without_effect_in_an_evaluation_are_named() -> None:
    environ = {"FED_ROUND_INTERVAL": "3", "FED_ROOT": "x", "FED_AGENTS": "car_0", "HOME": "/"}
    assert idle_variables(environ) == [
        "FED_ROUND_INTERVAL='3': without effect with --mode eval",
        "FED_AGENTS='car_0': without effect with --mode eval",
    ]
