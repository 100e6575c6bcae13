"""Read a league from YAML; mistakes are told in one line, as those in scenarios."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from f110_fl.config.league import LeagueConfig
from f110_fl.errors import UserError, show
from f110_fl.loading.diagnostics import explain
from f110_fl.loading.document import parse_yaml, read_yaml
from f110_fl.loading.fields import Field, allowed


def load_league(path: Path) -> LeagueConfig:
    """Read and validate a league. Files are relative to its folder in YAML, absolute in the result.

    Raises:
        UserError: For anything wrong with it, in one line.
    """
    document = parse_yaml(read_yaml(path, "a league's YAML file"), str(path))
    if not isinstance(document.data, dict):
        found = "an empty file" if document.data is None else show(document.data)
        needed = allowed(Field(LeagueConfig))
        raise UserError(f"{path}:{document.mark(()).line}: found {found}; allowed: {needed}")
    data = {key: value for key, value in document.data.items() if not key.startswith("x-")}
    try:
        return LeagueConfig.model_validate(data, strict=True, context=path.parent)
    except ValidationError as error:
        raise UserError(explain(error, path, document, (), LeagueConfig)) from None
