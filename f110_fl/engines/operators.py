"""Operators of a closed SuperLink, who start and stop runs: their tokens, and how they are known.

A token is 256 random bits, in a file that only its owner can read. The server has its SHA-256
digest, by which the token cannot be found: what stands in the server's file lets nobody in.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from f110_fl.errors import UserError
from f110_fl.files import write_atomic

PRIVATE: Final = 0o600  # mode of a file that only its owner can read
MAX_TOKEN: Final = 200  # characters looked at
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
_LINE = re.compile(rf"({_NAME.pattern})\s+([0-9a-f]{{64}})", re.ASCII)


class Operators:
    """The operators that a server knows.

    Args:
        digests: SHA-256 of each one's token, by name.
    """

    def __init__(self, digests: Mapping[str, bytes]) -> None:
        self._digests = dict(digests)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._digests)

    def __contains__(self, name: str) -> bool:
        """Return whether there is one of this name."""
        return name in self._digests

    def name_of(self, token: str) -> str | None:
        """Return whose a token is, None if nobody's.

        It takes as long for a wrong token as for a right one, whatever they have in common.
        """
        digest = _digest(token[:MAX_TOKEN])
        found = None
        for name, known in self._digests.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found


def read_operators(path: Path) -> Operators:
    """Return the operators of a server's file: a line ``NAME DIGEST`` each.

    Raises:
        UserError: If it cannot be read or is none, or others can change it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--operators={str(path)!r}: cannot be read: {error}") from None
    if mode & 0o022:
        raise UserError(f"--operators={str(path)!r}: others can write to it; chmod 600 {path}")
    found: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or match[1] in found:
            raise UserError(
                f"--operators={str(path)!r}: line {number}: allowed: NAME and the SHA-256 of a "
                "token, each name once; see python -m f110_fl.engines.credentials"
            )
        found[match[1]] = bytes.fromhex(match[2])
    return Operators(found)


def make_operator(directory: Path, name: str) -> Path:
    """Make a token for a new operator and add its digest to the server's file.

    An existing operator keeps his.

    Args:
        directory: Gets ``operator_NAME``, the token, and ``operators``, the server's file.
        name: Small letters, digits, ``-`` and ``_``.

    Returns:
        The token's file.

    Raises:
        UserError: If the name cannot be one, or the server's file cannot be read.
    """
    if _NAME.fullmatch(name) is None:
        raise UserError(f"--operator={name!r}: allowed: a-z, 0-9, - and _, at most 32")
    path, known = directory / f"operator_{name}", directory / "operators"
    text = known.read_text(encoding="utf-8") if known.exists() else ""
    if text:
        read_operators(known)
    lines = [line for line in text.splitlines() if line.split()[:1] != [name]]
    if not path.exists():
        write_atomic(path, secrets.token_urlsafe(32) + "\n", mode=PRIVATE)
    lines.append(f"{name} {_digest(read_token(path)).hex()}")
    write_atomic(known, "\n".join(lines) + "\n", mode=PRIVATE)
    return path


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        UserError: If there is none, or others can read the file.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--operator={str(path)!r}: cannot be read: {error}") from None
    if mode & 0o077:
        raise UserError(f"--operator={str(path)!r}: others can read it; chmod 600 {path}")
    if not re.fullmatch(rf"[A-Za-z0-9_-]{{43,{MAX_TOKEN}}}", text):
        raise UserError(
            f"--operator={str(path)!r}: holds no token; see python -m f110_fl.engines.credentials"
        )
    return text


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
