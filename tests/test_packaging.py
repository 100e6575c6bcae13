"""What a wheel and a Flower app bundle made of this project contain."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from small import REPOSITORY
from sources import PACKAGES, PROGRAMS, SOURCES, imported

from f110_fl.engines.flower.programs import bundled

DISTRIBUTION = "f110_fl"
FAB_LIMIT = 10 * 2**20  # bytes; Flower refuses larger bundles
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
MODULES = {str(path.relative_to(REPOSITORY)) for path in SOURCES if path not in PROGRAMS}
SCENARIOS = {f"scenarios/{path.name}" for path in (REPOSITORY / "scenarios").glob("*.yaml")}
TEXTS = {"pyproject.toml", "README.md", "LICENSE"}
WEB = {str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "f110_fl/reporting/web").glob("*/*")}


def run(command: list[str], directory: Path, **variables: str) -> str:
    result = subprocess.run(
        command,
        cwd=directory,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git has or would take, so that building leaves the original alone."""
    git = shutil.which("git")
    if git is None or not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    target = tmp_path_factory.mktemp("copy")
    listing = run([git, "ls-files", "--cached", "--others", "--exclude-standard", "-z"], REPOSITORY)
    for name in filter(None, listing.split("\0")):
        if (REPOSITORY / name).is_file():  # else it was deleted, but not yet from the index
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, target / name)
    return target


@pytest.fixture(scope="module")
def wheel(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    run([sys.executable, "-c", build, str(out)], copy)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def bundle(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked Flower app bundle."""
    out = tmp_path_factory.mktemp("bundle")
    flwr = Path(sys.executable).with_name("flwr")
    home = str(out / "home")
    run([str(flwr), "build", "--app", str(copy)], out, FLWR_HOME=home, FLWR_TELEMETRY_ENABLED="0")
    (path,) = out.glob("*.fab")
    assert path.stat().st_size < FAB_LIMIT
    zipfile.ZipFile(path).extractall(out / "app")
    return out / "app"


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    metadata = f"{DISTRIBUTION}-{PYPROJECT['project']['version']}.dist-info/"
    names = {name for name in wheel.namelist() if not name.startswith(metadata)}
    assert names == MODULES | WEB
    described = {n.removeprefix(metadata) for n in wheel.namelist() if n.startswith(metadata)}
    assert described == {"METADATA", "RECORD", "WHEEL", "top_level.txt", "licenses/LICENSE"}


def test_every_folder_is_a_package() -> None:
    """Else setuptools, which looks for packages, leaves it out."""
    for folder in {(REPOSITORY / module).parent for module in MODULES}:
        assert (folder / "__init__.py").exists(), folder


@pytest.mark.slow
def test_the_bundle_holds_the_app_and_nothing_else(bundle: Path) -> None:
    names = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert SCENARIOS
    assert names == MODULES | SCENARIOS | TEXTS | {".info/CONTENT"}


@pytest.mark.slow
def test_what_a_run_submits_is_the_bundle(bundle: Path, copy: Path, tmp_path: Path) -> None:
    (copy / "environment").mkdir()
    (copy / "environment" / "module.py").touch()  # not the app's
    folder = bundled(tmp_path, copy)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == MODULES | SCENARIOS | TEXTS
    for name in MODULES | SCENARIOS:
        assert (folder / name).read_bytes() == (bundle / name).read_bytes()


LOAD = """
import importlib, sys
root, *references = sys.argv[1:]
for reference in references:
    module, attribute = reference.split(":")
    print(type(getattr(importlib.import_module(module), attribute)).__name__)
for name, module in list(sys.modules.items()):
    if name.split(".")[0] in ("sim", "f110_fl", "clients", "server"):
        assert module.__file__.startswith(root), (name, module.__file__)
"""


@pytest.mark.slow
def test_the_bundles_apps_load_from_the_bundle_alone(bundle: Path, tmp_path: Path) -> None:
    components = PYPROJECT["tool"]["flwr"]["app"]["components"]
    references = [components["serverapp"], components["clientapp"]]
    variables = {"PYTHONPATH": str(bundle), "PYTHONDONTWRITEBYTECODE": "1"}
    out = run([sys.executable, "-c", LOAD, str(bundle), *references], tmp_path, **variables)
    assert out.split() == ["ServerApp", "ClientApp"]


# What a car's ROS 2 brings, and no package index.
ROS = {"ackermann_msgs", "nav_msgs", "rclpy", "sensor_msgs", "std_msgs"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_dependencies_are_what_is_imported() -> None:
    paths = [*(REPOSITORY / module for module in MODULES), REPOSITORY / "run.py"]
    top = set().union(*map(imported, paths))
    third_party = top - set(PACKAGES) - set(sys.stdlib_module_names)
    assert third_party >= ROS
    third_party -= ROS
    extras = PYPROJECT["project"]["optional-dependencies"]
    optional = {
        re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0].replace("-", "_")
        for extra in ("calibrate", "export", "league", "render", "sb3", "video")
        for text in extras[extra]
    }
    assert optional <= third_party
    third_party -= optional
    providers = importlib.metadata.packages_distributions()
    needed = {canonical(providers[name][0]) for name in third_party}
    declared = {
        canonical(re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0])
        for text in PYPROJECT["project"]["dependencies"]
    }
    # What a declared one pins exactly, as pydantic does pydantic-core, is a part of it.
    parts = {
        canonical(requirement.split("==")[0])
        for name in declared
        for requirement in importlib.metadata.requires(name) or ()
        if re.fullmatch(r"[A-Za-z0-9._-]+==[^;]+", requirement)
    }
    assert needed - parts <= declared
    assert declared <= needed
