"""What a tier's settings forbid or tell: closed tiers, capacities and watermarks, early ends, too few copies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread

import pytest

from tests.site_kit import Json, cli, files_of, ingest, new_site, reencode, restored, state_of, tiny_svs, tiny_tiff
from wsistore import ops
from wsistore.errors import FullError, Kind
from wsistore.execute import SerialExecutor
from wsistore.model import Preset
from wsistore.ops.reservations import Reservations
from wsistore.ops.room import Room
from wsistore.testing.clock import ManualClock
from wsistore.tiers.prices import load_prices

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
EXPIRED = 'hds_certificate = {number = "HDS-1", valid_until = 2026-05-31}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_site(tmp_path / "site")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny_svs(tmp_path / "in" / "a.svs")


def tell(folder: Path, tier: str, *lines: str) -> None:
    """Add lines to a tier's settings."""
    file = folder / "wsistore.toml"
    head = f"[tiers.{tier}]\n"
    text = file.read_text()
    assert head in text
    file.write_text(text.replace(head, head + "".join(f"{line}\n" for line in lines)))


@contextmanager
def opened(folder: Path, clock: ManualClock) -> Iterator[ops.Site]:
    with ops.open_site(folder, clock=clock) as site:
        yield site


def moved(site: ops.Site, slide: str, to: str, **options: object) -> ops.MoveResult:
    (result,) = ops.move(site, [slide], to, executor=SerialExecutor(), **options)  # type: ignore[arg-type]
    return result


def state(folder: Path) -> Json:
    """Return what a refused slide must not change: all but the site's own key and ledger."""
    found = state_of(folder)
    own = ("/keys/", "/ledger/")
    return found | {"files": {name: kept for name, kept in found["files"].items() if not any(o in name for o in own)}}


def kind_of(result: ops.MoveResult | ops.IngestResult | ops.ReencodeResult) -> str | None:
    return None if result.error is None else result.error.kind


# --- closed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "said"), [(EXPIRED, "HDS-1"), ('closed = "is replaced in March"', "is replaced in")])
def test_closed_tier_takes_nothing_new(folder: Path, path: Path, clock: ManualClock, line: str, said: str) -> None:
    tell(folder, "warm", line)
    with opened(folder, clock) as site:
        slide = ingest(site, path)[0].slide or ""
        site.tier("warm")  # the catalogue notes a tier when it is first used
        before = state(folder)
        refused: list[ops.MoveResult | ops.IngestResult] = [
            moved(site, slide, "warm"),
            moved(site, slide, "warm", keep_source=True),
            moved(site, slide, "warm", dry_run=True),
            *ops.ingest(site, [tiny_tiff(path.parent / "b.tiff")], tier="warm"),
        ]
        assert [kind_of(result) for result in refused] == ["tier-closed"] * 4
        assert all(result.error and said in result.error.message for result in refused)
        assert all(result.error and "Choose another tier" in result.error.message for result in refused)
    assert state(folder) == before


def test_what_is_in_a_tier_that_is_closed_can_be_used_and_leave_it(
    folder: Path, path: Path, clock: ManualClock
) -> None:
    with opened(folder, clock) as site:
        slide = ingest(site, path, tier="warm")[0].slide or ""
        assert moved(site, slide, "cold", keep_source=True).error is None
    tell(folder, "warm", EXPIRED)
    with opened(folder, clock) as site:
        assert [result.status for result in ops.ingest(site, [path], tier="warm")] == ["exists"]
        assert restored(site, slide) == files_of(path)
        assert all(result.ok for result in ops.verify(site, [slide]))
        assert kind_of(reencode(site, slide, Preset.PACK, tier="warm")) == "tier-closed"
        # a good copy is there: nothing is written, and the other one may go
        assert moved(site, slide, "warm").dropped == ("cold",)
        assert moved(site, slide, "hot").dropped == ("warm",)
        assert restored(site, slide) == files_of(path)


def test_command_says_what_to_do_about_a_closed_tier(folder: Path, path: Path) -> None:
    tell(folder, "hot", 'closed = "is replaced in March"')
    done = cli(folder, "ingest", path, "--json")
    assert (done.code, done.lines[0]["error"]["kind"]) == (8, "tier-closed")
    (row, *_) = cli(folder, "tier", "ls", "--json").lines
    assert (row["state"], row["why_closed"]) == ("closed", "The tier 'hot' is closed: is replaced in March.")
    assert "It takes no new copies." in cli(folder, "tier", "ls").err


