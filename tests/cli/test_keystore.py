"""The keystore: opens what wallets wrote, wallets open what it wrote, and nothing opens with a wrong passphrase."""

from __future__ import annotations

import json
import stat

import pytest

from channeld.base.errors import Refused
from channeld.base.keys import Key
from channeld.node import keystore

SECRET = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
# The two test vectors of the Web3 Secret Storage definition.
PBKDF2 = """{"crypto": {"cipher": "aes-128-ctr", "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
"ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46", "kdf": "pbkdf2", "kdfparams": {
"c": 262144, "dklen": 32, "prf": "hmac-sha256",
"salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
"mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
"id": "3198bc9c-6672-5ab3-d995-4942343ae5b6", "version": 3}"""
SCRYPT = """{"crypto": {"cipher": "aes-128-ctr", "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
"ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c", "kdf": "scrypt", "kdfparams": {
"dklen": 32, "n": 262144, "p": 8, "r": 1,
"salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"},
"mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097"},
"id": "3198bc9c-6672-5ab3-d995-4942343ae5b6", "version": 3}"""
KEY = Key(b"\x05" * 32)


@pytest.mark.parametrize("text", [PBKDF2, SCRYPT], ids=["pbkdf2", "scrypt"])
def test_published_vectors(text):
    assert keystore.decrypted(json.loads(text), b"testpassword").secret.hex() == SECRET


def test_wallets_open_ours_and_we_open_theirs():
    from eth_keyfile.keyfile import create_keyfile_json, decode_keyfile_json

    ours = keystore.encrypted(KEY, "pässword".encode(), n=keystore.LIGHT)
    assert decode_keyfile_json(ours, "pässword".encode()) == KEY.secret
    assert ours["address"] == KEY.address.hex()
    theirs = create_keyfile_json(KEY.secret, b"p", kdf="scrypt", iterations=2)
    assert keystore.decrypted(theirs, b"p").address == KEY.address


def test_a_wrong_passphrase():
    stored = keystore.encrypted(KEY, b"right", n=2)
    with pytest.raises(Refused) as refused:
        keystore.decrypted(stored, b"wrong")
    assert refused.value.code == "wrong_passphrase"
    assert KEY.secret.hex() not in json.dumps(stored)


def changed(path, value):
    stored = keystore.encrypted(KEY, b"p", n=2)
    inside = stored
    *way, last = path
    for part in way:
        inside = inside[part]
    inside[last] = value
    return stored


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {},
        {"version": 3},
        {"version": 3, "crypto": []},
        changed(["version"], 4),
        changed(["crypto", "kdf"], "md5"),
        changed(["crypto", "cipher"], "rot13"),
        changed(["crypto", "ciphertext"], "zz"),
        changed(["crypto", "kdfparams", "n"], 2**40),
        changed(["crypto", "kdfparams", "n"], 3),
        changed(["crypto", "kdfparams", "n"], "2"),
        changed(["crypto", "kdfparams", "r"], 0),
        changed(["crypto", "kdfparams", "dklen"], 64),
        changed(["crypto", "cipherparams"], {}),
    ],
)
def test_what_is_no_keystore(stored):
    with pytest.raises(Refused) as refused:
        keystore.decrypted(stored, b"p")
    assert refused.value.code == "bad_keystore"
    assert refused.value.hint


def test_files(tmp_path):
    path = tmp_path / "keystore.json"
    keystore.save(path, keystore.encrypted(KEY, b"p", n=2))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keystore.decrypted(keystore.load(path), b"p").secret == KEY.secret
    with pytest.raises(FileExistsError):
        keystore.save(path, {})
    for name, content in (("none.json", None), ("text.json", b"hello"), ("deep.json", b"[" * 10_000)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(Refused, match=name):
            keystore.load(tmp_path / name)
