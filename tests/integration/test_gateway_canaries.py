"""Canaries in every field that could name somebody: none is in anything that the gateway can be made to say or show."""

from __future__ import annotations

import base64
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import zarr
from PIL import Image
from zarr.storage import MemoryStore

from tests.attack_kit import Reply, Wire
from tests.canary_kit import SONG, Aviary, all_slides, found_in, read_by_ocr, sings
from tests.gateway_world import NOBODYS, World, serve
from tests.site_kit import ingest, new_site, picture, reencoded
from tests.tiffs import jpeg_tiles, with_comment
from wsistore import ops
from wsistore.model import Preset
from wsistore.ops.metadata import read_metadata
from wsistore.testing.pictures import macro_image

pytestmark = pytest.mark.slow

VIEWS = (".zarr", ".jpeg.zarr", ".zstd.zarr")


@dataclass
class Heard:
    """All that the gateway said."""

    replies: dict[str, Reply] = field(default_factory=dict)
    pseudonyms: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Cage:
    """A world whose slides are full of canaries."""

    world: World
    aviary: Aviary
    sources: list[Path]

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """What no answer may hold beside canaries: keys, hashes, UIDs and days of the inside."""
        keys = [*self.world.keys.values(), *self.world.attempts.values(), *self.world.object_hashes()]
        days = ["20310514", "2031-05-14", "2031:05:14", "05/14/31", "19010203", "1901-02-03"]
        uids = ["1.2.826.0.1.3680043"]  # the root of all that the series has
        return tuple(text.encode() for text in (*keys, *days, *uids, str(self.world.site)))


@pytest.fixture(scope="module")
def cage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cage]:
    folder, aviary = tmp_path_factory.mktemp("cage"), Aviary()
    sources = all_slides(folder / aviary.new("folder name"), aviary)
    new_site(folder / "site")
    table = folder / "table.csv"
    columns = ("case_id", "patient_id", "INS", "Nom de naissance", "block", "sender", "remark")
    lines = [f"file,stain,organ,{','.join(columns)}"]
    for number, path in enumerate(sources):
        organ = "ADICAP:DE" if number % 3 else f"{'M. ' * (number % 2)}{aviary.new(f'{path.name} organ')}"
        lines.append(f"{path.name},HE,{organ}," + ",".join(aviary.new(f"{path.name} {column}") for column in columns))
    table.write_text("\n".join(lines) + "\n", "utf-8")
    with ops.open_site(folder / "site") as site:
        ingest(site, *sources, metadata=read_metadata(table))
    with serve(folder / "site", {"aviary": "stain = 'HE'"}, {"keeper": ["aviary"]}) as world:
        yield Cage(world, aviary, sources)


def crawl(world: World) -> Heard:
    """Ask for everything that somebody who is granted the project can ask for, and for some that nobody can."""
    heard = Heard()
    own = {"Authorization": f"Bearer {world.tokens['keeper']}"}
    with Wire(world.address) as wire:

        def get(target: str, method: str = "GET", body: bytes | None = None) -> Reply:
            reply = wire.ask(target, own, method=method, body=body)
            heard.replies[f"{method} {target}"] = reply
            return reply

        for target in ("/projects", "/projects/aviary", "/openapi.json", "/health", "/nothing", "/projects/nothing"):
            get(target)
        for query in ("", "?limit=2", "?format=arrow", "?stain=HE", "?organ=ADICAP:DE", "?where=stain%20%3D%20'HE'",
                      "?where=case_id%20%3D%201", "?x=y", f"?after={NOBODYS}"):  # fmt: skip
            get(f"/projects/aviary/slides{query}")
        heard.pseudonyms = world.slides["aviary"]
        for slide in heard.pseudonyms:
            base = f"/projects/aviary/slides/{slide}"
            for target in (base, f"{base}/view", f"{base}/recall", f"{base}/nothing", f"{base}.zarr/nothing"):
                get(target)
            get(f"{base}/recall", "POST", b"{}")
            get(f"{base}/presign", "POST", b'{"keys": ["zarr.json"]}')
            for view in VIEWS:
                crawl_store(f"{base}{view}", get)
            for level, y, x in itertools.product(range(3), range(4), range(4)):
                get(f"{base}/tiles/{level}/{y}/{x}.jpeg")
    return heard