# --- capacity ---------------------------------------------------------------------------------------------------------


def test_what_would_go_over_the_capacity_is_refused_with_the_figures(
    folder: Path, path: Path, clock: ManualClock
) -> None:
    other = tiny_svs(path.parent / "b.svs", seed=2)
    size = min(file.stat().st_size for file in (path, other))
    tell(folder, "warm", f'capacity = "{size - 1}"')
    with opened(folder, clock) as site:
        slide = ingest(site, path)[0].slide or ""
        site.tier("warm")
        before = state(folder)
        refused: list[ops.MoveResult | ops.IngestResult] = [
            moved(site, slide, "warm"),
            moved(site, slide, "warm", dry_run=True),
            moved(site, slide, "warm", preset=Preset.PACK),
            *ops.ingest(site, [other], tier="warm"),
        ]
        assert [kind_of(result) for result in refused] == ["capacity-exceeded"] * 4
        assert all(result.error and result.error.exit_code == 6 for result in refused)
        assert refused[0].error
        assert "left of its capacity of" in refused[0].error.message
    assert state(folder) == before


def test_capacity_is_that_of_all_copies_and_one_that_fits_is_taken(
    folder: Path, path: Path, clock: ManualClock
) -> None:
    with opened(folder, clock) as site:
        first = ingest(site, path)[0]
        second = ingest(site, tiny_svs(path.parent / "b.svs", seed=2))[0]
    one, two = (result.bytes_stored or 0 for result in (first, second))
    tell(folder, "warm", f'capacity = "{one + two}"')
    with opened(folder, clock) as site:
        assert kind_of(moved(site, first.slide or "", "warm")) is None
        assert kind_of(moved(site, second.slide or "", "warm")) is None
        (third,) = ops.ingest(site, [tiny_tiff(path.parent / "c.tiff")], tier="warm")
        assert kind_of(third) == "capacity-exceeded"
        assert moved(site, first.slide or "", "hot").error is None  # makes room
        (third,) = ops.ingest(site, [tiny_tiff(path.parent / "c.tiff")], tier="warm")
        assert third.error is None


def test_plans_of_several_slides_share_the_room(folder: Path, path: Path) -> None:
    paths = [path, tiny_svs(path.parent / "b.svs", seed=2)]
    taken = cli(folder, "ingest", *paths, "--json").lines
    tell(folder, "warm", f'capacity = "{max(line["bytes_stored"] for line in taken)}"')
    slides = [line["slide"] for line in taken]
    asked = cli(folder, "move", *slides, "--to", "warm", "--dry-run", "--json").lines
    assert [line["status"] for line in asked] == ["planned", "failed"]
    done = cli(folder, "move", *slides, "--to", "warm", "--json", "--jobs", "2")
    assert sorted(line["status"] for line in done.lines) == ["failed", "moved"]
    assert done.code == 6


def test_threads_never_take_more_than_there_is() -> None:
    room, barrier, taken = Reservations(), Barrier(8), []

    def one(number: int) -> None:
        barrier.wait()
        taken.append(room.take("warm", 10, 45, by=number, now=0.0, ask=lambda: 5)[1])

    threads = [Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False] * 4 + [True] * 4


def test_room_is_given_back_by_what_fails_and_kept_by_what_was_written() -> None:
    room, stored = Reservations(), [0]

    def take(by: str, size: int = 60, now: float = 0.0) -> tuple[int, bool]:
        return room.take("warm", size, 100, by=by, now=now, ask=lambda: stored[0])

    assert take("a") == (0, True)
    assert take("a", 70) == (0, True)  # instead, not besides
    assert take("b") == (70, False)
    room.give_back("warm", by="a", is_written=False)
    assert take("b") == (0, True)
    stored[0] = 60
    room.give_back("warm", by="b", is_written=True)
    assert take("c") == (60, False)
    assert take("c", 30) == (60, True)
    room.give_back("warm", by="c", is_written=False)
    stored[0] = 10  # another process dropped something: seen when a copy would not fit, or after a minute
    assert take("d") == (10, True)


