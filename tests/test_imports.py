"""Which module may import what, and what importing must not do."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small import REPOSITORY

from f110_fl.runs.startup import KERNEL_CACHE

PACKAGES = ("sim", "f110_fl", "clients", "server")
PROGRAMS = [REPOSITORY / "run.py", *sorted((REPOSITORY / "tools").glob("*.py"))]
SOURCES = [*(p for name in PACKAGES for p in sorted((REPOSITORY / name).rglob("*.py"))), *PROGRAMS]
MAY_IMPORT = {
    "sim": {"sim"},
    "f110_fl": {"f110_fl", "sim"},
    "clients": {"clients", "f110_fl", "sim"},
    "server": {"server", "f110_fl", "sim"},
}
OURS = {*PACKAGES, "run", "tools", "tests", "conftest"}
HEAVY = {"torch", "numba", "ray", "flwr", "wandb", "gymnasium"}

FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "random"}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_CALLS = {
    *("torch.manual_seed", "torch.seed", "torch.random.manual_seed", "torch.set_rng_state"),
    *("torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "os.system"),
}
NUMPY_RANDOM = {"Generator", "SeedSequence", "BitGenerator", "PCG64", "Philox", "default_rng"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(path: Path) -> set[str]:
    """Returns the full names of the modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import"
            names.add(node.module or "")
    return names


def dotted(node: ast.expr) -> str:
    """Returns ``a.b.c`` for an expression that reads so, else an empty string."""
    if isinstance(node, ast.Attribute):
        start = dotted(node.value)
        return f"{start}.{node.attr}" if start else ""
    return node.id if isinstance(node, ast.Name) else ""


def forbidden(path: Path) -> Iterator[str]:
    top = {name.split(".")[0] for name in imported(path)}
    yield from sorted(top & FORBIDDEN_MODULES)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            yield f"line {node.lineno}: {node.id}"
        if isinstance(node, ast.Attribute):
            name = dotted(node).replace("numpy.", "np.", 1)
            function = name.removeprefix("np.random.")
            if name in FORBIDDEN_CALLS or (function != name and function not in NUMPY_RANDOM):
                yield f"line {node.lineno}: {name}"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield f"line {node.value.lineno}: allow_pickle"


def test_the_sources_are_found() -> None:
    names = {str(path.relative_to(REPOSITORY)) for path in SOURCES}
    assert {"run.py", "tools/federated_smoke.py", "sim/tracks/distance_field.py"} <= names
    assert {
        "f110_fl/learners/off_policy/td3.py",
        "clients/client_app.py",
        "server/strategy.py",
    } <= names


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    for path in sorted((REPOSITORY / package).rglob("*.py")):
        ours = {name.split(".")[0] for name in imported(path)} & OURS
        assert ours <= MAY_IMPORT[package], path


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_code_from_data_and_no_global_random_state(path: Path) -> None:
    assert list(forbidden(path)) == []


def test_what_is_forbidden_is_recognised(tmp_path: Path) -> None:
    lines = (
        *("import pickle", "import random", "import numpy as np", "import torch"),
        *("eval('1')", "exec('1')", "np.random.seed(0)", "torch.manual_seed(0)"),
        *("np.load('f', allow_pickle=True)", "np.random.rand(2)", "torch.load('f')"),
    )
    path = tmp_path / "bad.py"
    path.write_text("\n".join(lines))
    assert len(list(forbidden(path))) == 9
    path.write_text("model.eval()\nnp.random.Generator(np.random.PCG64(np.random.SeedSequence(1)))")
    assert list(forbidden(path)) == []


def test_help_needs_nothing_heavy(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", str(REPOSITORY / "run.py"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "--scenario" in result.stdout
    modules = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert {"argparse", "pydantic"} <= modules
    assert modules & HEAVY == set()


IMPORT_ALL = """
import importlib, sys, threading
for name in sys.argv[1:]:
    importlib.import_module(name)
    module = sys.modules[name]
    for value in vars(module).values():  # a signature in a decorator compiles at import
        assert not getattr(value, "signatures", None), (name, value)
print([thread.name for thread in threading.enumerate()])
print("wandb" in sys.modules, "ray" in sys.modules, "gymnasium" in sys.modules)
"""


def test_importing_does_no_work(tmp_path: Path) -> None:
    """No module starts a thread, compiles, writes, or imports W&B or Ray before it has to."""
    modules = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in SOURCES
        if path not in PROGRAMS
    ]
    # Where run.py asks numba to look for kernels, numba makes a folder when it is imported.
    variables = {key: value for key, value in os.environ.items() if key not in KERNEL_CACHE}
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *modules],
        cwd=tmp_path,
        env=variables | {"PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    threads, late = result.stdout.splitlines()
    assert threads == "['MainThread']"
    assert late.startswith("False False")
    assert list(tmp_path.iterdir()) == []
