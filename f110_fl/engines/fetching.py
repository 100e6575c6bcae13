"""Files of a run on a closed SuperLink, fetched by an operator: ``run.py --fetch RUN``.

They come over the SuperLink's own port, from its gate, by the token that starts runs: so whoever
may start a run can have what it left, without a login on the server. Flower has no such means: its
artifacts are a link to a storage of the operator's own, and a log is text.

Each file takes its name only once all of it is there and its hash is the one that the server has
told. What is there already is not fetched again; so an interrupted fetch goes on when it is called
again.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from rich.console import Console

from f110_fl.engines.closed.files import FILE_PART, FILES, MOST_BYTES, MOST_FILES, PART
from f110_fl.engines.operator_requests import NothingToldError, OperatorRequests
from f110_fl.engines.superlink import resolve_superlink
from f110_fl.errors import UserError
from f110_fl.federation.digests import file_digest
from f110_fl.federation.messages import shown
from f110_fl.files import replacing
from f110_fl.loading.flags import outside_overrides
from f110_fl.reporting.summary import in_bytes
from f110_fl.rundir import RunDir

ATTEMPTS: Final = 5  # at files that a run at work replaces while they are fetched
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*){0,3}")


class ChangedError(Exception):
    """A file has become another one since the server listed it."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a run, as the server tells of it.

    Attributes:
        name: Relative to the run's directory.
        size: Bytes.
        sha256: Their hash, in hexadecimal.
    """

    name: str
    size: int
    sha256: str

    @classmethod
    def read(cls, told: Any) -> RemoteFile:
        """Read what was told of a file.

        Raises:
            ValueError: If it is anything that this server does not tell, such as a name that leads
                out of the directory.
        """
        if not isinstance(told, dict) or set(told) != {"name", "size", "sha256"}:
            raise ValueError("a file has a name, a size and a SHA-256")
        name, size, sha256 = told["name"], told["size"], told["sha256"]
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError("a file's name leads elsewhere")
        if type(size) is not int or not 0 <= size <= MOST_BYTES:
            raise ValueError("a file's size is out of bounds")
        if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ValueError("a file's hash is none")
        return cls(name, size, sha256)

    def is_at(self, path: Path) -> bool:
        """Return whether a path has the same content."""
        try:
            return path.stat().st_size == self.size and file_digest(path) == self.sha256
        except OSError:
            return False


class RemoteRun:
    """A run on a closed SuperLink.

    Args:
        requests: An operator's connection.
        run: Its number, or its directory on the server.
    """

    def __init__(self, requests: OperatorRequests, run: str) -> None:
        self._requests, self._run = requests, run

    def listing(self) -> tuple[str, list[RemoteFile]]:
        """Return the run's directory, and its files.

        Raises:
            UserError: If there is no such run, or what the server tells is nonsense.
        """
        try:
            told = json.loads(self._requests.ask(FILES, {"run": self._run}))
            files = [RemoteFile.read(each) for each in told["files"][:MOST_FILES]]
            return str(told["root"]), files
        except NothingToldError as error:
            if error.status != http.client.UNPROCESSABLE_ENTITY:
                raise
            raise UserError(f"--fetch={self._run!r}: {error.detail}") from None
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"--fetch={self._run!r}: the server's list is wrong: {error}") from None

    def parts(self, file: RemoteFile) -> Iterator[bytes]:
        """Yield a file's bytes, in parts.

        Raises:
            ChangedError: If it is not there any more.
        """
        offset = 0
        while offset < file.size:
            length = min(file.size - offset, PART)
            question = {"run": self._run, "name": file.name, "offset": offset, "length": length}
            try:
                data = self._requests.ask(FILE_PART, question)
            except NothingToldError as error:
                if error.status != http.client.UNPROCESSABLE_ENTITY:
                    raise
                raise ChangedError from None
            if not 0 < len(data) <= length:
                raise ChangedError
            offset += len(data)
            yield data

    def store(self, file: RemoteFile, path: Path) -> None:
        """Write a file, which takes its name only if its hash is the one that was told.

        Raises:
            ChangedError: If it is not.
            OSError: If it cannot be written.
        """
        found = hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as target:
            for data in self.parts(file):
                found.update(data)
                target.write(data)
            if found.hexdigest() != file.sha256:
                raise ChangedError


def fetch(arguments: argparse.Namespace, console: Console) -> int:
    """Fetch the files of the run that the command line names, and return the exit status.

    Raises:
        UserError: For wrong settings, an unknown run, or a SuperLink that cannot be reached or
            trusted, or that knows no such operator.
    """
    outside_overrides(arguments, {})
    if arguments.superlink is None:
        raise UserError(f"--fetch={arguments.fetch!r}: needs --superlink HOST:PORT")
    link = resolve_superlink(
        arguments.superlink,
        arguments.root_certificates,
        insecure=arguments.insecure,
        operator=arguments.operator,
    )
    with OperatorRequests(link) as requests:
        run = RemoteRun(requests, arguments.fetch)
        root, files = run.listing()
        name = PurePosixPath(root).name
        out = Path(arguments.out or (name if _NAME.fullmatch(name) else "run"))
        _check_out(out, files)
        fetched = _fetch_all(run, files, out)
    console.out(f"Fetched         {len(fetched)} files, {in_bytes(sum(fetched))}", highlight=False)
    console.out(f"Run             {link.host}:{shown(root)}", highlight=False)
    console.out(f"Files           {len(files)} in {out.absolute()}", highlight=False)
    return 0


def _fetch_all(run: RemoteRun, files: list[RemoteFile], out: Path) -> list[int]:
    """Fetch what is not there yet, again where it has changed meanwhile; return the sizes."""
    fetched = []
    for _ in range(ATTEMPTS):
        missing = [file for file in files if not file.is_at(out / file.name)]
        changed = []
        for file in missing:
            try:
                run.store(file, out / file.name)
                fetched.append(file.size)
            except ChangedError:
                changed.append(file.name)
        if not changed:
            return fetched
        _, files = run.listing()
    raise UserError(
        f"{changed[0]}: becomes another one while it is fetched; call it again when the run rests"
    )


def _check_out(out: Path, files: list[RemoteFile]) -> None:
    """Refuse a directory with anything else in it, or too little room.

    Raises:
        UserError: If it is refused.
    """
    own = RunDir(out)
    if own.server_lock.exists():
        raise UserError(f"--out={str(out)!r}: a run was trained here; choose another directory")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out={str(out)!r}: not a directory")
    told = [file for file in files if file.name == own.identity.name]
    filled = out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir())
    if filled and not (told and told[0].is_at(own.identity)):
        raise UserError(f"--out={str(out)!r}: holds something else than this run's files")
    place = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    needed = sum(file.size for file in files if not file.is_at(out / file.name))
    if shutil.disk_usage(place).free < needed:
        raise UserError(
            f"--out={str(out)!r}: {in_bytes(needed)} are needed, and there is less room"
        )
