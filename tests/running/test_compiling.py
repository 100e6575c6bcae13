"""Compiling kernels is told once, and only when it is done."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from f110_fl.runs.kernels import compiling
from f110_fl.runs.kernels.compiling import TOLD, compiling_told

KERNELS = """
from numba import njit

@njit(cache=True)
def kept(x):
    return x + 1

@njit
def forgotten(x):
    return x + 2
"""


class Module:
    """A file with kernels, imported anew each time, as by one process after another."""

    def __init__(self, folder: Path) -> None:
        self._file, self._count = folder / "kernels.py", itertools.count()
        self._file.write_text(KERNELS)

    def load(self) -> Any:
        compiling._Teller.told = False
        spec = importlib.util.spec_from_file_location(f"kernels_{next(self._count)}", self._file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def test_only_what_is_compiled_to_be_kept_is_told_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiling._Teller, "told", False)
    monkeypatch.setattr(compiling._Teller, "begun", None)
    monkeypatch.setattr(compiling, "PATIENCE", 0.0)
    file, said = Module(tmp_path), f"{TOLD}\n"
    module = file.load()
    with compiling_told():
        assert module.forgotten(1) == 3  # compiled by every process
    assert capsys.readouterr() == ("", "")
    with compiling_told():
        assert (module.kept(1), module.kept(1.5)) == (2, 2.5)
    assert capsys.readouterr() == ("", said)
    again = file.load()
    with compiling_told():
        assert (again.kept(1), again.kept(1.5)) == (2, 2.5)  # from disk
    assert capsys.readouterr() == ("", "")
    with compiling_told():
        again.kept(1j)
    assert capsys.readouterr() == ("", said)
    again.kept((1,)[0] == 1)  # nobody listens any more
    assert capsys.readouterr() == ("", "")


def test_a_kernel_more_is_worth_no_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([100.0, 101.0, 104.0])
    monkeypatch.setattr(compiling._Teller, "told", False)
    monkeypatch.setattr(compiling._Teller, "begun", None)
    monkeypatch.setattr(compiling, "time", SimpleNamespace(monotonic=lambda: next(times)))
    module = Module(tmp_path).load()
    for argument, said in ((1, ""), (1.5, ""), (1j, f"{TOLD}\n")):
        with compiling_told():
            module.kept(argument)
        assert capsys.readouterr() == ("", said)
