"""Bad input: each with its exit code, a message that names file and remedy, and a site that is as it was before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.site_kit import (
    Ran,
    as_nobody,
    assert_sound,
    cli,
    files_of,
    ingest,
    memory_site,
    new_site,
    picture,
    restored,
    run,
    state_of,
    stored_keys,
    tiny_series,
    tiny_svs,
    tiny_tiff,
)
from wsistore import ops
from wsistore.ops import sources
from wsistore.slides import registry
from wsistore.storage.base import MARKER_KEY
from wsistore.testing import mutate
from wsistore.testing.dicom import write_series


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a site that holds one good slide."""
    folder = new_site(tmp_path / "site")
    assert cli(folder, "ingest", tiny_svs(tmp_path / "good" / "good.svs", seed=99)).code == 0
    return folder


def _truncated(folder: Path) -> Path:
    return mutate.truncated(tiny_svs(folder / "whole.svs"), folder / "bad.svs", 4000)


def _empty(folder: Path) -> Path:
    return mutate.zero_length(folder / "bad.svs")


def _jpeg(folder: Path) -> Path:
    return mutate.jpeg_renamed(folder / "bad.svs")


def _text(folder: Path) -> Path:
    (folder / "bad.svs").write_text("This is no slide.")
    return folder / "bad.svs"


def _zeros(folder: Path) -> Path:
    (folder / "bad.svs").write_bytes(bytes(100_000))
    return folder / "bad.svs"


def _past_end(folder: Path) -> Path:
    return mutate.tile_offset_past_end(tiny_svs(folder / "whole.svs"), folder / "bad.svs", 3)


def _bomb(folder: Path) -> Path:
    return mutate.bomb(folder / "bad.svs")


def _claimed_bomb(folder: Path) -> Path:
    return mutate.bomb(folder / "bad.svs", tiles="claimed")


def _label_only(folder: Path) -> Path:
    series = tiny_series(folder / "whole")
    (folder / "bad").mkdir()
    written = write_series(folder / "labelled", [picture(128, 128, 5)], tile=(64, 64), label=picture(64, 64, 6))
    shutil.copyfile(next(path for path in written if path.name == "label.dcm"), folder / "bad" / "label.dcm")
    shutil.rmtree(series)
    return folder / "bad"


def _broken_instance(folder: Path) -> Path:
    series = tiny_series(folder / "bad")
    victim = sorted(series.iterdir())[1]
    victim.write_bytes(victim.read_bytes()[:1500])
    return series


CASES: dict[str, tuple[Callable[[Path], Path], int, set[str]]] = {
    "truncated": (_truncated, 3, {"source-truncated", "source-broken"}),
    "zero length": (_empty, 3, {"source-empty"}),
    "JPEG renamed": (_jpeg, 3, {"not-a-slide"}),
    "text": (_text, 3, {"not-a-slide", "unsupported-format"}),
    "zeros": (_zeros, 3, {"source-truncated"}),
    "tile offset past the end": (_past_end, 3, {"source-truncated", "source-broken"}),
    "bomb": (_bomb, 3, {"source-implausible", "source-broken"}),
    "bomb that claims its tiles": (_claimed_bomb, 3, {"source-implausible", "source-broken", "source-truncated"}),
    "label alone": (_label_only, 3, {"source-incomplete", "not-a-slide", "unsupported-format"}),
    "damaged instance": (_broken_instance, 3, {"source-truncated", "source-broken", "source-incomplete"}),
}


def check_refusal(done: Ran, source: Path, code: int, kinds: set[str]) -> None:
    """Check what ``ingest --json`` printed of one source that it refused."""
    assert done.code == code, done
    failed = [line for line in done.lines if line["status"] == "failed"]
    assert failed, done
    for line in failed:
        assert line["error"]["kind"] in kinds, line
        assert source.name in line["error"]["message"], line
        assert line["error"]["message"].count(".") >= 2, f"no remedy: {line}"
        assert line["slide"] is None
    assert "Traceback" not in done.err


