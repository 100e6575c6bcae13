"""Certificates and keys of a deployed federation.

``run.py --engine deployment`` makes them for one run; ``python -m f110_fl.engines.credentials``
makes them for a lasting federation.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from f110_fl.commandline import OneLineParser, program
from f110_fl.engines.operators import PRIVATE, make_operator
from f110_fl.errors import UserError
from f110_fl.files import write_atomic

LIFETIME = datetime.timedelta(days=365)
MAX_COMMON_NAME = 64  # characters, X.509; who connects looks at the alternative names


class Credentials:
    """Files in a directory; only their owner can read private keys.

    Attributes:
        ca: Certificate of the run's own authority, which clients trust.
        certificate: The SuperLink's certificate.
        key: The SuperLink's private key.
        operators: Whom the SuperLink lets start and stop runs, if it is a closed one.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = directory / "ca.crt"
        self.certificate = directory / "superlink.crt"
        self.key = directory / "superlink.key"
        self.operators = directory / "operators"

    def client_key(self, client_id: int) -> Path:
        """Return the private key by which a client proves its identity (OpenSSH)."""
        return self.directory / f"client_{client_id:02d}"

    def client_public_key(self, client_id: int) -> Path:
        """Return the public key by which the SuperLink knows a client (OpenSSH)."""
        return public_key_path(self.directory, client_id)


def public_key_path(directory: Path, client_id: int) -> Path:
    """Return the file of a client's public key (OpenSSH) in a directory."""
    return directory / f"client_{client_id:02d}.pub"


def make_credentials(directory: Path, hosts: Sequence[str], clients: int) -> Credentials:
    """Make an authority, the SuperLink's certificate and every client's key pair.

    Existing files are kept, so that the SuperLink still knows a resumed run's clients.

    Args:
        directory: Where the files go; created if missing, accessible to its owner only.
        hosts: Names and addresses by which clients reach the SuperLink.
        clients: Number of client keys.

    Raises:
        UserError: If a host cannot be one.
    """
    alternatives = _alternatives(hosts)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = Credentials(directory)
    for client_id in range(clients):
        if not made.client_public_key(client_id).exists():
            _write_client_key(made, client_id)
    if made.certificate.exists():
        return made
    now = datetime.datetime.now(datetime.UTC)

    def name(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])

    def builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name("f110-fl run authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
            .not_valid_after(now + LIFETIME)
        )

    authority, server = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    root = (
        builder(name("f110-fl run authority"), authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(authority.public_key()), critical=False
        )
        .sign(authority, hashes.SHA384())
    )
    leaf = (
        builder(name(hosts[0][:MAX_COMMON_NAME]), server)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
            critical=False,
        )
        .sign(authority, hashes.SHA384())
    )
    pem = serialization.Encoding.PEM
    key = server.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_atomic(made.key, key, mode=PRIVATE)
    write_atomic(made.ca, root.public_bytes(pem))
    write_atomic(made.certificate, leaf.public_bytes(pem))  # last: it says that all is complete
    return made


def public_keys(directory: Path) -> dict[bytes, int]:
    """Return the client id of each public key in a directory, ``client_NN.pub``.

    Returns:
        Client ids by key, in the form of `f110_fl.engines.flower.internals.key_bytes`.

    Raises:
        UserError: If there is none, one cannot be read, or two clients have the same.
    """
    # Half a second: a client, which only checks its own key, does without Flower.
    from f110_fl.engines.flower.internals import key_bytes

    found: dict[bytes, int] = {}
    for path in sorted(directory.glob("client_*.pub")):
        number = path.stem.removeprefix("client_")
        if not number.isdecimal():
            continue
        try:
            key = key_bytes(serialization.load_ssh_public_key(path.read_bytes()))
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise UserError(f"{path}: not an OpenSSH public key: {error}") from None
        if found.setdefault(key, int(number)) != int(number):
            raise UserError(f"{path}: client {found[key]} has the same key")
    if not found:
        raise UserError(f"{directory}: holds no public key of a client, client_NN.pub")
    return found


def check_client_key(path: Path) -> None:
    """Refuse a file that is not a client's private key.

    Raises:
        UserError: If it is not an elliptic-curve private key in OpenSSH's format.
    """
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError(f"--key={str(path)!r}: not an OpenSSH private key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"--key={str(path)!r}: not an elliptic-curve (P-384) key")


def _write_client_key(made: Credentials, client_id: int) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    write_atomic(made.client_key(client_id), private, mode=PRIVATE)
    write_atomic(made.client_public_key(client_id), public)


def _alternatives(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if not re.fullmatch(r"[A-Za-z0-9*._-]{1,253}", host):
                allowed = "a host's name in ASCII, or an IP address"
                raise UserError(f"--host={host!r}: allowed: {allowed}") from None
            names.append(x509.DNSName(host))
    return names


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Make credentials in a directory and print whose each file is; return the exit status."""
    parser = OneLineParser(prog="python -m f110_fl.engines.credentials", description=__doc__)
    parser.add_argument(
        "directory", type=Path, help="directory of the files; existing ones are kept"
    )
    parser.add_argument(
        "--host",
        action="append",
        required=True,
        help="name or address of the SuperLink; repeatable",
    )
    parser.add_argument("--clients", required=True, help="number of client keys")
    parser.add_argument(
        "--operator",
        action="append",
        default=[],
        help="name of somebody who may start and stop runs, for whom a token is made; repeatable",
    )
    arguments = parser.parse_args(argv)

    def work() -> int:
        from f110_fl.loading.texts import bounded  # with settings, and so with plugins

        clients = bounded("--clients", arguments.clients, 1, 10_000)
        made = make_credentials(arguments.directory, arguments.host, clients)
        lines = [f"for everybody    {made.ca}", f"for the server   {made.certificate} {made.key}"]
        for client_id in range(clients):
            key, public = made.client_key(client_id), made.client_public_key(client_id)
            lines.append(f"for client {client_id:<5} {key} (for the server: {public})")
        for name in arguments.operator:
            path = make_operator(arguments.directory, name)
            lines.append(f"for {name:<12} {path} (for the server: {made.operators})")
        print("\n".join(lines))  # noqa: T201
        return 0

    return program("f110_fl.engines.credentials", work)


if __name__ == "__main__":
    sys.exit(main())