def crawl_store(base: str, get: Any) -> None:
    """Ask for everything in a store, and for what lies beside it."""
    root = get(f"{base}/zarr.json")
    if root.status != 200:
        return
    nodes = {"thumbnail", "icc", "label", "macro"}
    for scale in root.json()["attributes"].get("ome", {}).get("multiscales", [{"datasets": []}]):
        for path in (one["path"] for one in scale["datasets"]):
            level = path.split("/")[0]
            nodes |= {level, path, f"{level}/x", f"{level}/y"}
    for node in sorted(nodes):
        reply = get(f"{base}/{node}/zarr.json")
        if reply.status != 200 or reply.json()["node_type"] != "array":
            continue
        document = reply.json()
        steps = document["chunk_grid"]["configuration"]["chunk_shape"]
        counts = [range(ceil(side / step)) for side, step in zip(document["shape"], steps, strict=True)]
        for index in itertools.product(*counts):
            get(f"{base}/{node}/c/{'/'.join(map(str, index))}")


def assert_silent(cage: Cage, heard: Heard, secrets: tuple[bytes, ...]) -> None:
    """Look through everything that was said."""
    for asked, reply in heard.replies.items():
        said = found_in(reply.all_bytes, secrets)
        assert said is None, (asked, said)
    log = cage.world.log.read_bytes()
    assert found_in(log, secrets) is None
    assert found_in(cage.world.output().encode(), ()) is None


def arrays_of(heard: Heard, slide: str) -> dict[str, np.ndarray]:
    """Return the pictures of a slide, (c, y, x), as plain zarr reads them out of what was said."""
    base = f"GET /projects/aviary/slides/{slide}.zstd.zarr/"
    bodies: dict[str, Any] = {
        asked.removeprefix(base): zarr.core.buffer.cpu.Buffer.from_bytes(reply.body)
        for asked, reply in heard.replies.items()
        if asked.startswith(base) and reply.status == 200
    }
    group = zarr.open_group(MemoryStore(bodies, read_only=True), mode="r", use_consolidated=False)
    attributes: Any = group.attrs.asdict()
    paths = [str(one["path"]) for one in attributes["ome"]["multiscales"][0]["datasets"]]
    paths += ["thumbnail"] if "thumbnail/zarr.json" in bodies else []
    return {path: np.asarray(group[path]) for path in paths}


def assert_blind(heard: Heard) -> None:
    """Read every slide's lowest levels and thumbnail, and the lowest tiles that a browser gets, by program."""
    for slide in heard.pseudonyms:
        pictures = arrays_of(heard, slide)
        assert "thumbnail" in pictures, slide
        smallest = sorted(pictures, key=lambda path: pictures[path].size)[:2]
        shown = [np.moveaxis(pictures[path], 0, -1) for path in sorted({*smallest, "thumbnail"})]
        tiles = [
            reply.body
            for asked, reply in heard.replies.items()
            if asked.startswith(f"GET /projects/aviary/slides/{slide}/tiles/") and reply.status == 200
        ]
        assert tiles, slide
        shown.append(np.asarray(Image.open(io.BytesIO(tiles[-1])).convert("RGB")))
        assert not sings(read_by_ocr(*shown)), slide


def assert_complete(heard: Heard, slides: int) -> None:
    """Check that the crawl met what it should have met."""
    assert len(heard.pseudonyms) == slides
    for slide in heard.pseudonyms:
        for view in VIEWS:
            good = [
                asked for asked, reply in heard.replies.items() if f"{slide}{view}/" in asked and reply.status == 200
            ]
            assert good, (slide, view)
    assert not [asked for asked, reply in heard.replies.items() if reply.status >= 500 and reply.status != 501]


