"""Which module may import what, and what importing must not do."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import sources
from small import REPOSITORY
from sources import MODULES, PACKAGES, PROGRAMS, SOURCES, Import, imported, tree

from f110_fl.runs.kernels.cache import kernel_sources
from f110_fl.runs.startup import KERNEL_CACHE

# Who may import whom: a module what stands in the rows below its own, and what belongs to the same
# entry, in which there are no circles either.
ORDER: tuple[tuple[str, ...], ...] = (
    ("tools",),
    ("run",),
    ("clients", "server"),
    ("f110_fl.engines", "f110_fl.sweeps"),
    ("f110_fl.runs",),
    ("f110_fl.exporting", "f110_fl.reporting"),
    ("f110_fl.training",),
    (
        *("f110_fl.calibration", "f110_fl.evaluation", "f110_fl.federation"),
        *("f110_fl.learners", "f110_fl.loading"),
    ),
    ("f110_fl.config", "f110_fl.robot", "f110_fl.tensors"),
    ("f110_fl.commandline",),
    ("f110_fl.errors", "f110_fl.files", "f110_fl.rundir", "f110_fl.seeding"),
    ("sim.envs",),
    ("sim.rendering",),
    ("sim.race",),
    ("sim.drivers", "sim.spawning", "sim.tasks"),
    ("sim.episodes", "sim.observation", "sim.policy"),
    ("sim.network", "sim.physics"),
    ("sim.tracks",),
    ("sim.config",),
    ("sim.plugins",),
    ("sim.layout", "sim.native", "sim.settings", "sim.vectors"),
)
FLOOR = {entry: floor for floor, row in enumerate(ORDER) for entry in row}
MOST_FLOORS = 8  # of f110_fl
MOST_ENTRIES = 20  # at the top of f110_fl
MOST_MODULES = 14  # in a folder
HEAVY = {"torch", "numba", "ray", "flwr", "wandb", "gymnasium"}

FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "random"}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_CALLS = {
    *("torch.manual_seed", "torch.seed", "torch.random.manual_seed", "torch.set_rng_state"),
    *("torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "os.system"),
}
NUMPY_RANDOM = {"Generator", "SeedSequence", "BitGenerator", "PCG64", "Philox", "default_rng"}


def entry_of(module: str) -> str:
    """Returns the entry of `ORDER` that a module belongs to; empty for a root of packages."""
    while module and module not in FLOOR:
        module = module.rpartition(".")[0]
    return module


def climbs(path: Path) -> Iterator[Import]:
    """Yields a file's imports against the order."""
    own = entry_of(sources.module_name(path))
    for found in sources.ours(path):
        other = entry_of(found.name)
        if own != other and (not own or not other or FLOOR[other] <= FLOOR[own]):
            yield found


def dotted(node: ast.expr) -> str:
    """Returns ``a.b.c`` for an expression that reads so, else an empty string."""
    if isinstance(node, ast.Attribute):
        start = dotted(node.value)
        return f"{start}.{node.attr}" if start else ""
    return node.id if isinstance(node, ast.Name) else ""


def forbidden(path: Path) -> Iterator[str]:
    yield from sorted(imported(path) & FORBIDDEN_MODULES)
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


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_imports_only_go_down(path: Path) -> None:
    assert not {"tests", "conftest"} & imported(path)
    assert list(climbs(path)) == []


def test_what_goes_up_is_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "from f110_fl.engines import simulation",
        "import server.strategy",
        "def later():\n    from f110_fl.runs.plan import settle",
        "PRELOADED = 'clients.preloaded'",
        "APP = ['server.server_app:app']",
        "LOCATORS = 'f110_fl.runs.kernels.cache.SourcesLocator, InTreeCacheLocator'",
        "import f110_fl.tensors, sim.race",
        "HELP = 'see clients.preloaded, or python -m clients.process'",
        "from f110_fl.reporting.console import ConsoleSink",
    )
    path = tmp_path / "f110_fl" / "training" / "new.py"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines))
    monkeypatch.setattr(sources, "REPOSITORY", tmp_path)
    found = [name for name, _ in climbs(path)]
    assert sorted(found) == [
        *("clients.preloaded", "f110_fl.engines.simulation", "f110_fl.reporting.console"),
        *(
            "f110_fl.runs.kernels.cache",
            "f110_fl.runs.plan",
            "server.server_app",
            "server.strategy",
        ),
    ]


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: {name for name, _ in sources.ours(path)} for module, path in MODULES.items()}
    circle = ""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " imports ".join(reversed(error.args[1]))
    assert circle == ""


def test_every_module_has_its_floor_and_every_floor_its_modules() -> None:
    assert {module for module in MODULES if not entry_of(module)} <= set(PACKAGES)
    assert {entry_of(module) for module in MODULES} - {""} == set(FLOOR)


def test_the_house_stays_small() -> None:
    floors = [row for row in ORDER if any(entry.startswith("f110_fl.") for entry in row)]
    assert len(floors) <= MOST_FLOORS
    top = [path for path in (REPOSITORY / "f110_fl").iterdir() if path.name != "__pycache__"]
    assert len(top) <= MOST_ENTRIES
    for folder in {path.parent for path in SOURCES if path not in PROGRAMS}:
        modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        assert len(modules) <= MOST_MODULES, folder


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_no_code_from_data_and_no_global_random_state(path: Path) -> None:
    assert list(forbidden(path)) == []


def test_compiled_code_is_made_of_files_that_the_kernel_cache_knows() -> None:
    known = set(kernel_sources(REPOSITORY))
    beside = [path for path in known if path.is_relative_to(REPOSITORY / "f110_fl")]
    assert len(beside) > 3
    for path in beside:
        origin = {
            name.asname or name.name: MODULES.get(node.module or "")
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ImportFrom)
            for name in node.names
        }
        kernels = [
            node
            for node in ast.walk(tree(path))
            if isinstance(node, ast.FunctionDef)
            and any("njit" in ast.unparse(decorator) for decorator in node.decorator_list)
        ]
        for kernel in kernels:
            named = [n for line in kernel.body for n in ast.walk(line) if isinstance(n, ast.Name)]
            for name in named:
                source = origin.get(name.id)
                assert source is None or source in known, (path, kernel.name, name.id)


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


# Stand for a library that is optional, and does what it likes when it is imported.
OTHERS_INTERFACES = {"sim.envs.stable_baselines"}

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
    own = {name for name, path in MODULES.items() if path not in PROGRAMS}
    modules = sorted(own - OTHERS_INTERFACES)
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
