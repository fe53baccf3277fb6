"""The catalogue is lost, at every step of a move: the tiers alone bring back every slide, hold and event."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest

from tests.move_kit import TIERS, assert_at_rest, assert_whole, bare, dies, in_process, move, moved, places, tiered_site
from tests.site_kit import files_of, ingest, restored, tiny_series, tiny_svs, tiny_tiff
from wsistore import ops
from wsistore.catalog import schema
from wsistore.errors import ConflictError, IntegrityError, Kind, SiteError
from wsistore.events import EventKind
from wsistore.model import CopyState, Preset
from wsistore.ops.ledgers import tell
from wsistore.ops.metadata import read_metadata
from wsistore.testing.clock import ManualClock
from wsistore.tiers import ledger


@pytest.fixture(autouse=True)
def _in_process() -> Iterator[None]:
    with in_process():
        yield


def catalog_file(site: ops.Site) -> Path:
    return Path(site.settings.catalog_url.removeprefix("sqlite:///"))


def lose(site: ops.Site) -> None:
    """Delete the catalogue."""
    site.catalog.close()
    place = catalog_file(site)
    for suffix in ("", "-wal", "-shm"):
        place.with_name(place.name + suffix).unlink(missing_ok=True)


def rebuilt(site: ops.Site, *tiers: str, **options: object) -> ops.Rebuilding:
    """Make the catalogue anew from the site's tiers, which are in memory."""
    with mock.patch("wsistore.ops.rebuilding.open_tier", lambda tier, **_: bare(site, tier.name)):
        return ops.rebuild_catalog(site.folder, tiers, clock=site.clock, **options)  # type: ignore[arg-type]


@contextmanager
def reopened(site: ops.Site) -> Iterator[ops.Site]:
    """Open the site with its new catalogue."""
    other = ops.open_site(site.folder, clock=site.clock)
    other._tiers |= {name: bare(site, name) for name in TIERS}
    with other:
        yield other


def told(site: ops.Site) -> None:
    for tier in TIERS:
        tell(site, tier, with_head=True)


def known(site: ops.Site) -> dict[str, object]:
    """Return all that the catalogue says of its slides, but the events of rebuilds, and commits that are gone."""
    return {
        row.slide: (
            row,
            site.catalog.source(row.slide),
            [
                replace(copy, commit_body="") if copy.state is CopyState.DROPPED else copy
                for copy in site.catalog.copies(row.slide, with_past=True)
            ],
            site.catalog.holds(row.slide),
            [event for event in site.catalog.events(row.slide) if event.kind != "rebuilt"],
        )
        for row in site.catalog.slides()
    }


def test_all_that_was_known_is_known_again(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        paths = [
            tiny_tiff(tmp_path / "in" / "a.tiff"),
            tiny_svs(tmp_path / "in" / "b.svs"),
            tiny_series(tmp_path / "c"),
        ]
        table = tmp_path / "slides.csv"
        table.write_text(
            "file,case_id,patient_id,stain\na.tiff,CASE-1,PATIENT-0001,HE\nb.svs,CASE-1,PATIENT-0001,IHC\n"
        )
        key = {Path(one.source): str(one.slide) for one in ops.ingest(site, paths, metadata=read_metadata(table))}
        slides = [key[path] for path in paths]
        moved(site, slides[0], "warm", preset=Preset.FOLD)
        moved(site, slides[1], "cold", preset=Preset.PACK, keep_source=True)
        list(ops.hold(site, [slides[2]], "a court asked"))
        list(ops.verify(site, slides))
        told(site)
        before = known(site)
        lose(site)
        done = rebuilt(site)
        assert (done.slides, done.copies, done.holds) == (3, 4, 1)
        assert (done.problems, done.suspect, done.without_copies, done.from_companions) == ((), (), (), 0)
        assert all(proof.signed == "known" and proof.head_agrees and proof.head_at for proof in done.proofs)
        with reopened(site) as again:
            assert known(again) == before
            assert again.catalog.check_chains() == []
            assert [event.kind for event in again.catalog.events(slides[0])][-1] == "rebuilt"
            for path, slide in zip(paths, slides, strict=True):
                assert restored(again, slide) == files_of(path)
            moved(again, slides[0], "hot", preset=Preset.KEEP)
            assert all(result.ok for result in ops.verify(again, slides))
            told(again)
            assert all(not check.problems and not check.waiting for check in ops.check_ledgers(again))


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_lost_at_every_call_of_a_move(tmp_path: Path, *, after: bool) -> None:
    """A move dies, and the catalogue is gone with it: the slide comes back, and the move can be made again.

    Before and after every other call that changes something: all is met that a death can leave behind (see `dies`).
    """
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    losses = 0
    for nth in range(1, 1000, 2):
        folder = tmp_path / f"site{nth}"
        with tiered_site(folder) as site:
            slide, files = str(ingest(site, path)[0].slide), files_of(path)
            told(site)
            act = functools.partial(move, site, slide, "warm")
            fate = dies(site, act, nth, after=after, changes=True)
            lose(site)
            done = rebuilt(site)
            assert (done.slides, done.problems) == (1, ()), fate.calls[-1]
            with reopened(site) as again:
                assert_whole(again, slide, files)
                assert ops.recover(again).failed == 0
                assert_whole(again, slide, files)
                moved(again, slide, "warm")
                assert places(again, slide) == {"warm": "committed"}
                assert_whole(again, slide, files)
        if not fate.is_dead:
            break
        losses += 1
    assert losses > 10


def test_a_slide_that_no_ledger_knows_is_read_from_its_companion(tmp_path: Path) -> None:
    path = tiny_svs(tmp_path / "in" / "b.svs")
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, path)[0].slide)
        moved(site, slide, "cold", preset=Preset.PACK)
        lose(site)
        done = rebuilt(site)
        assert (done.slides, done.copies, done.from_companions) == (1, 1, 1)
        with reopened(site) as again:
            assert again.catalog.slide(slide).name == "b.svs"
            assert again.catalog.copies(slide)[0].encoding != {}
            assert_whole(again, slide, files_of(path))
            moved(again, slide, "hot", preset=Preset.KEEP)
            assert_at_rest(again, slide, files_of(path), "hot")


