"""Signatures of clients: ECDSA with SHA-384 by the P-384 keys that prove to Flower who they are."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from f110_fl.errors import UserError

LONGEST: Final = 160  # bytes of a signature, whose two numbers have at most 66 each (P-521)
_SCHEME: Final = ec.ECDSA(hashes.SHA384())


def sign(key: Path, message: bytes) -> bytes:
    """Return a signature.

    Args:
        key: A private key, OpenSSH, without a passphrase.
        message: What is signed.

    Raises:
        UserError: If the key cannot be read, or is not an elliptic-curve key.
    """
    try:
        private = serialization.load_ssh_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{key}: not an OpenSSH private key: {error}") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise UserError(f"{key}: not an elliptic-curve key")
    return private.sign(message, _SCHEME)


def is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether a signature of a message is that of a key.

    Args:
        key: A public key, DER (SubjectPublicKeyInfo).
        message: What was signed.
        signature: Whatever is said to be the signature.
    """
    try:
        public = serialization.load_der_public_key(key)
        if not isinstance(public, ec.EllipticCurvePublicKey):
            return False
        public.verify(signature, message, _SCHEME)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(key: bytes) -> str:
    """Return a public key's fingerprint, as ``ssh-keygen -lf`` shows it.

    Args:
        key: A public key, DER (SubjectPublicKeyInfo).

    Raises:
        ValueError: If it is not one.
    """
    blob = base64.b64decode(openssh(key).split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def openssh(key: bytes) -> bytes:
    """Return a public key, DER, as OpenSSH's files have it.

    Raises:
        ValueError: If it is not one.
    """
    public = serialization.load_der_public_key(key)
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
