"""Keys, ranges and targets of every shape: a store answers its canonical keys, and everything else alike."""

from __future__ import annotations

import itertools
import string
import urllib.parse
from collections.abc import Iterator
from math import ceil
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.attack_kit import Wire
from tests.gateway_world import World, world_of

EXAMPLES = 150
"""Of each test: an answer takes about a millisecond."""

VIEWS = (".zarr", ".jpeg.zarr", ".zstd.zarr")


class Fuzzed:
    """A world, a connection to its gateway, and by the views' own documents which keys there are."""

    def __init__(self, world: World, wire: Wire) -> None:
        self.world, self.wire = world, wire
        self.own = {"Authorization": f"Bearer {world.tokens['alice']}"}
        self.slide = world.slides["lung"][0]
        self.keys = {view: self._canonical(view) for view in VIEWS}
        self.missing = wire.ask(f"{self.base('.zarr')}/nothing", self.own).told
        assert self.missing[0] == 404

    def base(self, view: str) -> str:
        return f"/projects/lung/slides/{self.slide}{view}"

    def _get(self, view: str, key: str) -> Any:
        reply = self.wire.ask(f"{self.base(view)}/{key}", self.own)
        assert reply.status == 200, (view, key, reply)
        return reply.json()

    def _canonical(self, view: str) -> dict[str, bytes | None]:
        """Return the keys of a store, by its metadata, and what they answer: None where nothing is stored."""
        nodes = ["zarr.json"]
        datasets = self._get(view, "zarr.json")["attributes"]["ome"]["multiscales"][0]["datasets"]
        for path in (dataset["path"] for dataset in datasets):
            level = path.split("/")[0]
            nodes += [f"{level}/zarr.json", f"{level}/x/zarr.json", f"{level}/y/zarr.json", f"{path}/zarr.json"]
        nodes += [key for key in ("thumbnail/zarr.json", "icc/zarr.json") if self._is_there(view, key)]
        keys = set(nodes)
        for node in nodes:
            document = self._get(view, node)
            if document["node_type"] == "array":
                grid = document["chunk_grid"]["configuration"]["chunk_shape"]
                counts = [range(ceil(side / step)) for side, step in zip(document["shape"], grid, strict=True)]
                name = node.removesuffix("zarr.json")
                keys |= {f"{name}c/{'/'.join(map(str, index))}" for index in itertools.product(*counts)}
        return {key: self._body(view, key) for key in sorted(keys)}

    def _is_there(self, view: str, key: str) -> bool:
        return self.wire.ask(f"{self.base(view)}/{key}", self.own).status == 200

    def _body(self, view: str, key: str) -> bytes | None:
        reply = self.wire.ask(f"{self.base(view)}/{key}", self.own)
        assert reply.status in {200, 404}, (view, key, reply)
        return reply.body if reply.status == 200 else None

    def check(self, view: str, sent: str, key: str) -> None:
        """Ask for a key, written in some way."""
        reply = self.wire.ask(f"{self.base(view)}/{sent}", self.own)
        wanted = self.keys[view].get(key)
        if reply.status == 200:
            assert wanted is not None, (view, sent, reply)
            assert reply.body == wanted, (view, sent)
        else:
            assert sent != key or wanted is None, (view, sent, reply)
            assert reply.told == self.missing or reply.status in {400, 414, 431}, (view, sent, reply)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    with world_of(tmp_path_factory.mktemp("gateway")) as world, Wire(world.address) as wire:
        yield Fuzzed(world, wire)


WORDS = ("zarr.json", "image", "c", "0", "1", "2", "00", "-1", "x", "y", "thumbnail", "icc", "", ".", "..", "label",
         "macro",
         "zarr", ".zarray", "private", "store", "files.json.zst", "99999999999999999999", "1e1", "\u0661", "0\0",
         "c.0.0.0")  # fmt: skip
paths = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), min_size=1, max_size=8).map("/".join)


@given(view=st.sampled_from(VIEWS), key=paths)
@example(view=".zarr", key="0/image/c/0/0/0")
@settings(max_examples=EXAMPLES)
def test_a_key_is_canonical_or_not_there(fuzzed: Fuzzed, view: str, key: str) -> None:
    assume(not any("\ud800" <= letter <= "\udfff" for letter in key))
    quoted = urllib.parse.quote(key, safe="/!$&'()*+,;=:@~")
    fuzzed.check(view, quoted, key)


