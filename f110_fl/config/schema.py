"""The JSON schema of scenarios, for editors: ``python -m f110_fl.config.schema [FILE]``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from f110_fl.commandline import OneLineParser, program
from f110_fl.errors import UserError
from f110_fl.files import write_atomic

DEFAULT_FILE: Final = Path("scenarios/schema.json")


def schema_text() -> str:
    """Return the schema (JSON Schema draft 2020-12) as the text of its file.

    Raises:
        PluginError: If a plugin, which adds settings, cannot be used.
    """
    from f110_fl.config.scenario import Scenario

    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Scenario.model_json_schema(),
        "patternProperties": {"^x-": {"description": "The file's own, for YAML's anchors."}},
    }
    return json.dumps(schema, indent=2) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the schema.

    Returns:
        The exit status.
    """
    parser = OneLineParser(
        prog="python -m f110_fl.config.schema",
        description="Write the JSON schema of scenarios, for editors.",
    )
    parser.add_argument(
        "file", nargs="?", type=Path, default=DEFAULT_FILE, help=f"default: {DEFAULT_FILE}"
    )
    file: Path = parser.parse_args(argv).file

    def work() -> int:
        try:
            write_atomic(file, schema_text())
        except OSError as error:
            raise UserError(f"{file}: cannot be written: {error.strerror}") from None
        return 0

    return program("f110_fl.config.schema", work)


if __name__ == "__main__":
    sys.exit(main())
