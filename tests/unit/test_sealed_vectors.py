"""The test vectors of docs/store-format.md, section 7, hold for our code and for a reader made from the document."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.sealed_kit import reference_open
from wsistore.keys.site_keys import SiteKeys, WrappedKey
from wsistore.storage import sealing

VECTORS = json.loads((Path(__file__).parents[2] / "docs/vectors/sealed.json").read_text("utf-8"))


@pytest.mark.parametrize("vector", VECTORS["objects"], ids=lambda vector: vector["name"])
def test_sealed_objects(vector: dict[str, Any]) -> None:
    data_key, key = bytes.fromhex(vector["data_key"]), vector["object_key"]
    data = bytes(i * i % 251 for i in range(vector["plain_bytes"]))
    with mock.patch.object(sealing, "new_header", return_value=bytes.fromhex(vector["header"])):
        sealed = sealing.seal(data_key, key, data)
    assert len(sealed) == vector["sealed_bytes"] == sealing.sealed_size(len(data))
    assert hashlib.sha256(sealed).hexdigest() == vector["sealed_sha256"]
    assert sealed.hex() == vector.get("sealed", sealed.hex())
    assert sealing.unseal(data_key, key, sealed) == reference_open(data_key, key, sealed) == data


@pytest.mark.parametrize("vector", VECTORS["data_keys"])
def test_data_keys(vector: dict[str, Any]) -> None:
    found = vector["object"]
    keys = SiteKeys("site", {found["site_key"]: bytes.fromhex(vector["site_key"])}, {found["site_key"]: ""})
    encoded = json.dumps(found).encode()
    wrapped = WrappedKey.decode(encoded, found["slide"], found["attempt"], where="x")
    assert keys.unwrap(wrapped, where="x").hex() == vector["data_key"]
    assert json.loads(wrapped.encode()) == found
