"""The signing key: made once, readable by its owner only, checked by anyone; rotation keeps what was signed valid."""

from __future__ import annotations

import base64
import json
import pickle
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from wsistore.errors import IntegrityError, Kind, SiteError
from wsistore.keys.signing import (
    decode_public,
    encode_public,
    make_signer,
    open_signer,
    public_keys,
    rotate_signer,
    verify,
)
from wsistore.testing.clock import ManualClock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_a_site_without_keys_has_no_signer(folder: Path) -> None:
    assert open_signer(folder) is None
    assert public_keys(folder) == {}


def test_what_is_signed_can_be_checked_with_the_public_keys_alone(folder: Path) -> None:
    signer = make_signer(folder, ManualClock())
    signature = signer.sign(b"head")
    known = public_keys(folder)
    assert known == {signer.key_id: signer.public}
    assert verify(known, signer.key_id, b"head", signature)
    Ed25519PublicKey.from_public_bytes(signer.public).verify(signature, b"head")


def test_whatever_is_altered_is_refused(folder: Path) -> None:
    signer = make_signer(folder, ManualClock())
    known, signature = public_keys(folder), signer.sign(b"head")
    assert not verify(known, signer.key_id, b"heaD", signature)
    for place in range(len(signature)):
        forged = bytes(byte ^ (number == place) for number, byte in enumerate(signature))
        assert not verify(known, signer.key_id, b"head", forged)
    for wrong in (b"", signature[:-1], signature + b"\0"):
        assert not verify(known, signer.key_id, b"head", wrong)
    assert not verify({}, signer.key_id, b"head", signature)
    assert not verify({"0" * 32: signer.public}, "0" * 32, b"head", signature), "a key under another's id"
    assert not verify({signer.key_id: b"short"}, signer.key_id, b"head", signature)


def test_making_again_gives_the_same_key(folder: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: make_signer(folder, ManualClock()).key_id, range(8)))
    found = open_signer(folder)
    assert found is not None
    assert set(made) == {found.key_id}
    assert set(public_keys(folder)) == {found.key_id}, "none is left of a key that nobody has"


def test_rotation_keeps_old_signatures_valid(folder: Path) -> None:
    old = make_signer(folder, ManualClock())
    signature = old.sign(b"head")
    new = rotate_signer(folder, ManualClock())
    assert new.key_id != old.key_id
    assert set(public_keys(folder)) == {old.key_id, new.key_id}
    assert verify(public_keys(folder), old.key_id, b"head", signature)
    assert not verify(public_keys(folder), new.key_id, b"head", signature)
    assert old.secret() not in (folder / "signing.key").read_bytes()


def test_only_the_owner_may_read(folder: Path) -> None:
    make_signer(folder, ManualClock())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "signing.key").stat().st_mode) == 0o600
    for path, mode in ((folder / "signing.key", 0o640), (folder, 0o755)):
        before = path.stat().st_mode
        path.chmod(mode)
        with pytest.raises(SiteError, match="chmod") as caught:
            open_signer(folder)
        assert caught.value.kind is Kind.SETTINGS_INVALID
        path.chmod(before)
    assert open_signer(folder) is not None


def test_a_damaged_key_is_no_reason_to_make_a_new_one(folder: Path) -> None:
    make_signer(folder, ManualClock())
    path = folder / "signing.key"
    whole = json.loads(path.read_text())
    for change in (
        {"private": "AAAA"},
        {"private": base64.b64encode(bytes(32)).decode()},
        {"private": 5},
        {"kind": "other"},
    ):
        path.write_text(json.dumps({**whole, **change}))
        with pytest.raises(SiteError) as caught:
            make_signer(folder, ManualClock())
        assert caught.value.kind is Kind.KEY_MISSING
    for text in ("", "{", "[]", "\xff", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(SiteError):
            make_signer(folder, ManualClock())
    path.write_text(json.dumps({**whole, "format": 2}))
    with pytest.raises(SiteError) as caught:
        make_signer(folder, ManualClock())
    assert caught.value.kind is Kind.FORMAT_UNKNOWN


def test_public_keys_are_what_their_names_say(folder: Path) -> None:
    signer = make_signer(folder, ManualClock())
    path = folder / "public" / f"{signer.key_id}.pem"
    assert decode_public(path.read_bytes(), where="x") == signer.public
    assert decode_public(encode_public(signer.public), where="x") == signer.public
    path.rename(path.with_name("0" * 32 + ".pem"))
    with pytest.raises(IntegrityError):
        public_keys(folder)
    for garbage in (b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", bytes(100)):
        with pytest.raises(IntegrityError, match="x is no public signing key"):
            decode_public(garbage, where="x")


def test_a_lost_public_half_is_laid_down_again(folder: Path) -> None:
    signer = make_signer(folder, ManualClock())
    (folder / "public" / f"{signer.key_id}.pem").unlink()
    make_signer(folder, ManualClock())
    assert signer.key_id in public_keys(folder)


def test_private_keys_neither_pickle_nor_print(folder: Path) -> None:
    signer = make_signer(folder, ManualClock())
    with pytest.raises(TypeError):
        pickle.dumps(signer)
    assert signer.secret().hex() not in repr(signer)