def test_no_canary_is_heard_whatever_is_asked(cage: Cage) -> None:
    heard = crawl(cage.world)
    assert_complete(heard, len(cage.sources))
    assert_silent(cage, heard, cage.secrets)
    assert_blind(heard)


def test_no_canary_is_heard_of_slides_that_are_folded_and_packed(cage: Cage) -> None:
    with cage.world.opened() as site:
        for number, row in enumerate(sorted(site.catalog.slides(), key=lambda row: row.name)):
            reencoded(site, row.slide, Preset.PACK if number % 2 else Preset.FOLD)
    # What was open is found to be gone by the first who asks for it.
    assert_silent(cage, crawl(cage.world), cage.secrets)
    heard = crawl(cage.world)
    assert_complete(heard, len(cage.sources))
    assert_silent(cage, heard, cage.secrets)


def test_no_canary_is_heard_when_the_store_is_broken(cage: Cage) -> None:
    """Errors of a tier name objects and files: none of that goes out."""
    secrets = cage.secrets
    with cage.world.hidden_tier():
        heard = crawl(cage.world)
        assert_silent(cage, heard, secrets)
        assert any(reply.status >= 500 for reply in heard.replies.values())
    crawl(cage.world)
    assert_complete(crawl(cage.world), len(cage.sources))


# --- that the eyes see ------------------------------------------------------------------------------------------------


def test_the_sources_are_full_of_canaries(cage: Cage) -> None:
    for source in cage.sources:
        for path in [source] if source.is_file() else sorted(source.iterdir()):
            assert found_in(path.read_bytes()), path.name
    private = [p for p in (cage.world.site / "tiers/hot/private").rglob("*") if p.suffix in {".zst", ".zip"}]
    assert sum(found_in(path.read_bytes()) is not None for path in private) >= len(cage.sources)


def test_a_canary_is_seen_in_every_wrapping() -> None:
    song = f"before {SONG}001BN behind".encode()
    jpeg = with_comment(jpeg_tiles(picture(64, 64, 1), (64, 64))[0], song)
    wrapped = {
        "plain": song,
        "lower case": song.lower(),
        "gzip": b"x" + gzip.compress(song),
        "zlib in the middle": b"abc" + zlib.compress(song) + b"def",
        "zstd": imagecodecs.zstd_encode(song),
        "zstd of gzip": imagecodecs.zstd_encode(gzip.compress(song)),
        "JPEG comment": jpeg,
        "JPEG XL that gives the JPEG back": imagecodecs.jpegxl_encode_jpeg(jpeg),
        "base64 in JSON": json.dumps({"tables": base64.b64encode(b"1" + jpeg).decode()}).encode(),
        "hex": song.hex().encode(),
        "UTF-16": song.decode().encode("utf-16-le"),
        "UTF-16, the other way": song.decode().encode("utf-16-be"),
        "HTML": "".join(f"&#{letter};" for letter in song).encode(),
        "URL": "".join(f"%{letter:02x}" for letter in song).encode(),
        "escapes": "".join(f"\\u{letter:04x}" for letter in song).encode(),
    }
    for what, data in wrapped.items():
        assert found_in(bytes(data)), what
    assert found_in(b"nothing of the kind, \x1f\x8b\x08 not even here" * 100) is None


def test_a_label_is_read_in_a_picture_of_the_slide() -> None:
    label = Aviary().label("a slide")
    assert sings(read_by_ocr(label))
    macro = macro_image(picture(80, 100, 1), label=label)
    assert sings(read_by_ocr(macro))
    assert sings(read_by_ocr(np.asarray(Image.fromarray(macro).reduce(3))))
    assert not sings(read_by_ocr(picture(300, 400, 1)))


def test_the_gateway_that_is_searched_is_one(cage: Cage) -> None:
    """A gateway that refuses everything says nothing, too."""
    with Wire(cage.world.address) as wire:
        own = {"Authorization": f"Bearer {cage.world.tokens['keeper']}"}
        rows = wire.ask("/projects/aviary/slides", own)
        assert rows.status == 200
        assert b"ADICAP:DE" in rows.body
