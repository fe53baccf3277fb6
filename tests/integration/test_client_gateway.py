"""The client against the gateway itself: every preset and view, what goes over the wire, Dask's workers, refusals."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import gateway_kit
from tests.gateway_kit import PROJECT, TOKEN, MadeAccess, Running
from tests.site_kit import ingest, new_site, reencoded
from wsistore import ops
from wsistore.client import tokens
from wsistore.client.connecting import Connection, View, connect
from wsistore.compress import chunk_decoders
from wsistore.errors import DeniedError, MissingError, ObjectArchivedError, TransientError
from wsistore.model import Mode, Preset
from wsistore.ops.research_access import SLIDE_COLUMNS, SharedSlide
from wsistore.storage.http_service import HttpOptions
from wsistore.storage.retry import RetryPolicy
from wsistore.testing.pictures import pyramid
from wsistore.testing.tiffs import write_flat_tiff, write_svs
from wsistore.testing.tissue import tissue

pytestmark = pytest.mark.slow

SIZE = 700
NAMES = {"keep": "k" * 26, "fold": "f" * 26, "pack": "p" * 26, "whole": "w" * 26}
QUICK = HttpOptions(retry=RetryPolicy(attempts=3, first_delay_seconds=0.01, longest_delay_seconds=0.05))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ops.Site]:
    """A site with a slide in each preset, and one that is kept whole; named as in `NAMES`."""
    folder = tmp_path_factory.mktemp("site")
    with ops.open_site(new_site(folder)) as opened:
        for seed, name in enumerate(NAMES):
            path = folder / "slides" / f"{name}.svs"
            path.parent.mkdir(exist_ok=True)
            if name == "whole":
                path = write_flat_tiff(path.with_suffix(".tif"), tissue(SIZE, SIZE, seed=seed))
            else:
                write_svs(path, pyramid(tissue(SIZE, SIZE, seed=seed), 2, 2), tile=64)
            ingest(opened, path)
        for preset in (Preset.FOLD, Preset.PACK):
            reencoded(opened, f"{preset}.svs", preset)
        yield opened


@pytest.fixture(scope="module")
def slides(site: ops.Site) -> dict[str, ops.SlideRow] | Any:
    """Return the site's rows by the names of `NAMES`."""
    return {Path(row.name).stem: row for row in site.catalog.slides()}


@pytest.fixture(scope="module")
def access(slides: Any) -> MadeAccess:
    import pyarrow as pa

    shared, rows = {}, []
    for name, pseudonym in NAMES.items():
        mode = Mode.WHOLE if name == "whole" else Mode.TILES
        shared[pseudonym] = SharedSlide(pseudonym, slides[name].slide, mode, 0)
        rows.append(gateway_kit.row(pseudonym, mode=str(mode), patient=f"patient-{name}", um_per_px=0.5, width=SIZE))
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: str(row["slide"])), schema=SLIDE_COLUMNS)
    view = replace(gateway_kit.project_view({}), rows=table, slides=shared)
    return MadeAccess({TOKEN: gateway_kit.caller()}, {PROJECT: view})