@pytest.mark.parametrize("case", CASES)
def test_refused_and_nothing_changed(tmp_path: Path, site: Path, case: str) -> None:
    make, code, kinds = CASES[case]
    (tmp_path / "in").mkdir()
    source = make(tmp_path / "in")
    before = state_of(site)
    check_refusal(cli(site, "ingest", source, "--json"), source, code, kinds)
    assert state_of(site) == before
    # For people the same, and still nothing is kept.
    done = cli(site, "ingest", source)
    assert done.code == code
    assert "nothing of them was kept" in done.err
    assert source.name in done.err
    # Repaired, it goes in.
    if source.is_dir():
        shutil.rmtree(source)
        tiny_series(source, seed=7)
    else:
        tiny_svs(source, seed=7)
    assert cli(site, "ingest", source, "--json").lines[0]["status"] == "ingested"
    with ops.open_site(site) as opened:
        assert_sound(opened)


@pytest.mark.parametrize("name", ["unreadable.svs", "unopenable.tiff"])
def test_broken_files_of_the_shared_slides(site: Path, real_slides: Path, name: str) -> None:
    before = state_of(site)
    source = real_slides / "broken" / name
    done = cli(site, "ingest", source, "--json")
    check_refusal(done, source, 3, {"source-broken", "source-truncated", "source-implausible", "unsupported-pixels"})
    assert state_of(site) == before


def test_label_only_instance_of_the_shared_slides(site: Path, real_slides: Path) -> None:
    before = state_of(site)
    source = real_slides / "dicom" / "label-only"
    kinds = {"source-incomplete", "not-a-slide", "unsupported-format"}
    check_refusal(cli(site, "ingest", source, "--json"), source, 3, kinds)
    assert state_of(site) == before


def test_folder_with_a_missing_instance(tmp_path: Path, site: Path) -> None:
    # One of several instances that share a level (a concatenation) is missing: that cannot be a whole slide.
    whole = tmp_path / "whole"
    write_series(whole, [picture(256, 320, 3)], tile=(64, 64), concatenation=3)
    assert len(list(whole.iterdir())) >= 2
    source = mutate.dicom_without(whole, tmp_path / "bad", 1)
    before = state_of(site)
    check_refusal(cli(site, "ingest", source, "--json"), source, 3, {"source-incomplete"})
    assert state_of(site) == before
    shutil.rmtree(source)
    shutil.copytree(whole, source)
    assert cli(site, "ingest", source, "--json").lines[0]["status"] == "ingested"


def test_mixed_series_are_slides_of_their_own_or_refused(tmp_path: Path, site: Path) -> None:
    one, two = tiny_series(tmp_path / "1", seed=1), tiny_series(tmp_path / "2", seed=2)
    mixed = mutate.mixed_series([one, two], tmp_path / "mixed")
    lines = cli(site, "ingest", mixed, "--json").lines
    if {line["status"] for line in lines} == {"failed"}:
        assert {line["error"]["kind"] for line in lines} == {"source-mixed"}
        return
    assert [line["status"] for line in lines] == ["ingested", "ingested"]
    with ops.open_site(site) as opened:
        got = [sorted(restored(opened, line["slide"]).values()) for line in lines]
        assert sorted(got) == sorted([sorted(files_of(one).values()), sorted(files_of(two).values())])
        assert_sound(opened)


def test_differing_tables_are_legal(tmp_path: Path, site: Path) -> None:
    for overriding in (False, True):
        path = mutate.tiles_of_differing_tables(tmp_path / f"{overriding}.tiff", overriding=overriding)
        (line,) = cli(site, "ingest", path, "--json").lines
        assert line["status"] == "ingested"
        with ops.open_site(site) as opened:
            assert restored(opened, line["slide"]) == files_of(path)


def test_odd_but_legal_tiffs_come_back(tmp_path: Path, site: Path) -> None:
    model = tiny_svs(tmp_path / "model.svs")
    odd = [
        mutate.shared_offsets(model, tmp_path / "shared.svs"),
        mutate.overlapping(model, tmp_path / "overlapping.svs"),
        mutate.sparse(model, tmp_path / "sparse.svs", (0, 3)),
        mutate.padded(model, tmp_path / "padded.svs", 2),
    ]
    lines = cli(site, "ingest", *odd, "--json").lines
    assert [line["status"] for line in lines] == ["ingested"] * 4
    with ops.open_site(site) as opened:
        for line in lines:
            assert restored(opened, line["slide"]) == files_of(Path(line["source"]))


