"""Passphrases and keys: asked of a person, read from a file, never from an argument, never shown."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from channeld.base.errors import Refused

if TYPE_CHECKING:
    from channeld.base.keys import Key

ENV = "CHANNELD_PASSPHRASE_FILE"


def passphrase(file: str | None, prompt: str, *, confirm: bool = False) -> bytes:
    """From `file`, else from the file the environment names, else from the person at the terminal.

    Raises:
        Refused: `auth` without a passphrase, or with an empty one; `bad_config` if the file cannot be read.
    """
    named = file or os.environ.get(ENV)
    if named:
        try:
            found = Path(named).read_bytes().split(b"\n", 1)[0].rstrip(b"\r")
        except OSError as fault:
            raise Refused(
                "bad_config", f"{named} cannot be read: {fault.strerror}", "it holds the passphrase"
            ) from None
    elif sys.stdin.isatty():
        found = str(click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)).encode()
    else:
        raise Refused("auth", "no passphrase is given", f"--passphrase-file FILE, or {ENV} in the environment")
    if not found:
        raise Refused("auth", "the passphrase is empty", "its file needs it in the first line")
    return found


def key_in(path: Path, passphrase_file: str | None) -> Key:
    """The key in a file: 64 hex digits, or a keystore, whose passphrase is asked for."""
    from channeld.base.keys import Key
    from channeld.node import keystore

    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as fault:
        raise Refused("bad_keystore", f"{path} cannot be read: {fault}", "a keystore, or 64 hex digits") from None
    if re.fullmatch(r"(0x)?[0-9a-fA-F]{64}", text):
        try:
            return Key(bytes.fromhex(text.removeprefix("0x")))
        except ValueError:
            raise Refused("bad_keystore", f"the number in {path} is no private key", "64 hex digits") from None
    return keystore.decrypted(keystore.load(path), passphrase(passphrase_file, f"Passphrase of {path.name}"))


def key_of(data_dir: Path, passphrase_file: str | None) -> Key:
    """The key of a data directory. Refused: `bad_keystore`, `auth`, `wrong_passphrase`."""
    from channeld.cli.settings import KEYSTORE
    from channeld.node import keystore

    stored = keystore.load(data_dir / KEYSTORE)
    return keystore.decrypted(stored, passphrase(passphrase_file, "Passphrase"))
