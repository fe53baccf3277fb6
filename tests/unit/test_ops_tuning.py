"""Tuning through the operations: choices that are kept, used, repeated and explained; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.site_kit import cli, ingest, listing, new_site, picture, tiny_series, tiny_svs, tiny_tiff
from tests.tuning_kit import FREE, measurement, value
from wsistore import ops
from wsistore.compress.presets import ENCODINGS, Encoding
from wsistore.compress.tuning.candidates import FOLD_HEIGHTS, folds, recodings
from wsistore.errors import InputError, Kind, MissingError, SiteError, UnsupportedError
from wsistore.execute import SerialExecutor
from wsistore.model import Preset
from wsistore.ops.tuning import tune
from wsistore.ops.tuning_profiles import ProfileKey, find_profile, path_of, scanner_name, slug
from wsistore.ops.tuning_results import Terms, decide
from wsistore.slides.base import Scanner
from wsistore.testing.tiffs import write_generic_tiff, write_svs
from wsistore.tiers.expected_cost import Access

NO_SITE = ops.TuneOptions(tier="warm", sample_bytes=2_000)
WARM = ops.TuneOptions(tier="warm", sample_bytes=2_000, stain="HE")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with ops.open_site(new_site(tmp_path / "site")) as opened:
        yield opened


def slide_in(site: ops.Site, folder: Path, name: str = "a.svs", seed: int = 1, stain: str = "HE") -> str:
    path = tiny_svs(folder / name, seed)
    ops.ingest_one(site, path, tier="hot", metadata={"stain": stain} if stain else {})
    return name


def bytes_of(tuned: ops.Tuned) -> list[float]:
    return [row.measurement.bytes_stored for row in tuned.rows]


# --- choosing ---------------------------------------------------------------------------------------------------------


def test_a_file_is_tuned_without_a_site_and_left_alone(tmp_path: Path) -> None:
    path = tiny_svs(tmp_path / "a.svs")
    before = listing(tmp_path)

    tuned = tune(None, [path], NO_SITE)

    assert listing(tmp_path) == before
    assert tuned.path is None
    assert [row.candidate.name for row in tuned.rows][:2] == ["keep", "fold 1"]
    assert tuned.profile == ProfileKey("leica-aperio", "unknown", "jpeg", "warm")
    assert tuned.chosen.candidate.name in tuned.sentence
    assert tuned.chosen.euros <= 1.006 * min(row.euros for row in tuned.rows)  # of two as good the quicker


def test_a_stored_slide_gives_the_sample_of_its_file_whatever_it_is_encoded_to(site: ops.Site, tmp_path: Path) -> None:
    name = slide_in(site, tmp_path)
    options = replace(WARM, tier="hot", keep=False)
    file = tune(site, [tmp_path / name], options)
    for preset in (Preset.KEEP, Preset.FOLD, Preset.PACK):
        (done,) = ops.reencode(site, [name], preset, executor=SerialExecutor())
        assert done.error is None

        stored = tune(site, [name], options)

        assert stored.slides[0].sample_sha256 == file.slides[0].sample_sha256
        assert stored.profile == file.profile
        assert bytes_of(stored) == bytes_of(file)


def test_the_choice_is_kept_and_reencode_uses_it(
    site: ops.Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = slide_in(site, tmp_path)
    other = slide_in(site, tmp_path, "b.svs", seed=2, stain="IHC")
    key = ProfileKey("leica-aperio", "he", "jpeg", "hot")
    assert ops.encoding_for(site, name, "hot", Preset.FOLD) == ENCODINGS[Preset.FOLD]

    tuned = ops.tune(site, [name], replace(WARM, tier="hot"))

    chosen = tuned.rows[tuned.presets[Preset.FOLD]].candidate
    # What is chosen is measured, and may be what the preset would have taken: the preset is made another.
    untuned = Encoding(Preset.FOLD, 2 * chosen.fold_height)
    monkeypatch.setitem(ENCODINGS, Preset.FOLD, untuned)
    assert tuned.path == site.folder / "profiles" / "leica-aperio-he-jpeg-hot.json"
    assert find_profile(site.folder, key, Preset.FOLD) == Encoding(Preset.FOLD, chosen.fold_height)
    assert ops.encoding_for(site, name, "hot", Preset.FOLD) == Encoding(Preset.FOLD, chosen.fold_height)
    assert ops.encoding_for(site, name, "hot", Preset.PACK).packed
    assert ops.encoding_for(site, name, "hot", Preset.KEEP) == ENCODINGS[Preset.KEEP]
    assert ops.encoding_for(site, name, "warm", Preset.FOLD) == untuned  # another tier
    assert ops.encoding_for(site, other, "hot", Preset.FOLD) == untuned  # another stain
    (done,) = ops.reencode(site, [name], Preset.FOLD, executor=SerialExecutor())
    assert done.error is None
    (copy,) = site.catalog.copies(site.catalog.resolve(name))
    assert copy.encoding["fold_height"] == chosen.fold_height != untuned.fold_height


def test_the_kept_table_makes_the_same_choice_without_measuring(site: ops.Site, tmp_path: Path) -> None:
    name = slide_in(site, tmp_path)
    first = ops.tune(site, [name], WARM)
    told: list[int] = []

    again = ops.tune(site, [name], WARM, progress=lambda done, *_: told.append(done))

    assert not told
    assert again.slides[0].from_kept_table
    assert not first.slides[0].from_kept_table
    assert again.rows == first.rows
    assert again.sentence == first.sentence
    dearer = ops.tune(site, [name], replace(WARM, ranges=1e6))  # other terms, the same table
    assert dearer.slides[0].from_kept_table
    assert dearer.chosen.candidate.name == "keep"


def test_measuring_again_gives_the_same_bytes(site: ops.Site, tmp_path: Path) -> None:
    name = slide_in(site, tmp_path)
    first = ops.tune(site, [name], WARM)
    again = ops.tune(site, [name], replace(WARM, again=True))
    elsewhere = ops.tune(site, [name], replace(WARM, seed=1, keep=False))

    assert bytes_of(again) == bytes_of(first)
    assert not again.slides[0].from_kept_table
    assert elsewhere.slides[0].sample_sha256 != first.slides[0].sample_sha256


@pytest.mark.parametrize(
    "changed", [{"software": "wsistore 0.0.1"}, {"libraries": {"imagecodecs": "1"}}, {"slides": 3}]
)
def test_a_table_of_other_software_is_measured_anew(site: ops.Site, tmp_path: Path, changed: dict[str, Any]) -> None:
    name = slide_in(site, tmp_path)
    path = ops.tune(site, [name], WARM).path
    assert path is not None
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))

    assert not ops.tune(site, [name], WARM).slides[0].from_kept_table


def test_without_keeping_nothing_is_written(site: ops.Site, tmp_path: Path) -> None:
    name = slide_in(site, tmp_path)
    before = listing(site.folder)

    ops.tune(site, [name], replace(WARM, keep=False))

    assert listing(site.folder) == before


def test_tiles_that_are_not_jpeg_have_candidates_of_their_own(site: ops.Site, tmp_path: Path) -> None:
    path = tmp_path / "raw.tiff"
    write_generic_tiff(path, [picture(256, 256, 1)], tile=(64, 64), codec="lzw")

    tuned = ops.tune(site, [path], replace(WARM, recalls=0, ranges=0))

    assert tuned.profile.codec == "lzw"
    names = [row.candidate.name for row in tuned.rows]
    assert names[0] == "keep"
    assert "zstd" in names
    # What it costs to encode is measured, and may outweigh some bytes.
    assert tuned.chosen.measurement.bytes_stored <= 1.1 * min(bytes_of(tuned))
    key = replace(tuned.profile)
    found = find_profile(site.folder, key, Preset.PACK)
    assert found == Encoding(Preset.PACK, 1, tuned.rows[tuned.presets[Preset.PACK]].candidate.name, packed=True)


# --- profiles ---------------------------------------------------------------------------------------------------------


def test_a_profile_takes_several_slides_of_a_scanner_and_stain(site: ops.Site, tmp_path: Path) -> None:
    for n in range(3):
        slide_in(site, tmp_path, f"{n}.svs", seed=n)
    slide_in(site, tmp_path, "ihc.svs", seed=7, stain="IHC")
    ingest(site, tiny_series(tmp_path / "series", seed=8))

    tuned = ops.tune_profile(site, "Leica Aperio/HE", WARM)

    he = {row.slide for row in site.catalog.slides() if row.metadata.get("stain") == "HE"}
    assert {slide.slide for slide in tuned.slides} == he
    alone = [ops.tune(site, [slide], replace(WARM, keep=False, sample_bytes=2_000 // 3)) for slide in sorted(he)]
    mean = sum(one.rows[1].measurement.bytes_stored for one in alone) / 3
    assert tuned.rows[1].measurement.bytes_stored == pytest.approx(mean)
    assert len(ops.tune_profile(site, "leica-aperio/he", WARM, slides=2).slides) == 2


def test_a_profile_without_slides_names_those_that_there_are(site: ops.Site, tmp_path: Path) -> None:
    slide_in(site, tmp_path)

    with pytest.raises(MissingError, match="did you mean 'leica-aperio/he'") as caught:
        ops.tune_profile(site, "leica-aperi/he", WARM)
    assert "leica-aperio/he" in caught.value.remedy
    with pytest.raises(InputError, match="is no profile"):
        ops.tune_profile(site, "leica-aperio", WARM)


@pytest.mark.parametrize(
    ("scanner", "name"),
    [
        (Scanner("Leica Aperio", "AT2"), "leica-aperio-at2"),
        (Scanner("Hamamatsu", "Hamamatsu C9600-12"), "hamamatsu-c9600-12"),
        (Scanner(None, "P1000"), "p1000"),
        (Scanner("Leica Aperio"), "leica-aperio"),
        (Scanner(), "generic-tiff"),
        (Scanner("../..", "//"), "generic-tiff"),
    ],
)
def test_names_of_scanners(scanner: Scanner, name: str) -> None:
    assert scanner_name(scanner, "generic-tiff") == name


@pytest.mark.parametrize(("text", "name"), [(None, "unknown"), ("", "unknown"), ("H&E", "h-e"), ("Ki67/éX", "ki67-x")])
def test_slugs(text: str | None, name: str) -> None:
    assert slug(text) == name
    assert len(slug("x" * 500)) == 48


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_slides_that_are_not_alike_are_refused(site: ops.Site, tmp_path: Path) -> None:
    first, second = slide_in(site, tmp_path), slide_in(site, tmp_path, "b.svs", seed=2, stain="IHC")
    before = listing(site.folder)

    with pytest.raises(UnsupportedError, match="leica-aperio/ihc"):
        ops.tune(site, [first, second], WARM)
    assert listing(site.folder) == before


def test_what_is_not_there_or_has_no_tiles_is_refused(site: ops.Site, tmp_path: Path) -> None:
    flat = tmp_path / "flat.tiff"
    Image.fromarray(picture(64, 64, 1)).save(flat)
    ingest(site, flat)

    for slide in (flat, "flat.tiff"):
        with pytest.raises(UnsupportedError, match="kept whole"):
            ops.tune(site, [slide], WARM)
    with pytest.raises(MissingError):
        ops.tune(site, ["nothing"], WARM)
    with pytest.raises(MissingError):
        ops.tune(site, [tmp_path / "nothing.svs"], WARM)
    with pytest.raises(MissingError, match="no site"):
        tune(None, ["nothing"], NO_SITE)
    with pytest.raises(InputError):
        ops.tune(site, [], WARM)
    with pytest.raises(SiteError, match="did you mean 'warm'"):
        ops.tune(site, [flat], replace(WARM, tier="wram"))
    assert ops.encoding_for(site, "flat.tiff", "warm", Preset.FOLD) == ENCODINGS[Preset.FOLD]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"horizon_years": 0.0}, "horizon"),
        ({"horizon_years": float("nan")}, "horizon"),
        ({"recalls": -1.0}, "recalls"),
        ({"ranges": float("inf")}, "ranges"),
        ({"decline": 1.0}, "decline"),
        ({"prices": "nobodys"}, "nobodys"),
        ({"prices": "./nobodys.toml"}, "nobodys.toml"),
    ],
)
def test_terms_that_mean_nothing_are_refused(tmp_path: Path, told: dict[str, Any], said: str) -> None:
    path = tiny_svs(tmp_path / "a.svs")

    with pytest.raises((InputError, SiteError), match=said):
        tune(None, [path], replace(NO_SITE, **told))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]", "damaged"),
        ("{}", "format None"),
        ('{"format": 2}', "format 2"),
        ('{"format": 1}', "presets"),
        ('{"format": 1, "presets": {"fold": 3}}', "damaged"),
        ('{"format": 1, "presets": {"fold": {"fold_height": 0, "candidate": "auto"}}}', "no encoding"),
        ('{"format": 1, "presets": {"fold": {"fold_height": true, "candidate": "auto"}}}', "no encoding"),
        ('{"format": 1, "presets": {"fold": {"fold_height": 8, "candidate": null}}}', "no encoding"),
    ],
)
def test_a_damaged_profile_is_named(tmp_path: Path, text: str, said: str) -> None:
    key = ProfileKey("a", "b", "jpeg", "hot")
    path = path_of(tmp_path, key)
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(SiteError, match=said) as caught:
        find_profile(tmp_path, key, Preset.FOLD)
    assert str(path) in caught.value.message
    assert find_profile(tmp_path, key, Preset.KEEP) == ENCODINGS[Preset.KEEP]


def test_damaged_measurements_are_named(site: ops.Site, tmp_path: Path) -> None:
    name = slide_in(site, tmp_path)
    path = ops.tune(site, [name], WARM).path
    assert path is not None
    for wrong in ({"bytes_stored": "many"}, {"unknown": 1}):
        document = json.loads(path.read_text())
        document["slides"][0]["measured"]["keep"] |= wrong
        path.write_text(json.dumps(document))

        with pytest.raises(SiteError, match="damaged"):
            ops.tune(site, [name], WARM)
        ops.tune(site, [name], replace(WARM, again=True))


def test_a_profile_that_cannot_be_kept_says_how_to_go_on(site: ops.Site, tmp_path: Path) -> None:
    name = slide_in(site, tmp_path)
    (site.folder / "profiles").write_text("in the way")

    with pytest.raises(SiteError, match="profiles") as caught:
        ops.tune(site, [name], replace(WARM, again=True))
    assert caught.value.kind is Kind.SITE_READ_ONLY
    assert "--no-keep" in caught.value.remedy


# --- explaining -------------------------------------------------------------------------------------------------------

TERMS = Terms("warm", replace(FREE, storage_per_tb_month=value(10)), Access(1, 0), 10.0)


def verdict(sizes: list[float], decode: list[float], terms: Terms = TERMS, **options: Any) -> ops.Tuned:
    candidates = options.get("candidates") or folds(FOLD_HEIGHTS[: len(sizes) - 1])
    table = [measurement(bytes_stored=s, decode_seconds=d) for s, d in zip(sizes, decode, strict=True)]
    key = ProfileKey("a", "b", "jpeg", "warm")
    return decide(key, candidates, table, (), terms, seed=0, measured_at="2026-01-01T00:00:00Z")


def test_the_sentence_says_what_is_saved_and_what_it_takes() -> None:
    found = verdict([1e9, 9e8, 7e8, 6e8], [0, 4, 6, 10])

    assert found.sentence == (
        "fold 8 in warm: 40.0 % smaller than as the scanner wrote it, 0.12 EUR cheaper per slide over 10 years than "
        "the next best (fold 4) although a recall costs 4 s of CPU more."
    )


def test_a_tie_is_said() -> None:
    found = verdict([1e9, 9e8, 6.02e8, 6e8], [0, 4, 6, 10])

    assert found.chosen.candidate.name == "fold 4"
    assert "as cheap as fold 8 (within 0.5 % of the cost)" in found.sentence


def test_keeping_is_a_choice_but_no_fold() -> None:
    terms = replace(TERMS, prices=replace(TERMS.prices, cpu_per_core_hour=value(1000)))
    found = verdict([1e9, 9e8, 7e8], [0, 4, 6], terms)

    assert found.chosen.candidate.name == "keep"
    assert found.sentence.startswith("keep in warm: as the scanner wrote it, ")
    assert found.rows[found.presets[Preset.FOLD]].candidate.name == "fold 1"  # asked for a fold, the cheapest of these


def test_other_tiles_stay_as_they_are_where_that_is_cheapest() -> None:
    found = verdict([1e9, 1.1e9], [0, 4], candidates=recodings(["zstd"]))

    assert found.to_json()["presets"]["fold"] == {"fold_height": 1, "candidate": "source", "name": "keep"}


def test_what_the_choice_depends_on_is_said() -> None:
    prices = replace(TERMS.prices, cpu_per_core_hour=value(0, 0.04, 1000))
    found = verdict([1e9, 9e8, 7e8], [0, 4, 6], replace(TERMS, prices=prices))

    assert dict(found.sensitivity)["a core hour cost 1e+03 EUR"] == "keep"
    assert dict(found.sensitivity)["a core hour cost 0 EUR"] == "fold 4"


def test_packing_is_chosen_where_objects_cost() -> None:
    prices = replace(TERMS.prices, overhead_bytes_per_object=value(40_960))
    table = [measurement(bytes_stored=s, objects=400) for s in (1e8, 9e7)]
    key = ProfileKey("a", "b", "jpeg", "cold")

    found = decide(key, folds((1,)), table, (), replace(TERMS, prices=prices), seed=0, measured_at="")

    assert found.rows[1].packed
    assert found.rows[1].encoding == Encoding(Preset.PACK, 1, packed=True)
    assert not found.rows[0].packed  # keep is one object per shard


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_and_draws(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    path, plot = tiny_svs(tmp_path / "a.svs"), tmp_path / "plot.png"

    ran = cli(folder, "tune", path, "--tier", "warm", "--stain", "HE", "--plot", plot)

    assert ran.code == 0
    assert "fold 1" in ran.out
    assert "CPU to read one tile" in ran.out
    assert "in warm:" in ran.out
    assert str(folder / "profiles" / "leica-aperio-he-jpeg-warm.json") in ran.out.replace("\n", "")
    with Image.open(plot) as drawn:
        assert drawn.format == "PNG"
        assert drawn.size[0] > 1000


def test_the_command_prints_json_lines(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    path = tiny_svs(tmp_path / "a.svs")

    ran = cli(folder, "tune", path, "--json", "--recalls", 3, "--ranges", 7, "--horizon-years", 2, "--seed", 5)

    *candidates, choice = ran.lines
    assert [line["kind"] for line in ran.lines] == ["candidate"] * len(candidates) + ["choice"]
    assert [line["candidate"] for line in candidates if line["chosen"]] == [choice["chosen"]]
    assert candidates[0]["cost"]["total"]["eur"].keys() == {"low", "central", "high"}
    assert (choice["terms"]["recalls_per_year"], choice["terms"]["ranges_per_year"], choice["seed"]) == (3, 7, 5)
    assert choice["terms"]["values"]["storage_per_tb_month"]["source"]
    kept = json.loads(Path(choice["path"]).read_text())
    assert kept["chosen"] == choice["chosen"]


def test_the_command_without_a_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tiny_svs(tmp_path / "a.svs")

    ran = cli(None, "tune", path, "--json")
    assert ran.code == 0
    assert ran.lines[-1]["path"] is None
    assert cli(None, "tune", "nothing").code == 4
    assert cli(None, "tune", "--profile", "a/b").code == 8
    assert cli(tmp_path, "tune", path).code == 8  # named, and none


def test_the_command_used_wrongly(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    path = tiny_tiff(tmp_path / "a.tiff")

    assert cli(folder, "tune").code == 2
    assert cli(folder, "tune", path, "--profile", "a/b").code == 2
    assert cli(folder, "tune", path, "--recalls", -1).code == 2
    assert cli(folder, "tune", "--profile", "a/b", "--json").error["kind"] == "slide-missing"
    assert cli(folder, "tune", path, "--plot", tmp_path / "plot.svg", "--json").code == 3
    assert cli(folder, "tune", path, "--no-keep", "--plot", tmp_path / "none" / "plot.png").code == 3


def test_bytes_of_a_picture_do_not_depend_on_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    write_svs(path, [picture(320, 400, 1)], tile=64)
    first, second = (tune(None, [path], replace(NO_SITE, jobs=jobs)) for jobs in (1, 3))

    assert bytes_of(first) == bytes_of(second)
