import json
import re
import typing

import pytest
import yaml
from pydantic import BaseModel
from small import REPOSITORY

from f110_fl.config.scenario import Scenario
from f110_fl.config.schema import main, schema_text

ROOT = REPOSITORY
SCENARIOS = sorted((ROOT / "scenarios").glob("*.yaml"))


def models(annotation):
    """Yield every settings model that a type mentions, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
    for inner in typing.get_args(annotation):
        yield from models(inner)


MODELS = sorted(set(models(Scenario)), key=lambda model: model.__name__)


def test_the_committed_schema_is_fresh(tmp_path):
    assert main([str(tmp_path / "schema.json")]) == 0
    written = (tmp_path / "schema.json").read_text()
    assert written == schema_text()
    committed = (ROOT / "scenarios" / "schema.json").read_text()
    assert committed == written, "run: python -m f110_fl.config.schema"


def test_help_writes_no_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "f110_fl.config.schema" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", MODELS)
def test_every_field_is_described_with_its_unit(model):
    assert model.__doc__
    assert model.model_config["frozen"]
    assert model.model_config["extra"] == "forbid"
    for name, field in model.model_fields.items():
        assert re.search(r"\S\. \[[^\[\]]+\]$", field.description or ""), f"{model.__name__}.{name}"


def test_the_walk_reached_the_deepest_models():
    assert {"VehicleConfig", "ConvoyLockConfig", "ReplayConfig", "CircleTrack"} <= {
        model.__name__ for model in MODELS
    }


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.name)
def test_shipped_scenarios_satisfy_the_schema(file):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(file.read_text()))


def test_the_schema_refuses_what_the_models_refuse():
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(json.loads(schema_text()))
    good = {"name": "a", "learners": {"car_0": {"algorithm": "td3"}}}
    assert check.is_valid(good)
    assert check.is_valid({**good, "x-mine": [1]})  # the file's own, as for the loader
    for bad in ({"seed": -1}, {"epochs": 3}, {"env": {"track": {"kind": "ellipse"}}}):
        assert not check.is_valid({**good, **bad})