@pytest.fixture(scope="module")
def gateway(site: ops.Site, access: MadeAccess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with gateway_kit.running(site, access, tmp_path_factory.mktemp("gateway")) as started:
        yield started


@pytest.fixture
def connection(gateway: Running) -> Iterator[Connection]:
    with connect(gateway.url, token=TOKEN, options=QUICK) as found:
        yield found
    tokens.forget(gateway.url)


def here(site: ops.Site, slides: Any, name: str) -> Any:
    return ops.open_slide(slides[name].slide, site=site)


@pytest.mark.parametrize("name", NAMES)
def test_a_slide_is_the_same_as_at_the_hospital(site: ops.Site, slides: Any, connection: Connection, name: str) -> None:
    with connection.open(NAMES[name]) as there, here(site, slides, name) as local:
        assert [(one.height, one.width) for one in there.levels] == [(one.height, one.width) for one in local.levels]
        assert there.um_per_px == pytest.approx(local.um_per_px) if local.um_per_px else there.um_per_px is None
        for level, one in enumerate(local.levels):
            expected = local.read_region(level, 0, 0, one.height, one.width)
            assert np.array_equal(there.read_region(level, 0, 0, one.height, one.width), expected)
        where = np.random.default_rng(1).integers(-50, SIZE, (30, 2))
        assert np.array_equal(there.read_patches(0, where, 100, 90), local.read_patches(0, where, 100, 90))
        tree = there.to_datatree()
        assert np.array_equal(
            np.moveaxis(np.asarray(tree["0/image"].to_numpy()), 0, -1), local.read_region(0, 0, 0, SIZE, SIZE)
        )


@pytest.mark.parametrize("view", ["jpeg", "zstd"])
@pytest.mark.parametrize("name", ["keep", "fold", "pack"])
def test_views_have_the_same_pixels(site: ops.Site, slides: Any, connection: Connection, name: str, view: View) -> None:
    with connection.open(NAMES[name], view=view) as there, here(site, slides, name) as local:
        assert np.array_equal(there.read_region(0, 50, 30, 500, 600), local.read_region(0, 50, 30, 500, 600))


@pytest.mark.parametrize(("name", "view"), [("fold", "stored"), ("pack", "stored"), ("fold", "jpeg"), ("keep", "jpeg")])
def test_folds_are_fetched_and_undone_once(
    site: ops.Site,
    slides: Any,
    gateway: Running,
    tmp_path: Path,
    name: str,
    view: View,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a folder keeps of a folded slide is what takes long: its tiles, not the folds."""
    where = np.random.default_rng(1).integers(-50, SIZE, (30, 2))
    with here(site, slides, name) as local:
        expected = local.read_patches(0, where, 100, 90)
    with (
        connect(gateway.url, token=TOKEN, cache=tmp_path, options=QUICK) as first,
        first.open(NAMES[name], view=view) as s,
    ):
        assert np.array_equal(s.read_patches(0, where, 100, 90), expected)
    monkeypatch.setattr(chunk_decoders.JpegFolds, "payloads", None)
    with (
        connect(gateway.url, token=TOKEN, cache=tmp_path, options=QUICK) as again,
        again.open(NAMES[name], view=view) as s,
    ):
        received = again.service.bytes_received
        assert np.array_equal(s.read_patches(0, where, 100, 90), expected)
        assert again.service.bytes_received - received < 6000, "the index of a shard at most"
        pixels = s.read_region(0, 0, 0, 64, 64)
        for path in tmp_path.rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes()[:-1])
        monkeypatch.undo()
        s.cache_bytes = 0
        assert np.array_equal(s.read_region(0, 0, 0, 64, 64), pixels), "what is damaged is fetched anew"
    tokens.forget(gateway.url)


def test_what_goes_over_the_wire_is_what_is_needed(site: ops.Site, slides: Any, connection: Connection) -> None:
    """Bytes of a region are those of its chunks, within a fifth; a warm region takes at most five round trips."""
    with connection.open(NAMES["keep"]) as slide:
        slide.cache_bytes = 0
        slide.read_region(0, 0, 0, 1, 1)
        service = connection.service
        requests, received = service.requests, service.bytes_received
        slide.read_region(0, 128, 64, 320, 256)  # whole tiles
        requests, received = service.requests - requests, service.bytes_received - received
    stored = here(site, slides, "keep")
    with stored:
        array = stored.group["0/image"]
        assert array.shards is not None
    assert requests <= 5
    chunks = _chunk_bytes(site, slides["keep"].slide, rows=range(2, 7), columns=range(1, 5))
    assert chunks <= received <= 1.2 * chunks + 20 * 150, "a part's header takes some hundred bytes"


def _chunk_bytes(site: ops.Site, slide: str, rows: range, columns: range) -> int:
    """Return how many bytes chunks of level 0 have, by the shard's index."""
    (copy,) = site.catalog.copies(slide)
    data = site.tier("hot").get(f"store/{slide}/{copy.attempt}/0/image/c/0/0/0")
    across = -(-SIZE // 64)
    index = np.frombuffer(data[-(across * across * 16 + 4) : -4], "<u8").reshape(across, across, 2)
    return int(index[rows.start : rows.stop, columns.start : columns.stop, 1].sum())


def test_patches_come_as_they_lie_at_the_hospital(site: ops.Site, slides: Any, connection: Connection) -> None:
    asked = connection.patches(96, 0.5, slides=[NAMES["keep"], NAMES["fold"]], mask=None, batch=16, seed=7)
    train, validation = asked.split(0.5, 0.5)
    assert not train.groups & validation.groups
    local = {NAMES[name]: here(site, slides, name) for name in ("keep", "fold")}
    count = 0
    for batch in asked:
        for slide, (y, x), pixels in zip(batch.slides, batch.positions / 0.5, batch.pixels, strict=True):
            assert np.array_equal(pixels, local[slide].read_region(0, round(y), round(x), 96, 96))
            count += 1
    assert count == 2 * (SIZE // 96) ** 2
    for one in local.values():
        one.close()


def test_a_search_is_the_projects_table(connection: Connection, access: MadeAccess) -> None:
    found = connection.search()
    assert list(found["slide"]) == sorted(NAMES.values())
    assert list(connection.search(patient=["patient-keep", "patient-pack"])["slide"]) == [NAMES["keep"], NAMES["pack"]]
    assert len(connection.search(min_width=SIZE + 1)) == 0
    assert connection.search_arrow().column_names == SLIDE_COLUMNS.names
    with pytest.raises(MissingError, match="no column"):
        connection.search(ssn=3)
    (project,) = connection.projects()
    assert project["name"] == PROJECT


def test_what_is_refused_is_said(gateway: Running, connection: Connection) -> None:
    with pytest.raises(MissingError, match="no slide"):
        connection.open("z" * 26)
    with pytest.raises(MissingError, match="no project elsewhere"):
        connect(gateway.url, "elsewhere", token=TOKEN).search()
    with pytest.raises(DeniedError):
        connect(gateway.url, token="wst_other_token").search()
    tokens.forget(gateway.url)


def test_a_token_that_is_revoked_is_refused_at_once(
    gateway: Running, connection: Connection, access: MadeAccess
) -> None:
    with connection.open(NAMES["keep"]) as slide:
        slide.cache_bytes = 0
        slide.read_region(0, 0, 0, 64, 64)
        caller = access.tokens.pop(TOKEN)
        try:
            with pytest.raises(DeniedError):
                slide.read_region(0, 64, 64, 64, 64)
        finally:
            access.tokens[TOKEN] = caller


def test_limits_are_waited_for(gateway: Running, connection: Connection, access: MadeAccess) -> None:
    access.limit(requests_per_second=20)
    try:
        for _ in range(30):
            connection.about(NAMES["keep"])  # the gateway says how long to wait, and the client does
    except TransientError:
        pytest.fail("a limit is no failure")
    finally:
        access.limit(requests_per_second=100_000)


def test_a_cold_slide_is_asked_for(
    gateway: Running, connection: Connection, access: MadeAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = access.views[PROJECT]
    rows = view.rows.to_pylist()
    for one in rows:
        one["readiness"] = "cold"
    access.views[PROJECT] = replace(view, rows=type(view.rows).from_pylist(rows, schema=SLIDE_COLUMNS))
    try:
        with pytest.raises(ObjectArchivedError, match="recall"):
            connection.open(NAMES["keep"])
    finally:
        access.views[PROJECT] = view
    assert connection.recall(NAMES["keep"])["state"] == "ready", "it was only said to be cold"


def test_dasks_workers_read_with_a_token_of_their_own(
    site: ops.Site, slides: Any, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph has no token: without `share_token` a worker has none, with it all of them do."""
    from distributed import Client, LocalCluster

    monkeypatch.delenv(tokens.VARIABLE, raising=False)
    with connection.open(NAMES["keep"]) as slide, here(site, slides, "keep") as local:
        tree = slide.to_datatree(chunks={"y": 256, "x": 256})
        expected = np.moveaxis(local.read_region(0, 0, 0, SIZE, SIZE), -1, 0).astype(np.uint64).sum(axis=(1, 2))
        total = tree["0/image"].astype("uint64").sum(dim=("y", "x")).data
        assert TOKEN.encode() not in pickle.dumps(dict(total.__dask_graph__()))
        with (
            LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            connection.share_token(client)
            assert np.array_equal(client.compute(total).result(timeout=240), expected)