@given(view=st.sampled_from(VIEWS), data=st.data())
@settings(max_examples=EXAMPLES)
def test_a_canonical_key_with_something_done_to_it_is_another_key(
    fuzzed: Fuzzed, view: str, data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(fuzzed.keys[view])))
    at = data.draw(st.integers(0, len(key)))
    more = data.draw(
        st.sampled_from(["0", "/", "//", ".", "..", "/../", "/./", "%", "\0", " ", "-", "+", "c", "\\", ";", "é"])
    )
    cut = data.draw(st.integers(0, 2))
    changed = key[:at] + more + key[at + cut :]
    fuzzed.check(view, urllib.parse.quote(changed, safe="/;+-"), changed)


@given(view=st.sampled_from(VIEWS), data=st.data())
@settings(max_examples=EXAMPLES)
def test_every_encoding_of_a_key_is_that_key_or_none(fuzzed: Fuzzed, view: str, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(fuzzed.keys[view])))
    ways = st.sampled_from(["{0}", "{0}", "{0}", "%{1:02x}", "%{1:02X}", "%25{1:02x}", "%u00{1:02x}"])
    sent = "".join(data.draw(ways).format(letter, ord(letter)) for letter in key)
    meant = urllib.parse.unquote(sent)
    reply = fuzzed.wire.ask(f"{fuzzed.base(view)}/{sent}", fuzzed.own)
    if reply.status == 200:
        assert meant == key
        assert reply.body == fuzzed.keys[view][key]
    else:
        assert reply.told == fuzzed.missing or reply.status == 400


@given(target=st.binary(max_size=60))
@settings(max_examples=EXAMPLES)
def test_any_bytes_as_a_target_are_refused_in_good_order(fuzzed: Fuzzed, target: bytes) -> None:
    assume(not set(target) & set(b"\r\n"))
    with Wire(fuzzed.world.address) as wire:
        reply = wire.ask(b"/" + target, fuzzed.own)
    assert reply.status in {200, 307, 400, 404, 405, 414} or (reply.status == 401 and b"lung" not in reply.body), reply
    if reply.status == 200:
        assert target.split(b"?")[0].split(b"#")[0].strip() in {b"health", b"openapi.json", b"projects"}


SPECS = st.tuples(st.none() | st.integers(0, 10**6), st.none() | st.integers(0, 10**6)).map(
    lambda pair: "-".join("" if one is None else str(one) for one in pair)
)
headers = st.lists(SPECS | st.text(string.digits + "-,= \tabytes;", max_size=12), max_size=24).map(
    lambda specs: "bytes=" + ",".join(specs)
)


@given(header=headers | st.text(string.printable.translate({10: None, 13: None, 11: None, 12: None}), max_size=40))
@settings(max_examples=EXAMPLES)
def test_a_range_gives_the_bytes_it_names_or_all_or_none(fuzzed: Fuzzed, header: str) -> None:
    key = "0/image/c/0/0/0"
    whole = fuzzed.keys[".zarr"][key]
    assert whole is not None
    reply = fuzzed.wire.ask(f"{fuzzed.base('.zarr')}/{key}", {**fuzzed.own, "Range": header})
    assert reply.status in {200, 206, 400, 416}, (header, reply)
    assert len(reply.body) <= len(whole) + 17 * 200
    if reply.status == 200:
        assert reply.body == whole
    if reply.status == 206:
        for first, last, body in parts_of(reply.head["content-type"], reply.head.get("content-range", ""), reply.body):
            assert body == whole[first : last + 1], header


def parts_of(content_type: str, content_range: str, body: bytes) -> list[tuple[int, int, bytes]]:
    """Return first and last byte and content of the parts of an answer."""
    if not content_type.startswith("multipart/byteranges"):
        return [(*numbers(content_range), body)]
    boundary = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
    parts = []
    for part in body.split(boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        line = next(line for line in head.decode().splitlines() if line.lower().startswith("content-range"))
        parts.append((*numbers(line.partition(":")[2].strip()), content.removesuffix(b"\r\n")))
    assert parts
    return parts


def numbers(content_range: str) -> tuple[int, int]:
    first, _, last = content_range.removeprefix("bytes ").partition("/")[0].partition("-")
    return int(first), int(last)


def test_what_is_canonical_is_there_and_no_fuzzing_changed_it(fuzzed: Fuzzed) -> None:
    for view, keys in fuzzed.keys.items():
        assert sum(body is not None for body in keys.values()) > 10, view
        for key, body in keys.items():
            reply = fuzzed.wire.ask(f"{fuzzed.base(view)}/{key}", fuzzed.own)
            assert (reply.body if reply.status == 200 else None) == body, (view, key)
    assert fuzzed.world.files() == fuzzed.world.files_before
