"""Versions that must be the same on all machines, and how it is said that they are not."""

from __future__ import annotations

import shutil
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from small import REPOSITORY

from f110_fl.federation import versions
from f110_fl.federation.versions import PROJECT, Versions, here, of_node, read

OWN = Versions("0.1.0", "3fa1", "1.41.0")


def test_the_project_has_one_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == PROJECT
    assert here().flower == version("flwr")


@pytest.mark.parametrize(
    ("other", "differing"),
    [
        (OWN, ""),
        (Versions("0.1.0", "3fa1", "1.41.7"), ""),  # one release of Flower's 1.41
        (Versions(), ""),  # nothing is known of it
        (Versions("0.2.0", "3fa1", "1.41.0"), "project 0.1.0 here, 0.2.0 there"),
        (Versions("0.1.0", "77ce", "1.41.0"), "scenario schema 3fa1 here, 77ce there"),
        (Versions("0.1.0", "3fa1", "1.42.0"), "Flower 1.41.0 here, 1.42.0 there"),
        (Versions("0.1.0", "3fa1", "2.41.0"), "Flower 1.41.0 here, 2.41.0 there"),
        (Versions("0.1.0", "3fa1", "1.4"), "Flower 1.41.0 here, 1.4 there"),
        (
            Versions("0.2.0", "77ce", ""),
            "project 0.1.0 here, 0.2.0 there; scenario schema 3fa1 here, 77ce there",
        ),
    ],
)
def test_what_differs_is_said_in_a_line(other: Versions, differing: str) -> None:
    advice = "; install the same version on both machines" if differing else ""
    assert OWN.differing(other, "here", "there") == differing + advice


def test_the_schema_is_another_one_once_a_setting_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("f110_fl/config", "sim/config"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    shutil.copy(REPOSITORY / "sim" / "settings.py", tmp_path / "sim")
    found = {"own": here().schema}
    monkeypatch.setattr(versions, "CODE", tmp_path)
    for name in ("copied", "changed"):
        versions._schema_digest.cache_clear()
        found[name] = here().schema
        with (tmp_path / "sim" / "config" / "env.py").open("a") as file:
            file.write("\nMORE = 1\n")
    versions._schema_digest.cache_clear()
    assert found["own"] == found["copied"] != found["changed"]


def test_what_a_node_says_of_itself() -> None:
    assert of_node({"partition-id": 0}) == Versions()  # a virtual client
    said = {"root": "/data", **Versions("0.2.0", "77ce", "").node_config}
    assert of_node(said) == Versions("0.2.0", "77ce", version("flwr"))
    # A SuperNode that was not started by this project: what is installed there.
    assert of_node({"root": "/data"}) == Versions(version("f110-fl"), "", version("flwr"))


@pytest.mark.parametrize("told", [None, [], "0.1.0", {"project": 1, "schema": None}])
def test_nonsense_is_not_known(told: object) -> None:
    assert read(told) == Versions()
    assert read({"project": "0.1.0", "more": "x"}) == Versions("0.1.0")
