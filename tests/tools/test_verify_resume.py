"""What the comparison of killed runs looks at, and whom a kill reaches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from parts.compared import contents, descendants, difference

from f110_fl.rundir import RunDir
from f110_fl.tensors import write_tensors


def make(root: Path, *, value: float = 1.0, seconds: float = 2.0, steps: int = 3) -> RunDir:
    rundir = RunDir(root)
    for directory in (rundir.round(1), rundir.client(0)):
        directory.mkdir(parents=True)
    tensors = {"car_0/model/actor/w": np.full(3, value, np.float32)}
    write_tensors(rundir.server, tensors, {"seconds": str(seconds)})
    write_tensors(rundir.global_tensors(1), tensors)
    (rundir.client(0) / "car_0.replay").write_bytes(b"rows")
    rundir.rounds.write_text(json.dumps({"round": 1, "seconds": seconds}) + "\n")
    rundir.episodes(0).write_text(json.dumps({"steps": steps, "seconds": seconds}) + "\n")
    return rundir


def test_time_makes_no_difference_and_all_else_does(tmp_path: Path) -> None:
    expected = contents(make(tmp_path / "straight"))
    assert len(expected) == 5
    assert difference(make(tmp_path / "slow", seconds=9.0), expected) == ""
    other = make(tmp_path / "other", value=1.5)
    assert difference(other, expected) == "round_00001/global.safetensors"
    longer = make(tmp_path / "longer", steps=4)
    assert difference(longer, expected) == "clients/00/episodes.jsonl"
    more = make(tmp_path / "more")
    (more.client(0) / "car_1.replay").write_bytes(b"")
    assert difference(more, expected) == "clients/00/car_1.replay"


def test_descendants_of_descendants_are_found() -> None:
    sleeper = "import sys; sys.stdin.read()"
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {sleeper!r}])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    grandchild = int(process.stdout.readline())
    assert descendants(process.pid) == [grandchild]
    assert {process.pid, grandchild} <= set(descendants(os.getpid()))
    process.communicate()  # ends their common input
