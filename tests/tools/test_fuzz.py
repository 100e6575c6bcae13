"""tools/fuzz.py: some mutants of each kind find nothing, and what it judges."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import fuzz
import numpy as np
import pytest
from parts import mutations
from small import REPOSITORY
from watching import TIMEOUT

TOOL = REPOSITORY / "tools" / "fuzz.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count"), [("scenarios", 6), ("maps", 10), ("lines", 5), ("runs", 4)]
)
def test_mutants_run_or_are_refused(tmp_path: Path, kind: str, count: int) -> None:
    words = [sys.executable, str(TOOL), "--kind", kind, "--count", str(count), "--json"]
    result = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    found = json.loads(result.stdout)
    assert found["faults"] == []
    assert sum(found["outcomes"].values()) == count
    assert found["outcomes"]["accepted"]
    assert result.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["scenarios", "maps", "lines"])
def test_a_seed_makes_a_mutant_again(tmp_path: Path, kind: str) -> None:
    made = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        mutant = fuzz.KINDS[kind](tmp_path / name, tmp_path, np.random.default_rng(5))
        files = {p.name: p.read_bytes() for p in sorted((tmp_path / name).iterdir()) if p.is_file()}
        made.append((mutant, files))
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (0, "", "accepted"),
        (2, "run.py: s.yaml:1: wrong\n", "refused"),
        (2, "run.py: warning: a\nrun.py: s.yaml:1: wrong\n", "refused"),
        (2, "", "FAULT"),
        (2, "run.py: a\nrun.py: b\n", "FAULT"),
        (2, "run.py: " + "x" * 3000, "FAULT"),
        (1, "run.py: failed\n", "FAULT"),
        (0, "Traceback (most recent call last):\nValueError: x\n", "FAULT"),
        (-signal.SIGKILL, "", "FAULT"),
        (-signal.SIGXCPU, "", "FAULT"),
    ],
)
def test_what_counts_as_a_fault(tmp_path: Path, status: int, text: str, kind: str) -> None:
    assert fuzz.judge("maps", tmp_path, status, text).kind == kind


def test_a_half_written_file_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / ".0123.tmp").write_text("")
    assert fuzz.judge("runs", tmp_path, 0, "").kind == "FAULT"


def test_a_number_that_was_read_as_another_is_told() -> None:
    assert fuzz._different({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ()) == ["a.b.1: 2 became 3"]
    assert fuzz._different({"a": 1, "x-own": 3}, {"a": 1.0}, ()) == []


def test_processor_time_is_bounded(tmp_path: Path) -> None:
    def spin() -> int:
        while True:
            pass

    status, _ = fuzz.forked(spin, tmp_path, 1)
    assert status in (-signal.SIGXCPU, -signal.SIGKILL)


def test_every_damage_leaves_another_directory(tmp_path: Path) -> None:
    damages = set()
    for seed in range(60):
        root = tmp_path / str(seed)
        (root / "a").mkdir(parents=True)
        (root / "config.json").write_text('{"format": 2, "name": "a"}')
        (root / "a" / "state").write_bytes(bytes(range(100)))
        damages.add(mutations.mutate_run(root, np.random.default_rng(seed)).split()[1])
    assert damages == {
        *("torn", "nul", "gone", "swapped", "wrong", "folder", "closed", "keys", "longer")
    }


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--kind", "maps", "--count", "0"]) == 2
    assert capsys.readouterr().err == "fuzz.py: --count='0': allowed: a whole number from 1\n"
    with pytest.raises(SystemExit) as left:
        fuzz.main(["--kind", "tea"])
    assert left.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