def test_refusal_names_slide_tier_and_figures(folder: Path, clock: ManualClock) -> None:
    tell(folder, "hot", 'capacity = "10 MB"')
    with opened(folder, clock) as site, Room(site, "hot") as room, pytest.raises(FullError) as caught:
        room.take("Slide abcd", 12_000_000)
    assert caught.value.message == (
        "Slide abcd needs up to 12.0 MB in tier hot, which has 10.0 MB left of its capacity of 10.0 MB."
    )
    assert caught.value.kind is Kind.CAPACITY_EXCEEDED


def test_above_the_high_watermark_everything_goes_on_with_a_warning(folder: Path, path: Path) -> None:
    (taken,) = cli(folder, "ingest", path, "--json").lines
    size = taken["bytes_stored"]
    tell(folder, "warm", f'capacity = "{int(size * 1.25)}"', 'high_watermark = "70 %"', 'low_watermark = "60 %"')
    (asked,) = cli(folder, "move", taken["slide"], "--to", "warm", "--dry-run", "--json").lines
    said = "Tier warm gets 80% full, above its high watermark of 70%: relieve it to 60%."
    assert asked["warnings"] == [said]
    done = cli(folder, "copy", taken["slide"], "--to", "warm")
    assert done.code == 0
    assert said in done.err
    rows = {row["tier"]: row for row in cli(folder, "tier", "ls", "--json").lines}
    assert (rows["warm"]["state"], rows["hot"]["state"]) == ("above-watermark", "open")
    assert rows["warm"]["fill"] == pytest.approx(0.8, abs=0.01)
    shown = cli(folder, "tier", "ls")
    assert "80%" in shown.out
    assert "above-watermark" in shown.out
    assert "warm is 80% full" in shown.err


def test_ingest_warns_of_the_watermark_once_for_all_slides(folder: Path, tmp_path: Path) -> None:
    paths = [tiny_tiff(tmp_path / f"{seed}.tiff", seed=seed) for seed in range(3)]
    tell(folder, "hot", 'capacity = "1 GB"', 'high_watermark = "0.000001 %"', 'low_watermark = "0 %"')
    done = cli(folder, "ingest", *paths, "--jobs", "1")
    assert done.code == 0
    assert done.err.count("above its high watermark") == 1
    assert "(and 2 more)" in done.err


# --- minimum storage days ---------------------------------------------------------------------------------------------


def test_early_ends_are_told_with_days_and_money(folder: Path, path: Path, clock: ManualClock) -> None:
    tell(folder, "cold", 'prices = "ovh-cold-archive"')
    with opened(folder, clock) as site:
        slide = ingest(site, path, tier="cold")[0].slide or ""
        clock.advance(timedelta(days=80).total_seconds())
        asked = moved(site, slide, "hot", dry_run=True)
        (told,) = asked.early
        prices, (copy,) = load_prices("ovh-cold-archive"), site.catalog.copies(slide)
        months = 100 / (365.25 / 12)
        assert (told.tier, told.prices) == ("cold", "ovh-cold-archive")
        assert told.days_left == pytest.approx(100, abs=0.01)
        assert told.eur == pytest.approx(prices.storage_per_tb_month.central * copy.bytes_stored / 1e12 * months)
        assert told.eur_low <= told.eur <= told.eur_high
        assert "The copy in tier cold is billed for 100 more days (less than 0.01 EUR, ovh-" in str(told)
        done = moved(site, slide, "hot")
        assert (done.status, done.dropped) == ("moved", ("cold",))
        assert done.early[0].days_left == pytest.approx(100, abs=0.01)
        assert moved(site, slide, "warm").early == ()  # the hospital's own disks bill no least days


def test_verifying_a_copy_does_not_begin_its_days_anew(folder: Path, path: Path, clock: ManualClock) -> None:
    tell(folder, "warm", "minimum_storage_days = 30")
    with opened(folder, clock) as site:
        slide = ingest(site, path, tier="warm")[0].slide or ""
        assert moved(site, slide, "cold", keep_source=True).error is None
        clock.advance(timedelta(days=10).total_seconds())
        assert all(result.ok for result in ops.verify(site, [slide]))
        (asked,) = ops.drop(site, [slide], "warm", dry_run=True)
        assert [end.days_left for end in asked.early] == [pytest.approx(20, abs=0.01)]
        clock.advance(timedelta(days=20).total_seconds())
        (done,) = ops.drop(site, [slide], "warm")
        assert (done.status, done.early) == ("dropped", ())