def test_a_copy_without_its_objects_is_no_good_one(tmp_path: Path) -> None:
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, path)[0].slide)
        moved(site, slide, "warm", keep_source=True)
        told(site)
        key = next(info.key for info in bare(site, "hot").list(f"store/{slide}/"))
        bare(site, "hot").delete(key)
        lose(site)
        done = rebuilt(site)
        assert (done.copies, len(done.suspect)) == (1, 1)
        assert key in done.suspect[0]
        with reopened(site) as again:
            assert places(again, slide) == {"hot": "suspect", "warm": "committed"}
            assert restored(again, slide) == files_of(path)


def test_a_copy_that_failed_its_verification_is_not_believed_again(tmp_path: Path) -> None:
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, path)[0].slide)
        moved(site, slide, "warm", keep_source=True)
        hot = bare(site, "hot")
        key = next(info.key for info in hot.list(f"store/{slide}/") if "/c/" in info.key)
        data = hot.get(key)
        hot.put(key, data[:-1] + bytes([data[-1] ^ 1]))
        assert not all(result.ok for result in ops.verify(site, [slide]))
        told(site)
        lose(site)
        assert rebuilt(site).copies == 1
        with reopened(site) as again:
            assert places(again, slide) == {"hot": "suspect", "warm": "committed"}
            assert restored(again, slide) == files_of(path)


def test_a_tier_that_is_left_out_loses_nothing(tmp_path: Path) -> None:
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, path)[0].slide)
        moved(site, slide, "cold")
        told(site)
        before = {info.key for info in bare(site, "cold").list()}
        lose(site)
        done = rebuilt(site, "hot", "warm")
        assert (done.slides, done.copies, done.without_copies) == (1, 0, (slide,))
        assert {info.key for info in bare(site, "cold").list()} == before
        done = rebuilt(site, replace=True)
        assert (done.slides, done.copies, done.problems) == (1, 1, ())
        assert Path(done.set_aside).is_file()
        with reopened(site) as again:
            assert_whole(again, slide, files_of(path))