def test_path_that_is_not_there(tmp_path: Path, site: Path) -> None:
    before = state_of(site)
    missing = tmp_path / "missing.svs"
    check_refusal(cli(site, "ingest", missing, "--json"), missing, 4, {"path-missing"})
    assert state_of(site) == before


def test_neither_file_nor_folder(tmp_path: Path, site: Path) -> None:
    pipe = tmp_path / "pipe.svs"
    os.mkfifo(pipe)
    before = state_of(site)
    check_refusal(cli(site, "ingest", pipe, "--json"), pipe, 3, {"source-unreadable", "not-a-slide"})
    assert state_of(site) == before


def test_folder_without_slides(tmp_path: Path, site: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("nothing")
    done = cli(site, "ingest", tmp_path / "empty", "--json")
    assert done.code == 3
    assert done.error["kind"] == "not-a-slide"
    assert "empty" in done.error["message"]
    assert "--recursive" in done.error["message"]


def test_several_reasons_have_an_exit_code_of_their_own(tmp_path: Path, site: Path) -> None:
    done = cli(site, "ingest", mutate.zero_length(tmp_path / "empty.svs"), tmp_path / "missing.svs", "--json")
    assert {line["error"]["kind"] for line in done.lines} == {"source-empty", "path-missing"}
    assert done.code == 9


def test_unreadable_file_and_folder(tmp_path: Path) -> None:
    site = new_site(tmp_path / "site")
    slide = tiny_svs(tmp_path / "in" / "a.svs")
    folder = tiny_series(tmp_path / "in" / "series")
    cli(new_site(tmp_path / "other"), "ingest", slide, folder)  # loads what the user below could not
    slide.chmod(0o600)
    folder.chmod(0o700)
    with as_nobody(site):
        done = cli(site, "ingest", slide, folder, "--json")
    assert done.code == 3, done
    lines = {Path(line["source"]).name: line for line in done.lines}
    assert set(lines) == {"a.svs", "series"}
    for name, line in lines.items():
        assert line["error"]["kind"] == "source-unreadable"
        assert name in line["error"]["message"]
        assert "permission" in line["error"]["message"].lower()
    slide.chmod(0o644)
    folder.chmod(0o755)
    with as_nobody(site):
        done = cli(site, "ingest", slide, folder, "--json")
    assert [line["status"] for line in done.lines] == ["ingested", "ingested"], done


# --- files that are not at rest ---------------------------------------------------------------------------------------


def test_file_open_for_writing_elsewhere(tmp_path: Path, site: Path) -> None:
    slide = tiny_svs(tmp_path / "in" / "a.svs")
    script = f"import sys; f = open({str(slide)!r}, 'r+b'); print('open', flush=True); sys.stdin.read()"
    before = state_of(site)
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        done = cli(site, "ingest", slide, "--json")
        writer.communicate()
    check_refusal(done, slide, 5, {"source-busy"})
    assert state_of(site) == before
    assert cli(site, "ingest", slide, "--json").code == 0


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 64)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[:-1] + b"!")
    stat = path.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.rename(path)


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [_append, _rewrite, _cut, _replace, _remove])
@pytest.mark.parametrize("moment", ["first", "last"])
def test_file_that_changes_while_it_is_read(tmp_path: Path, change: Callable[[Path], None], moment: str) -> None:
    slide = tiny_svs(tmp_path / "in" / "a.svs")
    size = slide.stat().st_size
    done = {"write": 0}
    once = threading.Lock()

    def progress(phase: str, count: int, _size: int, _name: str) -> None:
        if phase != "write":
            return
        done["write"] += count
        if (moment == "first" or done["write"] >= size) and once.acquire(blocking=False):
            change(slide)

    with memory_site(tmp_path / "site") as opened:
        (result,) = ops.ingest(opened, [slide], jobs=1, progress=progress)
        assert result.error is not None
        assert result.error.kind in {"source-changed", "corrupt", "source-broken"}, result
        assert result.error.exit_code in {3, 5, 7}
        assert slide.name in result.error.message
        assert opened.catalog.slides() == []
        assert_sound(opened)
        assert stored_keys(opened.tier("hot")) == {MARKER_KEY}
        tiny_svs(slide)
        ingest(opened, slide)
        assert_sound(opened)


