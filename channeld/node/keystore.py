"""The key on disk: Web3 Secret Storage version 3, which every Ethereum wallet opens.

scrypt makes a key of the passphrase, AES-128-CTR hides the secret under it, a Keccak MAC tells a wrong passphrase
from a right one. Written by hand on hashlib and cryptography, since the library for it takes 0.7 s to import, more than
all the rest of a start; a test compares the two both ways.

Source: https://github.com/ethereum/wiki/wiki/Web3-Secret-Storage-Definition
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from channeld.base.errors import Refused
from channeld.base.keys import Key, keccak

LIGHT: Final = 2**12
"""scrypt's n where the key guards play money: 20 ms."""
STRONG: Final = 2**18
"""scrypt's n everywhere else, as wallets have it: about a second and 256 MB."""
MAX_BYTES: Final = 64 * 1024
MAX_SCRYPT_BYTES: Final = 2**30
MAX_ITERATIONS: Final = 10**7

Chance = Callable[[int], bytes]


def encrypted(key: Key, passphrase: bytes, *, n: int = STRONG, chance: Chance = os.urandom) -> dict[str, Any]:
    """The keystore's JSON for `key`; `n` is scrypt's cost, a power of two."""
    salt, iv = chance(32), chance(16)
    derived = _scrypt(passphrase, salt, n, 8, 1)
    hidden = _aes(derived[:16], iv, key.secret)
    return {
        "address": key.address.hex(),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": hidden.hex(),
            "kdf": "scrypt",
            "kdfparams": {"dklen": 32, "n": n, "p": 1, "r": 8, "salt": salt.hex()},
            "mac": keccak(derived[16:] + hidden).hex(),
        },
        "id": str(uuid.UUID(bytes=chance(16), version=4)),
        "version": 3,
    }


def decrypted(stored: object, passphrase: bytes) -> Key:
    """The key in a keystore's JSON.

    Raises:
        Refused: `wrong_passphrase`, or `bad_keystore` for what is no version 3 keystore.
    """
    try:
        crypto = _crypto(stored)
        hidden = bytes.fromhex(crypto["ciphertext"])
        derived = _derived(crypto, passphrase)
        if crypto["cipher"] != "aes-128-ctr":
            raise ValueError(f"cipher {crypto['cipher']!r:.40}")
        iv = bytes.fromhex(crypto["cipherparams"]["iv"])
        mac = bytes.fromhex(crypto["mac"])
        if not hmac.compare_digest(keccak(derived[16:32] + hidden), mac):
            raise Refused("wrong_passphrase", "the passphrase does not open the keystore", "try again")
        return Key(_aes(derived[:16], iv, hidden))
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        hint = "it must be a Web3 keystore of version 3 (JSON)"
        raise Refused("bad_keystore", f"the file is no keystore: {fault!s:.80}", hint) from None


def _crypto(stored: object) -> dict[str, Any]:
    if not isinstance(stored, dict) or stored.get("version") != 3:
        raise ValueError("version is not 3")
    found = {name.lower(): value for name, value in stored.items()}["crypto"]
    if not isinstance(found, dict):
        raise ValueError("crypto is no object")
    return found


def _derived(crypto: dict[str, Any], passphrase: bytes) -> bytes:
    params = crypto["kdfparams"]
    salt = bytes.fromhex(params["salt"])
    if params["dklen"] != 32:
        raise ValueError("dklen is not 32")
    if crypto["kdf"] == "scrypt":
        return _scrypt(passphrase, salt, params["n"], params["r"], params["p"])
    if crypto["kdf"] == "pbkdf2" and params["prf"] == "hmac-sha256":
        if not 0 < params["c"] <= MAX_ITERATIONS:
            raise ValueError("iterations out of range")
        return hashlib.pbkdf2_hmac("sha256", passphrase, salt, params["c"], 32)
    raise ValueError(f"kdf {crypto['kdf']!r:.40}")


def _scrypt(passphrase: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    """32 bytes; a file may not ask for more than a gigabyte."""
    if min(n, r, p) < 1 or p > 64 or 128 * r * n > MAX_SCRYPT_BYTES:
        raise ValueError("scrypt asks for too much memory")
    if n.bit_length() > 16 * r:  # outside RFC 7914, so not in OpenSSL, but in the published vector
        from Crypto.Protocol.KDF import scrypt

        # It takes text and turns it into bytes by latin-1.
        derived = scrypt(passphrase.decode("latin-1"), salt.decode("latin-1"), 32, n, r, p)
        return derived if isinstance(derived, bytes) else b""
    return hashlib.scrypt(passphrase, salt=salt, n=n, r=r, p=p, maxmem=128 * r * (n + p + 2) + 2**20, dklen=32)


def _aes(key: bytes, iv: bytes, data: bytes) -> bytes:
    stream = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return stream.update(data) + stream.finalize()


def save(path: Path, stored: dict[str, Any]) -> None:
    """Write a keystore, readable by its owner alone; FileExistsError rather than overwrite one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(stored, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def load(path: Path) -> object:
    """The JSON in a keystore file; Refused `bad_keystore` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return json.loads(file.read(MAX_BYTES))
    except FileNotFoundError:
        raise Refused("bad_keystore", f"there is no keystore at {path}", "channeld init makes one") from None
    except (OSError, ValueError, RecursionError) as fault:
        raise Refused("bad_keystore", f"{path} cannot be read: {fault!s:.80}", "is it a JSON keystore?") from None
