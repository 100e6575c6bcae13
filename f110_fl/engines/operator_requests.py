"""Requests to a closed SuperLink in an operator's name, to what is answered by its gate itself."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from f110_fl.engines.closed.gate import STATUS
from f110_fl.engines.operators import read_token
from f110_fl.engines.superlink import SuperLink
from f110_fl.errors import UserError
from f110_fl.federation.messages import shown
from f110_fl.federation.versions import here, read

TIMEOUT: Final = 20.0  # s for an answer, or a part of it


class NothingToldError(UserError):
    """It answers, but not with what was asked for.

    Attributes:
        status: HTTP's.
        detail: What the server says of it.
    """

    def __init__(self, message: str, status: int, detail: str) -> None:
        super().__init__(message)
        self.status, self.detail = status, detail


class OperatorRequests:
    """A connection to a closed SuperLink, over which an operator asks; use it in a ``with`` block.

    Args:
        link: The SuperLink, with the operator's token.

    Raises:
        UserError: If it cannot be reached or trusted, or the link has no token.
    """

    def __init__(self, link: SuperLink) -> None:
        if link.operator is None:
            raise UserError(
                "--operator FILE is needed: only operators of a closed SuperLink ask it"
            )
        self._token = read_token(link.operator)
        link.probe()
        self._link = link
        context = ssl.create_default_context(cafile=str(link.root_certificates))
        self._connection = http.client.HTTPSConnection(
            link.host, link.port, timeout=TIMEOUT, context=context
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._connection.close()

    def ask(self, path: str, question: Mapping[str, Any] | None = None) -> bytes:
        """Return the content of an answer.

        Args:
            path: What is asked.
            question: Sent along, as JSON; None: nothing is.

        Raises:
            NothingToldError: If it tells this operator nothing.
            UserError: If there is no answer.
        """
        headers = {"Authorization": f"Bearer {self._token}"}
        body = None if question is None else json.dumps(question)
        try:
            self._connection.request("GET" if body is None else "POST", path, body, headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise UserError(
                f"--superlink={self._link.address!r}: no answer: {error or type(error).__name__}"
            ) from None
        if answer.status != http.client.OK:
            detail = _detail(content)
            raise NothingToldError(self._refusal(answer.status, detail), answer.status, detail)
        return content

    def _refusal(self, status: int, detail: str) -> str:
        start = f"--superlink={self._link.address!r}: "
        if status not in (401, 403, 404):
            return f"{start}status {status}: {detail}"
        return (
            f"{start}tells nothing (status {status}); is it a closed one, and is this the token of "
            "one of its operators?"
        )


def _detail(content: bytes) -> str:
    """Return what a refusal says."""
    try:
        detail = str(json.loads(content)["detail"])
        return shown(detail.removeprefix("Refused: ").removesuffix("."))
    except (ValueError, KeyError, TypeError):
        return "no reason given"


def check_versions(link: SuperLink) -> None:
    """Compare versions with those of a closed SuperLink, before anything is sent to it.

    A bare SuperLink tells nobody its versions, and is not compared.

    Raises:
        UserError: If they differ, or it tells this operator nothing.
    """
    try:
        with OperatorRequests(link) as requests:
            told = json.loads(requests.ask(STATUS))
    except NothingToldError as error:
        if error.status == http.client.NOT_FOUND:
            return
        raise
    theirs = told.get("versions")
    if theirs is None:
        raise UserError(
            f"--superlink={link.address!r}: is of an older version of this project, which does not "
            "say which; install the same version on both machines"
        )
    differing = here().differing(read(theirs), "here", "there")
    if differing:
        raise UserError(f"--superlink={link.address!r}: versions differ: {shown(differing)}")