def test_a_log_that_was_left_alone_is_not_taken_for_the_new_catalogues(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        ingest(site, tiny_tiff(tmp_path / "in" / "a.tiff"))
        told(site)
        log = catalog_file(site).with_name("catalog.db-wal")
        content = log.read_bytes()
        assert content
        lose(site)
        log.write_bytes(content)
        done = rebuilt(site)
        assert Path(f"{done.set_aside}-wal").read_bytes() == content
        again = rebuilt(site, replace=True)  # within the same second: nothing that was set aside is written over
        assert Path(again.set_aside).is_file()
        assert Path(f"{done.set_aside}-wal").read_bytes() == content


def test_a_catalogue_that_is_there_stays(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        ingest(site, tiny_tiff(tmp_path / "in" / "a.tiff"))
        content = catalog_file(site).read_bytes()
        with pytest.raises(SiteError, match="already") as caught:
            rebuilt(site)
        assert caught.value.kind is Kind.SITE_EXISTS
        assert catalog_file(site).read_bytes() == content
        assert sorted(one.name for one in site.folder.glob("*catalog*")) == sorted(
            one.name for one in site.folder.glob("catalog.db*")
        )


def test_a_tier_that_fails_leaves_no_catalogue(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        ingest(site, tiny_tiff(tmp_path / "in" / "a.tiff"))
        lose(site)
        with (
            mock.patch("wsistore.ops.merging.next_event", side_effect=KeyboardInterrupt),
            pytest.raises(KeyboardInterrupt),
        ):
            rebuilt(site)
        assert list(site.folder.glob("*catalog*")) == []
        assert rebuilt(site).slides == 1


# --- ledgers ----------------------------------------------------------------------------------------------------------


def test_an_older_catalogue_is_noticed_and_brought_up_to_date(tmp_path: Path) -> None:
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, path)[0].slide)
        made = ops.backup_catalog(site)
        assert not made.untold
        moved(site, slide, "warm")
        list(ops.hold(site, [slide], "a court asked"))
        told(site)
        lose(site)
        catalog_file(site).write_bytes(Path(made.path).read_bytes())
        with reopened(site) as old:
            assert any("lacks events" in problem for check in ops.check_ledgers(old) for problem in check.problems)
            old.note(slide, EventKind.RESTORED, {})
            for _ in range(2):
                old.catalog.append_event(slide, EventKind.METADATA_CHANGED, "operator", {})
            with pytest.raises(ConflictError, match="does not know"):
                tell(old, "hot")
        done = rebuilt(site, base=Path(made.path), replace=True)
        assert (done.slides, done.copies, done.holds) == (1, 1, 1)
        with reopened(site) as again:
            assert places(again, slide) == {"warm": "committed"}
            assert [hold.reason for hold in again.catalog.holds(slide)] == ["a court asked"]
            assert_whole(again, slide, files_of(path))
            told(again)


def test_an_event_that_was_altered_in_the_catalogue_shows(tmp_path: Path) -> None:
    """Somebody with the right to write the catalogue makes a whole chain anew: only the tiers know better."""
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, tiny_tiff(tmp_path / "in" / "a.tiff"))[0].slide)
        moved(site, slide, "warm")
        told(site)
        with site.catalog._database.write() as connection:
            connection.execute(schema.events.delete().where(schema.events.c.number > 1))
        assert site.catalog.check_chains() == []
        problems = [problem for check in ops.check_ledgers(site) for problem in check.problems]
        assert len(problems) == len(TIERS)
        assert all("lacks events 2 to 4" in problem for problem in problems)


@pytest.mark.parametrize("harm", ["altered", "taken", "swapped", "head"])
def test_a_ledger_that_was_altered_shows_and_the_others_tell_all(tmp_path: Path, harm: str) -> None:
    path = tiny_tiff(tmp_path / "in" / "a.tiff")
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, path)[0].slide)
        told(site)
        moved(site, slide, "warm")
        told(site)
        list(ops.hold(site, [slide], "a court asked"))
        told(site)
        cold, keys = bare(site, "cold"), ledger.find_segments(bare(site, "cold"))
        assert len(keys) == 3
        if harm == "altered":
            data = cold.get(keys[1])
            cold.put(keys[1], data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
        elif harm == "taken":
            cold.delete(keys[1])
        elif harm == "swapped":
            cold.put(keys[1], cold.get(keys[0]))
        else:
            key = ledger.find_heads(cold)[-1]
            cold.put(key, cold.get(ledger.find_heads(bare(site, "hot"))[-1]))
            cold.put(
                key,
                ledger.encode_head(ledger.Head(tier="x", segment=3, digest="0" * 64, at="", slides=1, root="0"), None),
            )
        lose(site)
        done = rebuilt(site)
        assert any("cold" in problem for problem in done.problems)
        with reopened(site) as again:
            assert places(again, slide) == {"warm": "committed"}
            assert len(again.catalog.holds(slide)) == 1
            assert again.catalog.check_chains() == []


def test_a_writer_that_died_after_its_segment_is_followed(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, tiny_tiff(tmp_path / "in" / "a.tiff"))[0].slide)
        dying = mock.patch.object(type(site.catalog), "ledger_advance", side_effect=KeyboardInterrupt)
        with dying, pytest.raises(KeyboardInterrupt):
            tell(site, "hot")
        site.catalog.append_event(slide, EventKind.METADATA_CHANGED, "operator", {})
        assert tell(site, "hot").segments == 2
        assert next(ops.check_ledgers(site, ["hot"])).problems == ()
        assert next(ops.check_ledgers(site, ["hot"])).waiting == 0


