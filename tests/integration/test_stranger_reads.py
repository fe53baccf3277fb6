"""A reader made from the words of docs/store-format.md gives the files back from two zips, without our code."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.integration.test_reencode_store import PACK, reencoded
from tests.made_slides import TILES
from tests.store_kit import store
from tests.unit.test_format_vectors import _payloads_as_documented as payloads_as_documented

ABSENT = 2**64 - 1


def chunk_bytes(store: zipfile.ZipFile, level: int, document: dict[str, Any], number: int) -> bytes:
    """Return a chunk, by sections 3.1 and 4.2: its number is row-major over the level's grid of chunks."""
    inner = document["codecs"][0]["configuration"]["chunk_shape"]
    outer = document["chunk_grid"]["configuration"]["chunk_shape"]
    across = -(-document["shape"][2] // inner[2])
    row, column = divmod(number, across)
    rows, columns = outer[1] // inner[1], outer[2] // inner[2]
    shard = store.read(f"{level}/image/c/0/{row // rows}/{column // columns}")
    index = np.frombuffer(shard[-4 - 16 * rows * columns : -4], "<u8").reshape(rows, columns, 2)
    offset, size = (int(n) for n in index[row % rows, column % columns])
    assert offset != ABSENT
    return shard[offset : offset + size]


@pytest.mark.parametrize("kind", ["svs-420", "svs-rgb", "sparse", "padded", "ndpi-420", "dicom-fragments"])
def test_a_packed_and_folded_slide_gives_its_files(kind: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    packed, _ = reencoded(store(TILES[kind][0](tmp_path / "source"), tmp_path / "tier"), PACK, "pack")
    place = packed.draft.place
    with (
        zipfile.ZipFile(packed.root / place.store / "pack.ozx") as shared,
        zipfile.ZipFile(packed.root / place.private / "pack.zip") as private,
    ):
        assert shared.namelist()[0] == "zarr.json"
        said = json.loads(shared.comment.rstrip(b"\0"))
        assert said == {"ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}}
        assert {entry.compress_type for entry in shared.infolist() + private.infolist()} == {zipfile.ZIP_STORED}
        files = json.loads(imagecodecs.zstd_decode(private.read("files.json.zst")))
        with private.open("layout.parquet") as table:
            rows = pq.read_table(table).to_pylist()
        stored, skeleton, at = private.read("skeleton.zst"), b"", 0
        for size in files["skeleton"]["frames"]:
            skeleton, at = skeleton + imagecodecs.zstd_decode(stored[at : at + size]), at + size
        assert len(skeleton) == files["skeleton"]["size_bytes"]
        levels = range(len(files["levels"]))
        documents = [json.loads(shared.read(f"{level}/image/zarr.json")) for level in levels]
        known: dict[tuple[int, int], list[bytes | None]] = {}
        taken = 0
        for number, file in enumerate(files["files"]):
            rebuilt = b""
            for row in (one for one in rows if one["file"] == number):
                gap = row["offset"] - len(rebuilt)
                rebuilt, taken = rebuilt + skeleton[taken : taken + gap], taken + gap
                where = row["level"], row["chunk"]
                if where not in known:
                    document = documents[row["level"]]
                    config = document["codecs"][0]["configuration"]["codecs"][-1]["configuration"]
                    known[where] = payloads_as_documented(chunk_bytes(shared, where[0], document, where[1]), config)
                payload = known[where][row["piece"]]
                assert payload is not None
                rebuilt += payload[row["skip"] : row["skip"] + row["length"]]
            gap = file["size_bytes"] - len(rebuilt)
            rebuilt, taken = rebuilt + skeleton[taken : taken + gap], taken + gap
            assert hashlib.sha256(rebuilt).hexdigest() == file["sha256"]
        assert taken == len(skeleton)
