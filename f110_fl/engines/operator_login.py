"""Let Flower's own ``flwr`` command use a closed SuperLink with an operator's token.

It writes the SuperLink's address into Flower's configuration and the token into its credentials,
both in ``~/.flwr`` (or ``FLWR_HOME``). ``flwr list NAME`` and the like then work unchanged.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from f110_fl.commandline import OneLineParser, program
from f110_fl.engines.flower.internals import keep_token
from f110_fl.engines.operators import PRIVATE, read_token
from f110_fl.engines.superlink import SuperLink, resolve_superlink
from f110_fl.errors import UserError
from f110_fl.files import write_atomic


def log_in(home: Path, name: str, link: SuperLink) -> None:
    """Let ``flwr`` know a SuperLink by a name.

    Args:
        home: Flower's home; created if missing.
        name: What ``flwr`` calls it.
        link: The SuperLink, with the operator's token.

    Raises:
        UserError: If the name cannot be one or is another's, or the configuration cannot be read.
    """
    if link.operator is None or link.root_certificates is None:
        raise UserError("--operator and --root-certificates are needed")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) or name == "default":
        raise UserError(f"--name={name!r}: allowed: letters, digits, - and _")
    path = home / "config.toml"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        known = tomllib.loads(text).get("superlink", {}).get(name)
    except (tomllib.TOMLDecodeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    own = {"address": link.address, "root-certificates": str(link.root_certificates.absolute())}
    if known is not None and known != own:
        raise UserError(f"--name={name!r}: {path} has another SuperLink of that name")
    token = read_token(link.operator)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if known is None:
        lines = [f"[superlink.{name}]", *(f"{key} = '{value}'" for key, value in own.items())]
        before = text.rstrip() + "\n\n" if text.strip() else ""
        write_atomic(path, before + "\n".join(lines) + "\n", mode=PRIVATE)
    keep_token(home, link.address, token)


def main(argv: Sequence[str] | None = None) -> int:
    """Do it, and return the exit status."""
    parser = OneLineParser(prog="python -m f110_fl.engines.operator_login", description=__doc__)
    parser.add_argument("--name", default="field", help="what flwr calls the SuperLink (field)")
    parser.add_argument("--superlink", required=True, metavar="HOST:PORT")
    parser.add_argument("--root-certificates", required=True, metavar="FILE")
    parser.add_argument("--operator", required=True, metavar="FILE", help="the operator's token")
    arguments = parser.parse_args(argv)

    def work() -> int:
        link = resolve_superlink(
            arguments.superlink,
            arguments.root_certificates,
            insecure=False,
            operator=arguments.operator,
        )
        home = Path(os.environ.get("FLWR_HOME") or Path.home() / ".flwr")
        log_in(home, arguments.name, link)
        print(f"flwr knows it as {arguments.name}: flwr list {arguments.name}")  # noqa: T201
        return 0

    return program("f110_fl.engines.operator_login", work)


if __name__ == "__main__":
    sys.exit(main())