def test_what_only_reads_waits_for_the_next_change(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, tiny_tiff(tmp_path / "in" / "a.tiff"))[0].slide)
        assert tell(site, "hot").written == 1
        tier = site.tier_settings("hot").id
        site.note(slide, EventKind.RESTORED, {})
        assert not site.catalog.ledger_is_due(tier)
        list(ops.hold(site, [slide], "a court asked"))
        assert site.catalog.ledger_is_due(tier)
        assert tell(site, "hot").segments == 2
        assert not site.catalog.ledger_is_due(tier)
        assert tell(site, "hot").written == 0


def test_a_ledger_of_many_slides_begins_in_portions(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site, mock.patch("wsistore.catalog.changes.SLIDES_PER_SEGMENT", 2):
        paths = [tiny_tiff(tmp_path / "in" / f"{n}.tiff", seed=n) for n in range(5)]
        slides = [str(one.slide) for one in ops.ingest(site, paths)]
        assert tell(site, "hot").segments == 3
        list(ops.hold(site, slides, "a court asked"))
        assert tell(site, "hot").segments == 6
        lose(site)
        done = rebuilt(site)
        assert (done.slides, done.holds, done.problems) == (5, 5, ())


def test_a_tier_on_a_new_medium_gets_a_ledger_that_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, tiny_tiff(tmp_path / "in" / "a.tiff"))[0].slide)
        told(site)
        list(ops.hold(site, [slide], "a court asked"))
        told(site)
        cold = bare(site, "cold")
        for info in list(cold.list(f"{ledger.LEDGER}/")):
            cold.delete(info.key)
        list(ops.release(site, [slide]))
        assert tell(site, "cold").segments == 1
        assert "begins anew" in caplog.text
        check = next(ops.check_ledgers(site, ["cold"]))
        assert (check.problems, check.waiting) == ((), 0)
        lose(site)
        assert rebuilt(site, "cold").problems == ()


def test_a_last_segment_that_was_taken_shows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with tiered_site(tmp_path / "site") as site:
        slide = str(ingest(site, tiny_tiff(tmp_path / "in" / "a.tiff"))[0].slide)
        told(site)
        list(ops.hold(site, [slide], "a court asked"))
        told(site)
        bare(site, "cold").delete(ledger.segment_key(2))
        list(ops.release(site, [slide]))
        told(site)
        assert "took it away" in caplog.text
        check = next(ops.check_ledgers(site, ["cold"]))
        assert any("does not follow" in problem for problem in check.problems)


def test_a_root_is_signed_once_a_day(tmp_path: Path) -> None:
    clock = ManualClock()
    with tiered_site(tmp_path / "site", clock=clock) as site:
        slide = str(ingest(site, tiny_tiff(tmp_path / "in" / "a.tiff"))[0].slide)
        heads = []
        for hours in (0, 1, 24, 1):
            clock.advance(timedelta(hours=hours).total_seconds())
            site.catalog.append_event(slide, EventKind.METADATA_CHANGED, "operator", {})
            tell(site, "hot")
            heads.append(len(ledger.find_heads(bare(site, "hot"))))
        assert heads == [1, 1, 2, 2]


def test_keys_that_were_lost_are_said_to_be_foreign(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        ingest(site, tiny_tiff(tmp_path / "in" / "a.tiff"))
        told(site)
        shutil.rmtree(site.settings.keys)
        lose(site)
        assert {str(proof.signed) for proof in rebuilt(site).proofs} == {"foreign"}


def test_a_backup_is_never_written_over(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        ingest(site, tiny_tiff(tmp_path / "in" / "a.tiff"))
        target = tmp_path / "copy.db"
        target.write_bytes(b"mine")
        with pytest.raises(ConflictError):
            ops.backup_catalog(site, target)
        assert target.read_bytes() == b"mine"
        assert [one.name for one in tmp_path.glob(".copy*")] == []
        for _ in range(4):
            made = ops.backup_catalog(site, keep=2)
        assert len(list(Path(made.path).parent.iterdir())) == 2
        assert Path(made.path).stat().st_mode & 0o777 == 0o600


def test_a_damaged_catalogue_makes_no_backup(tmp_path: Path) -> None:
    with tiered_site(tmp_path / "site") as site:
        ingest(site, tiny_tiff(tmp_path / "in" / "a.tiff"))
        told(site)
        site.catalog.close()
        path = catalog_file(site)
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 4096] = bytes(4096)
        path.write_bytes(data)
        with pytest.raises((SiteError, IntegrityError)):
            ops.backup_catalog(site, tmp_path / "copy.db")
        assert not (tmp_path / "copy.db").exists()
