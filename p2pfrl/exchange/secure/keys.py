"""Keys, seeds and keystreams of secure sums, from the package `cryptography`.

X25519 gives two agents a common secret, HKDF-SHA256 makes seeds of it that differ by run, round,
purpose and pair, and ChaCha20 makes a mask of a seed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import shake_256

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from p2pfrl.core.rng import Purpose
from p2pfrl.exchange.secure.errors import SecureError
from p2pfrl.exchange.secure.ring import BYTES, Ring

KEY = 32
"""Bytes of a key, a seed and a commitment."""
_START = bytes(16)
_NONCE = bytes(12)
_IDS = struct.Struct("<qii")

Source = Callable[[int, str, int], bytes]
"""(round, use, size) -> random bytes: the same for the same round, use and size."""


def simulated(seed: int, agent: int, incarnation: int = 0) -> Source:
    """Return the random bytes of a simulated agent, which whoever knows the seed knows, too."""
    return expanded(repr((seed, agent, str(Purpose.SECURE), incarnation)).encode())


def expanded(secret: bytes) -> Source:
    """Return random bytes that follow from a secret, in a peer one of the operating system's."""

    def draw(round: int, use: str, size: int) -> bytes:
        return shake_256(secret + repr((round, use)).encode()).digest(size)

    return draw


def public_of(private: bytes) -> bytes:
    """Return the public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def common(private: bytes, public: bytes) -> bytes:
    """Return the secret that the owner of `private` shares with that of `public`.

    Raises:
        SecureError: the public key is none.
    """
    try:
        own = X25519PrivateKey.from_private_bytes(private)
        return own.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise SecureError("bad_key", "a public key is not one of X25519") from error


def derived(secret: bytes, purpose: str, run: str, round: int, first: int, second: int) -> bytes:
    """Return the seed of a purpose, a run, a round and two ids in order."""
    info = b"p2pfrl " + purpose.encode() + b"\0" + _IDS.pack(round, first, second) + run.encode()
    return HKDF(algorithm=hashes.SHA256(), length=KEY, salt=None, info=info).derive(secret)


def mask_of(seed: bytes, size: int) -> Ring:
    """Return the keystream of a seed as `(size,)` ring elements. A seed makes one mask only."""
    stream = Cipher(ChaCha20(seed, _START), mode=None).encryptor().update(bytes(BYTES * size))
    return np.frombuffer(stream, dtype="<u8").astype(np.uint64, copy=False)


def sealed(key: bytes, text: bytes, context: bytes) -> bytes:
    """Return `text` encrypted and authenticated together with `context`. A key seals once."""
    return ChaCha20Poly1305(key).encrypt(_NONCE, text, context)


def opened(key: bytes, text: bytes, context: bytes) -> bytes:
    """Return what was sealed.

    Raises:
        SecureError: it was changed, or sealed for somebody or something else.
    """
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, text, context)
    except InvalidTag as error:
        raise SecureError("tampered", "a sealed share was changed on its way") from error
