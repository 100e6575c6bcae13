"""What runs a client's tasks: one fork each, with the code that the run came with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from child_targets import sleep_beside_one_that_fails
from small import REPOSITORY
from watching import TIMEOUT

from f110_fl.runs.processes import Children

# Runs a task in a fork, as `execute` does, and says how it ended.
FORK = """
import os, sys
from f110_fl.engines.flower.executor import _fork
{task}
_fork(task)
print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def fork(task: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FORK.format(task=task)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | variables,
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("task", "status", "told"),
    [
        ("def task(): print('done')", 0, "done\n"),
        ("def task(): sys.exit(3)", 3, ""),
        ("def task(): sys.exit()", 0, ""),
        ("def task(): raise KeyError('what')", 1, ""),
        ("def task(): os.kill(os.getpid(), 15)", -signal.SIGTERM, ""),
    ],
)
def test_a_fork_ends_with_its_task(task: str, status: int, told: str) -> None:
    done = fork("import signal\nsignal.signal(15, signal.SIG_IGN)\n" + task)
    assert done.stdout == f"{told}{status}\n"
    assert ("KeyError: 'what'" in done.stderr) == ("KeyError" in task)


def test_a_task_imports_the_program_from_the_bundle_that_its_run_came_with(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle" / "f110_fl"
    bundle.mkdir(parents=True)
    (bundle / "__init__.py").write_text("")
    (bundle / "errors.py").write_text("")
    task = f"""
import f110_fl.errors
def task():
    sys.path.insert(0, {str(bundle.parent)!r})
    import f110_fl.errors
    print(f110_fl.__file__, f110_fl.errors.__file__)
"""
    assert fork(task).stdout == f"{bundle / '__init__.py'} {bundle / 'errors.py'}\n0\n"


def test_what_is_imported_once_for_all_is_none_of_the_program() -> None:
    """Numba would ask the program installed here where the bundle's kernels are kept."""
    code = (
        "import importlib, sys\n"
        "from f110_fl.engines.flower.executor import LIBRARIES, PACKAGES\n"
        "before = set(sys.modules)\n"
        "for name in LIBRARIES: importlib.import_module(name)\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "assert 'torch' in new and not new & {*PACKAGES, 'numba'}, new\n"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


def test_a_supernode_ends_with_what_runs_its_tasks() -> None:
    """Whoever started it starts both again; it alone would take messages for nobody."""
    child = Children().start(sleep_beside_one_that_fails, ())
    child.join(TIMEOUT)
    assert child.exitcode not in (None, 0)