def test_command_tells_of_early_ends(folder: Path, path: Path) -> None:
    tell(folder, "hot", "minimum_storage_days = 30")
    slide = cli(folder, "ingest", path, "--json").lines[0]["slide"]
    (line,) = cli(folder, "move", slide, "--to", "warm", "--dry-run", "--json").lines
    (early,) = line["early"]
    assert set(early) == {"tier", "days_left", "eur", "prices"}
    assert set(early["eur"]) == {"low", "central", "high"}
    done = cli(folder, "move", slide, "--to", "warm")
    assert done.code == 0
    assert "The copy in tier hot is billed for 30 more days" in done.err


# --- required copies, evidence and holds ------------------------------------------------------------------------------


def listed(folder: Path, tier: str) -> Json:
    return next(row for row in cli(folder, "tier", "ls", "--json").lines if row["tier"] == tier)


def test_slides_with_too_few_good_copies_are_told_of(folder: Path, path: Path) -> None:
    tell(folder, "hot", "required_copies = 2")
    (line,) = cli(folder, "ingest", path, "--json").lines
    (said,) = line["warnings"]
    assert said == "It has good copies in 1 tier, and 2 are required: 'wsistore copy' makes another."
    shown = cli(folder, "show", line["slide"], "--json").lines[0]
    assert (shown["copies_good"], shown["copies_required"]) == (1, 2)
    assert "good copies in 1 of 2 tiers required" in cli(folder, "show", line["slide"]).err
    assert listed(folder, "hot")["slides_short_of_copies"] == 1
    assert "1 slides in hot have good copies in fewer than 2 tiers" in cli(folder, "tier", "ls").err
    assert cli(folder, "copy", line["slide"], "--to", "warm").code == 0
    shown = cli(folder, "show", line["slide"], "--json").lines[0]
    assert (shown["copies_good"], shown["copies_required"]) == (2, 2)
    assert "required" not in cli(folder, "show", line["slide"]).err
    assert listed(folder, "hot")["slides_short_of_copies"] == 0
    assert cli(folder, "ingest", path, "--json").lines[0]["warnings"] == []


def test_a_suspect_copy_does_not_count(folder: Path, path: Path, clock: ManualClock) -> None:
    with opened(folder, clock) as site:
        slide = ingest(site, path)[0].slide or ""
    tile = next(
        file for file in (folder / "tiers/hot/store").rglob("*") if "/0/image/c" in str(file) and file.is_file()
    )
    tile.chmod(0o644)
    tile.write_bytes(b"\0" * tile.stat().st_size)
    assert cli(folder, "verify", slide).code == 7
    shown = cli(folder, "show", slide, "--json").lines[0]
    assert (shown["copies_good"], shown["copies_required"]) == (0, 1)
    assert listed(folder, "hot")["slides_short_of_copies"] == 1
    assert listed(folder, "warm")["slides_short_of_copies"] == 0


@pytest.mark.parametrize(("hours", "reads"), [(1, True), (100, False)])
def test_site_says_how_old_evidence_may_be(
    folder: Path, path: Path, clock: ManualClock, hours: int, reads: bool
) -> None:
    file = folder / "wsistore.toml"
    file.write_text(file.read_text() + f"\n[evidence]\nbegin_hours = {hours}\n")
    with opened(folder, clock) as site:
        slide = ingest(site, path)[0].slide or ""
        assert moved(site, slide, "warm", keep_source=True).error is None
        clock.advance(timedelta(hours=50).total_seconds())
        (done,) = ops.drop(site, [slide], "hot")
        assert done.status == "dropped"
        kinds = [event.kind for event in site.catalog.events(slide)]
    assert ("verified" in kinds) is reads


def test_show_lists_holds(folder: Path, path: Path) -> None:
    slide = cli(folder, "ingest", path, "--json").lines[0]["slide"]
    assert cli(folder, "show", slide, "--json").lines[0]["holds"] == []
    assert "on hold" not in cli(folder, "show", slide).out
    for reason in ("court case 12/2026", "teaching"):
        assert cli(folder, "hold", "add", slide, "--reason", reason).code == 0
    holds = cli(folder, "show", slide, "--json").lines[0]["holds"]
    assert [hold["reason"] for hold in holds] == ["court case 12/2026", "teaching"]
    assert all(set(hold) == {"reason", "actor", "placed_at"} for hold in holds)
    shown = cli(folder, "show", slide).out
    assert "on hold because" in shown
    assert holds[0]["actor"] in shown
    assert "court case 12/2026" in shown
    assert json.dumps(holds)
