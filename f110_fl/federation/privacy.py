"""The mechanism of differential privacy: clipping, and noise that comes from a secret.

Clipping and the size of the noise are those of Flower's strategies and mods. They are not called,
because they divide by the norm of an update, which is 0 of a client that has not learned yet,
and draw from NumPy's global generator, which nothing can seed safely or resume.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from f110_fl.config.privacy import LocalPrivacyConfig
from f110_fl.errors import UserError, system_error
from f110_fl.federation.arrays import record_of, values_of
from f110_fl.files import write_atomic

KEY_BYTES: Final = 32
Arrays: TypeAlias = Mapping[str, NDArray[Any]]


def read_secret(path: Path, *, begun: bool) -> bytes:
    """Return the secret of a run or a client, which the first call creates for its owner alone.

    Args:
        path: Its file, in a folder that exists.
        begun: Whether noise may have been drawn from it before: then another must not replace it,
            since the same round with other noise would tell more than was accounted for.

    Raises:
        UserError: If it is gone, cannot be read, or is not one.
    """
    try:
        if not begun and not path.exists():
            write_atomic(path, secrets.token_bytes(KEY_BYTES), mode=0o600)
        found = path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"{path}: is gone; without the secret of its noise the run cannot go on: bring it "
            "back, or start a new run"
        ) from None
    except OSError as error:
        raise UserError(system_error(error)) from error
    if len(found) != KEY_BYTES:
        raise UserError(f"{path}: has {len(found)} bytes; allowed: {KEY_BYTES}")
    return found


def clipped(arrays: Arrays, start: Arrays, norm: float) -> dict[str, NDArray[Any]]:
    """Return ``start`` plus the update, scaled down to an L2 norm (McMahan et al. 2018, FlatClip).

    Args:
        arrays: What a client sent or sends, by name.
        start: What it started from, of the same names and shapes.
        norm: Largest L2 norm of all updates together, computed in float64.
    """
    updates = {name: array.astype(np.float64) - start[name] for name, array in arrays.items()}
    length = math.sqrt(math.fsum(float(np.vdot(u, u)) for u in updates.values()))
    if length <= norm:
        return dict(arrays)
    return {
        name: (start[name] + update * (norm / length)).astype(arrays[name].dtype)
        for name, update in updates.items()
    }


def noised(arrays: Arrays, deviation: float, secret: bytes, number: int) -> dict[str, NDArray[Any]]:
    """Return arrays with Gaussian noise, which depends on nothing but the arguments.

    Repeated after a crash, the same arrays get the same noise, so nobody learns more. Other ones
    of the same round get other noise, so that their difference tells nothing, either: the stream's
    key is a keyed hash of round and arrays (HMAC-SHA-256), the stream ChaCha20's.

    Args:
        arrays: Floating-point arrays by name.
        deviation: Standard deviation of the noise.
        secret: See `read_secret`.
        number: The round.
    """
    names = sorted(arrays)
    digest = hmac.new(secret, number.to_bytes(8, "little"), hashlib.sha256)
    for name in names:
        digest.update(hashlib.sha256(np.ascontiguousarray(arrays[name]).data).digest())
    total = sum(array.size for array in arrays.values())
    noise = deviation * _normal(digest.digest(), total)
    found, place = {}, 0
    for name in names:
        array = arrays[name]
        own = noise[place : place + array.size].reshape(array.shape)
        found[name] = (array + own).astype(array.dtype)
        place += array.size
    return found


def locally_private(
    sent: ArrayRecord, start: ArrayRecord, privacy: LocalPrivacyConfig, secret: bytes, number: int
) -> ArrayRecord:
    """Return what a client may send of its networks in a round: clipped, with noise.

    Args:
        sent: Its networks.
        start: What it was sent, among which are all of these.
        privacy: The mechanism.
        secret: The client's own.
        number: The round.
    """
    own = clipped(values_of(sent), values_of(start), privacy.clipping_norm)
    return record_of(noised(own, privacy.deviation, secret, number))


def _normal(key: bytes, count: int) -> NDArray[np.float64]:
    """Return standard normal numbers (count,): ChaCha20's stream through the inverse of Phi."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
    from scipy.special import ndtri

    stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(8 * count))
    whole = np.frombuffer(stream, "<u8") >> np.uint64(12)  # 52 bits: half more is exact in float64
    found: NDArray[np.float64] = ndtri((whole + 0.5) * 2.0**-52)
    return found