def test_change_that_hides_its_time_is_found_by_reading_back(tmp_path: Path) -> None:
    slide = tiny_svs(tmp_path / "in" / "a.svs")
    stat = slide.stat()
    good = slide.read_bytes()

    def progress(phase: str, _done: int, _size: int, _name: str) -> None:
        # Other bytes for the tiles than for the hash, and the time of change set back.
        if phase == "write":
            data = bytearray(good)
            data[len(data) // 2] ^= 0xFF
            slide.write_bytes(data if slide.read_bytes() == good else good)
            os.utime(slide, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    with memory_site(tmp_path / "site") as opened:
        (result,) = ops.ingest(opened, [slide], jobs=1, progress=progress)
        # Whatever was read when: a slide that was kept is one of the two contents, whole.
        if result.error is None:
            kept = restored(opened, str(result.slide))["a.svs"]
            assert kept == good or sum(a != b for a, b in zip(kept, good, strict=True)) == 1
        assert_sound(opened)


def test_name_that_is_no_text(tmp_path: Path, site: Path) -> None:
    name = os.fsdecode(b"caf\xe9.svs")
    slide = tiny_svs(tmp_path / name)
    before = state_of(site)
    done = run(site, "ingest", slide, "--json")
    (line,) = done.lines
    assert line["source"] == str(slide)
    assert line["error"]["kind"] == "source-unreadable"
    assert "UTF-8" in line["error"]["message"]
    assert done.code == 3
    assert state_of(site) == before
    assert run(site, "ingest", slide).code == 3


@pytest.mark.parametrize(
    "name", ["Ünïcödé 切片.svs", "two\nlines.svs", "[red]x[bold]\x1b[31m.svs", "a'b\"c.svs", ".svs"]
)
def test_odd_names_come_back(tmp_path: Path, site: Path, name: str) -> None:
    slide = tiny_svs(tmp_path / "in" / name)
    (line,) = cli(site, "ingest", slide, "--json").lines
    assert line["status"] == "ingested"
    for arguments in (("ingest", slide), ("ls",), ("show", line["slide"]), ("events",)):
        done = cli(site, *arguments)
        assert done.code == 0
        assert "\x1b[31m" not in done.out
    out = tmp_path / "out"
    assert cli(site, "restore", line["slide"], "--to", out).code == 0
    assert files_of(out) == {name: slide.read_bytes()}


def test_bug_in_a_reader_keeps_no_other_slide_out(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = registry.open_source

    def buggy(path: Path, *, scan_all: bool = False) -> object:
        if path.name == "b.svs":
            raise ZeroDivisionError
        return plain(path, scan_all=scan_all)

    monkeypatch.setattr(sources, "open_source", buggy)
    slides = [tiny_svs(tmp_path / f"{name}.svs", seed=number) for number, name in enumerate("abc")]
    done = cli(site, "ingest", *slides, "--json")
    by_name = {Path(line["source"]).name: line for line in done.lines}
    assert [by_name[f"{name}.svs"]["status"] for name in "abc"] == ["ingested", "failed", "ingested"]
    assert by_name["b.svs"]["error"]["kind"] == "internal"
    assert done.code == 1


def test_tiff_slides_too(tmp_path: Path, site: Path) -> None:
    slide = tiny_tiff(tmp_path / "a.tiff")
    for cut in (10, 300, 900, 1400):
        bad = mutate.truncated(slide, tmp_path / f"bad{cut}.tiff", cut)
        assert cli(site, "ingest", bad, "--json").code == 3
