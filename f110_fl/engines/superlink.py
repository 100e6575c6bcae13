"""The address of a SuperLink, and the certificates by which it is trusted."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from f110_fl.engines.operators import read_token
from f110_fl.errors import UserError

CONNECT_TIMEOUT: Final = 10.0  # s


class UnreachableError(UserError):
    """Nothing answers, perhaps not yet."""


@dataclass(frozen=True)
class SuperLink:
    """Flower's server.

    Attributes:
        address: ``HOST:PORT``, an IPv6 address in brackets.
        root_certificates: The authority that signed its certificate, PEM; None: no TLS.
        operator: File of the token by which it knows who starts runs; None: it asks for none.
    """

    address: str
    root_certificates: Path | None
    operator: Path | None = None

    @property
    def host(self) -> str:
        """The name or address, without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port, from 1 to 65535."""
        return int(self.address.rpartition(":")[2])

    @property
    def flags(self) -> list[str]:
        """The flags of run.py that describe it."""
        if self.root_certificates is None:
            return ["--superlink", self.address, "--insecure"]
        flags = ["--superlink", self.address, "--root-certificates", str(self.root_certificates)]
        return flags if self.operator is None else [*flags, "--operator", str(self.operator)]

    def answers(self) -> bool:
        """Return whether it accepts connections.

        Raises:
            UserError: If it cannot be trusted or does not speak TLS.
        """
        try:
            self.probe()
        except UnreachableError:
            return False
        return True

    def probe(self) -> None:
        """Connect once, with TLS if there are root certificates, and disconnect.

        Raises:
            UnreachableError: If nothing answers within ``CONNECT_TIMEOUT``.
            UserError: If it cannot be trusted or does not speak TLS.
        """
        context = None
        if self.root_certificates is not None:
            try:
                context = ssl.create_default_context(cafile=str(self.root_certificates))
            except (OSError, ssl.SSLError):
                raise UserError(
                    f"--root-certificates={str(self.root_certificates)!r}: holds no certificate"
                ) from None
        try:
            with socket.create_connection((self.host, self.port), CONNECT_TIMEOUT) as connection:
                if context is not None:
                    context.wrap_socket(connection, server_hostname=self.host).close()
        except ssl.SSLCertVerificationError as error:
            raise UserError(
                f"--superlink={self.address!r}: its certificate is refused: "
                f"{error.verify_message}; see --root-certificates"
            ) from None
        except ssl.SSLError as error:
            raise UserError(
                f"--superlink={self.address!r}: does not speak TLS ({error.reason})"
            ) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise UnreachableError(
                f"--superlink={self.address!r}: no connection: {reason}"
            ) from None


def resolve_superlink(
    address: str,
    root_certificates: str | Path | None,
    *,
    insecure: bool,
    operator: str | Path | None = None,
) -> SuperLink:
    """Return the SuperLink that flags describe.

    Args:
        address: ``--superlink``.
        root_certificates: ``--root-certificates``.
        insecure: ``--insecure``: no TLS, which is allowed within this machine only.
        operator: ``--operator``.

    Raises:
        UserError: If one of them is missing, wrong or unsafe.
    """
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", address, re.ASCII)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise UserError(f"--superlink={address!r}: allowed: HOST:PORT, without https://")
    if insecure:
        if root_certificates is not None:
            raise UserError("--insecure contradicts --root-certificates; leave one of them out")
        if operator is not None:
            raise UserError("--insecure contradicts --operator; leave one of them out")
        if not _is_loopback(match[1].strip("[]")):
            raise UserError(
                f"--insecure: {address} is not on this machine; plain text is "
                "allowed on loopback only"
            )
        return SuperLink(address, None)
    path = None if operator is None else Path(operator)
    if path is not None:
        read_token(path)
    return SuperLink(address, needed_file("--root-certificates", root_certificates), path)


def needed_file(flag: str, path: str | Path | None) -> Path:
    """Return the file that a flag names.

    Raises:
        UserError: If the flag is not given or the file does not exist.
    """
    if path is None:
        raise UserError(f"{flag} FILE is needed (or --insecure, on loopback)")
    if not Path(path).is_file():
        raise UserError(f"{flag}={str(path)!r}: no such file")
    return Path(path)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") in ("localhost", "ip6-localhost", "ip6-loopback")
