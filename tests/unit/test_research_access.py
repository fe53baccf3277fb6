"""Who sees what through the gateway, and how soon it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests import catalog_kit as kit
from tests.research_kit import IPP, SLIDES, accessing, bearer, research_site, rows, secret_of, shown
from tests.site_kit import cli, new_site, tiny_svs
from wsistore import ops
from wsistore.catalog.projects_people import levels, put_levels
from wsistore.errors import DeniedError, InputError, Kind, MissingError, SiteError
from wsistore.ops.research_access import SLIDE_COLUMNS, Access
from wsistore.testing.clock import ManualClock

ALL = set(SLIDES)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(kit.NOW)


@pytest.fixture
def site(tmp_path: Path, clock: ManualClock) -> Iterator[ops.Site]:
    with research_site(tmp_path, clock=clock) as opened:
        yield opened


@pytest.fixture
def access(site: ops.Site) -> Iterator[Access]:
    with accessing(site) as opened:
        yield opened


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_shows_its_users_projects_and_nothing_else(site: ops.Site, access: Access) -> None:
    ops.create_project(site, "other", purpose="Protocol 2")
    ops.set_cohort(site, "other", where="true")
    caller = access.caller(bearer(site))
    assert caller.user == "alice"
    assert caller.projects == {"study"}
    assert caller.scopes == {"read"}
    assert shown(access, caller) == ALL
    assert [view.name for view in access.projects(caller)] == ["study"]
    assert shown(access, caller, "other") == set()
    assert access.caller(bearer(site, "bob")).projects == set()


def test_every_refusal_says_the_same(site: ops.Site, access: Access, clock: ManualClock) -> None:
    good, short = bearer(site), bearer(site, days=0.5)
    revoked = bearer(site)
    ops.revoke_token(site, revoked.removeprefix("Bearer "))
    clock.advance(86_400)
    name = good.split("_")[1]
    wrong = [
        (None, Kind.TOKEN_MISSING),
        ("", Kind.TOKEN_MISSING),
        (good.removeprefix("Bearer "), Kind.TOKEN_INVALID),
        (good.replace("Bearer", "Basic"), Kind.TOKEN_INVALID),
        (good[:-1], Kind.TOKEN_INVALID),
        (good[:-1] + ("A" if good[-1] != "A" else "B"), Kind.TOKEN_INVALID),
        (good.replace(name, "0" * 12), Kind.TOKEN_INVALID),
        (good + "x" * 20_000, Kind.TOKEN_INVALID),
        ("Bearer wst_", Kind.TOKEN_INVALID),
        ("Bearer \udcff", Kind.TOKEN_INVALID),
        ("Bearer eyJhbGciOiJub25lIn0.e30.", Kind.TOKEN_INVALID),
        (revoked, Kind.TOKEN_INVALID),
        (short, Kind.TOKEN_EXPIRED),
    ]
    said = set()
    for header, kind in wrong:
        with pytest.raises(DeniedError) as refused:
            access.caller(header)
        assert refused.value.kind is kind, header
        said.add(str(refused.value))
    assert len(said) == 1
    assert access.caller(good.replace("Bearer", "bearer")).user == "alice"


def test_secrets_are_not_kept(site: ops.Site, tmp_path: Path) -> None:
    secret = secret_of(bearer(site))
    site.catalog.close()
    for path in (tmp_path / "site").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    made = ops.create_token(site, "alice", expires_at=kit.NOW + timedelta(days=1))
    assert made.text not in repr(made)
    assert len(secret_of(made.text)) >= 43  # 256 bits


def test_last_use_is_noted(site: ops.Site, access: Access) -> None:
    header = bearer(site)
    access.caller(header)
    assert ops.list_tokens(site)[0].last_used_at is None
    access.close()
    (row,) = ops.list_tokens(site)
    assert row.last_used_at is not None
    assert row.last_used_at[:10] == kit.NOW.date().isoformat()


# --- how soon it ends -------------------------------------------------------------------------------------------------


def test_what_is_revoked_ends_at_the_next_request(site: ops.Site, access: Access) -> None:
    header = bearer(site)
    caller = access.caller(header)
    assert shown(access, caller) == ALL
    with ops.open_site(site.folder, clock=site.clock) as other:  # as another process would
        assert ops.revoke_grant(other, "study", "alice") == 1
    assert shown(access, caller) == set()
    assert access.caller(header).projects == set()
    ops.grant_project(site, "study", "alice")
    assert shown(access, caller) == ALL
    ops.revoke_token(site, header.removeprefix("Bearer "))
    assert shown(access, caller) == set()  # also for a caller that was asked for before
    with pytest.raises(DeniedError):
        access.caller(header)


def test_what_is_closed_or_over_looks_as_if_it_never_was(site: ops.Site, access: Access, clock: ManualClock) -> None:
    caller = access.caller(bearer(site))

    def refusal(name: str) -> str:
        with pytest.raises(MissingError) as refused:
            access.project(caller, name)
        assert refused.value.kind is Kind.PROJECT_MISSING
        return str(refused.value)

    never = refusal("never")
    ops.create_project(site, "hidden", purpose="Protocol 2")
    ops.create_project(site, "short", purpose="Protocol 3", expires_at=kit.NOW + timedelta(days=2))
    ops.grant_project(site, "short", "alice")
    ops.create_project(site, "brief", purpose="Protocol 4")
    ops.grant_project(site, "brief", "alice", expires_at=kit.NOW + timedelta(days=1))
    assert {view.name for view in access.projects(caller)} == {"brief", "short", "study"}
    assert access.project(caller, "brief").expires_at == kit.NOW + timedelta(days=1)
    clock.advance(86_400)
    assert refusal("brief") == never == refusal("hidden")
    clock.advance(86_400)
    assert refusal("short") == never
    ops.close_project(site, "study")
    assert refusal("study") == never
    assert access.projects(caller) == []


def test_who_objects_is_out_at_the_next_request_also_later(site: ops.Site, access: Access) -> None:
    caller = access.caller(bearer(site))
    names = access.project(caller, "study").table()["slide"].to_pylist()
    assert ops.object_to_research(site, [f" {IPP[0].lower()} "]) == 1
    assert shown(access, caller) == {"slide4", "slide5"}
    view = access.project(caller, "study")
    assert sum(view.slide(name) is not None for name in names) == 2
    kit.ingest(site.catalog, "slide6", metadata={"case_id": "CASE-0002", "stain": "HES"})
    assert shown(access, caller) == {"slide4", "slide5"}
    ops.object_to_research(site, ["PATIENT-0009"])  # nobody knows them yet
    kit.ingest(site.catalog, "slide7", metadata={"case_id": "CASE-0009", "patient_id": "PATIENT-0009"})
    assert shown(access, caller) == {"slide4", "slide5"}
    assert ops.withdraw_objection(site, [IPP[0], "PATIENT-0009"]) == 2
    assert shown(access, caller) == ALL | {"slide6", "slide7"}
    assert ops.object_to_research(site, [IPP[1]]) == 1
    assert ops.object_to_research(site, [IPP[1]]) == 0
    assert ops.count_objections(site) == 1


def test_an_objection_reaches_records_that_were_merged(site: ops.Site, access: Access, tmp_path: Path) -> None:
    caller = access.caller(bearer(site))
    assert shown(access, caller) == ALL
    merges = tmp_path / "merges.csv"
    merges.write_text(f"patient_id,into_patient_id\n{IPP[2]},{IPP[1]}\n")
    ops.import_metadata(site, [merges], site.clock.now())
    ops.object_to_research(site, [IPP[2]])
    assert shown(access, caller) == {"slide1", "slide2", "slide3"}


def test_objections_hold_for_lists_too(site: ops.Site, access: Access) -> None:
    caller = access.caller(bearer(site))
    ops.set_cohort(site, "study", slides=["slide1", "slide4"])
    assert shown(access, caller) == {"slide1", "slide4"}
    ops.object_to_research(site, [IPP[0]])
    assert shown(access, caller) == {"slide4"}


def test_who_was_admitted_a_moment_ago_is_looked_at_again_when_anything_changed(
    site: ops.Site, access: Access, clock: ManualClock
) -> None:
    header = bearer(site, days=1)

    def seen(project: str = "study") -> int | None:
        view = access.admit(header, project)[1]
        return None if view is None else view.table().num_rows

    assert (seen(), seen(), seen("never"), access.admit(header, "")[1]) == (5, 5, None, None)
    access._views.clear()  # as when many others were there
    assert seen() == 5
    ops.object_to_research(site, [IPP[0]])
    assert seen() == 2
    kit.ingest(site.catalog, "slide6", metadata={"case_id": "CASE-0003"})
    assert seen() == 3
    ops.revoke_grant(site, "study", "alice")
    assert seen() is None
    ops.grant_project(site, "study", "alice", expires_at=site.clock.now() + timedelta(seconds=20))
    assert seen() == 3
    clock.advance(21)
    assert seen() is None
    ops.grant_project(site, "study", "alice")
    assert seen() == 3
    clock.advance(86_400)
    with pytest.raises(DeniedError):
        seen()
    with pytest.raises(DeniedError):
        access.admit(None, "study")


# --- cohorts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("organ = 'ADICAP:SK'", {"slide1", "slide2", "slide4", "slide5"}),
        ("stain = 'HES' and organ = 'ADICAP:SK'", {"slide1", "slide4", "slide5"}),
        ("list_contains(diagnoses, 'ADICAP:2')", {"slide3"}),
        ("block = 'B2'", {"slide5"}),
        ("received_year >= 2022", {"slide4", "slide5"}),
        ("received_month = '2020-06'", {"slide1", "slide2"}),
        ("age_at < 30", {"slide5"}),
        ("age_at = 69", {"slide1", "slide2"}),
        ("age_at > 90", set()),
        ("width > 5000", set()),
        ("false", set()),
    ],
)
def test_cohorts_by_conditions(site: ops.Site, access: Access, where: str, found: set[str]) -> None:
    ops.set_cohort(site, "study", where=where)
    assert shown(access, access.caller(bearer(site))) == found


@pytest.mark.parametrize(
    "where",
    [
        "patient = 'x'",
        "case_id = 'CASE-0001'",
        "received_on > '2020-01-01'",
        "birth_date < '1950-01-01'",
        "name = 'slide1.svs'",
        "slide = 'slide1'",
        "metadata['patient_id'] = 'x'",
        "death_date is null",
        "(select count(*) from slides) > 0",
        "read_text('/etc/passwd') is not null",
        "organ = ",
        "1",
    ],
)
def test_conditions_speak_of_allowed_columns_only(site: ops.Site, access: Access, where: str) -> None:
    with pytest.raises(InputError) as refused:
        ops.set_cohort(site, "study", where=where)
    assert refused.value.kind is Kind.CONDITION_INVALID
    assert shown(access, access.caller(bearer(site))) == ALL  # what was said before still holds


def test_slides_of_nobody_knows_whom_are_in_no_condition_but_may_be_listed(site: ops.Site, access: Access) -> None:
    kit.ingest(site.catalog, "nobody", metadata={"stain": "HES"})
    caller = access.caller(bearer(site))
    assert shown(access, caller) == ALL
    assert ops.show_project(site, "study").unknown == 1
    ops.set_cohort(site, "study", slides=["nobody", "slide1"])
    assert shown(access, caller) == {"nobody", "slide1"}
    (row,) = [row for row in rows(access, caller) if row["case"] is None]
    assert row["patient"] is None


def test_a_cohort_is_evaluated_again_when_its_time_is_over(tmp_path: Path, clock: ManualClock) -> None:
    with research_site(tmp_path, clock=clock, serve="cohort_refresh_seconds = 300") as site, accessing(site) as access:
        caller = access.caller(bearer(site))
        assert shown(access, caller) == ALL
        kit.ingest(site.catalog, "slide6", metadata={"case_id": "CASE-0002"})
        assert shown(access, caller) == ALL
        clock.advance(301)
        shown(access, caller)  # begins it
        for thread in threading.enumerate():
            if thread.name == "cohort-refresh":
                thread.join(150)
        assert shown(access, caller) == ALL | {"slide6"}


# --- what is said of slides -------------------------------------------------------------------------------------------


def test_rows_are_those_of_the_contract(site: ops.Site, access: Access) -> None:
    view = access.project(access.caller(bearer(site)), "study")
    table = view.table()
    assert table.schema == SLIDE_COLUMNS
    assert table["slide"].to_pylist() == sorted(table["slide"].to_pylist())
    by_slide = {view.slide(row["slide"]).slide: row for row in table.to_pylist()}  # type: ignore[union-attr]
    one = by_slide["slide1"]
    assert {name: one[name] for name in ("organ", "diagnoses", "stain", "age_at", "width", "um_per_px")} == {
        "organ": "ADICAP:SK",
        "diagnoses": ["ADICAP:1"],
        "stain": "HES",
        "age_at": 69,
        "width": 2000,
        "um_per_px": 0.25,
    }
    assert (one["readiness"], one["mode"], one["preset"], one["bytes_stored"]) == ("ready", "tiles", "keep", 1300)
    assert by_slide["slide4"]["age_at"] == 90  # who is older is told as old as that
    assert one["patient"] == by_slide["slide3"]["patient"] != by_slide["slide4"]["patient"]
    assert one["case"] == by_slide["slide2"]["case"] != by_slide["slide3"]["case"]
    assert one["block"] == by_slide["slide2"]["block"] != by_slide["slide3"]["block"]


def test_nothing_of_the_inside_is_in_a_row(site: ops.Site, access: Access) -> None:
    kit.ingest(
        site.catalog,
        "slide9",
        name="PATIENT-0001 biopsy.svs",
        metadata={
            "case_id": "CASE-0001",
            "stain": "HES of PATIENT-0001",
            "block": "CASE-0001-A1",
            "note": "PATIENT-0001",
        },
    )
    text = str(rows(access, access.caller(bearer(site))))
    for inside in (*IPP, *SLIDES, "slide9", "CASE-000", "A1", "1950", "2020-06-14", "biopsy"):
        assert inside not in text, inside


@pytest.mark.parametrize(("dates", "said"), [("month", "2020-06"), ("year", "2020"), ("none", None)])
def test_days_are_coarsened(site: ops.Site, access: Access, dates: str, said: str | None) -> None:
    ops.create_project(site, "coarse", purpose="Protocol 2", dates=dates)
    ops.set_cohort(site, "coarse", where="received_year = 2020")
    ops.grant_project(site, "coarse", "alice")
    assert {row["received"] for row in rows(access, access.caller(bearer(site)), "coarse")} == {said}


def test_levels_that_are_not_shown_are_not_told(site: ops.Site, access: Access) -> None:
    put_levels(site.catalog, {("slide1", 1): ((1000, 2000), (250, 500)), ("slide4", 1): ((1000, 2000),)})
    ops.create_project(site, "low", purpose="Protocol 2", first_level=1)
    ops.set_cohort(site, "low", slides=["slide1", "slide3", "slide4"])
    ops.grant_project(site, "low", "alice")
    caller = access.caller(bearer(site))
    assert shown(access, caller, "low") == {"slide1", "slide3"}  # slide4 has no level that may be shown
    view = access.project(caller, "low")
    by_slide = {view.slide(row["slide"]).slide: row for row in view.table().to_pylist()}  # type: ignore[union-attr]
    names = ("width", "height", "levels", "um_per_px", "magnification")
    assert [by_slide["slide1"][name] for name in names] == [500, 250, 1, 1.0, 10.0]
    assert [by_slide["slide3"][name] for name in names] == [None] * 5
    assert {one.first_level for one in view.slides.values()} == {1}


def test_levels_are_read_from_a_copy_and_then_known(tmp_path: Path) -> None:
    folder = new_site(tmp_path / "site")
    assert cli(folder, "ingest", tiny_svs(tmp_path / "a.svs")).code == 0
    with ops.open_site(folder) as site, accessing(site) as access:
        ops.create_project(site, "study", purpose="Protocol 1")
        ops.set_cohort(site, "study", slides=["a.svs"])
        ops.grant_project(site, "study", "alice")
        caller = access.caller(bearer(site))
        (row,) = rows(access, caller)
        with ops.open_slide("a.svs", site=site) as slide:
            sizes = tuple((level.height, level.width) for level in slide.levels)
        assert (row["levels"], row["height"], row["width"]) == (len(sizes), *sizes[0])
        shared = access.project(caller, "study").slide(row["slide"])
        assert shared is not None
        assert levels(site.catalog, [shared.slide]) == {(shared.slide, 1): sizes}


# --- limits -----------------------------------------------------------------------------------------------------------


def test_limits_are_the_projects_then_the_sites(site: ops.Site, access: Access) -> None:
    ops.create_project(site, "slow", purpose="Protocol 2", limits={"requests_per_second": 2, "concurrent": None})
    ops.grant_project(site, "slow", "alice", bytes_quota=1000, scopes=["recall"])
    caller = access.caller(bearer(site, scopes=["recall"]))
    view = access.project(caller, "slow")
    assert (view.limits.requests_per_second, view.limits.concurrent, view.limits.bytes_quota) == (2, 64, 1000)
    assert view.scopes == {"read", "recall"}
    assert access.project(caller, "study").scopes == {"read"}  # the grant gives no more


def test_bytes_are_counted_by_grant_and_month(site: ops.Site, access: Access, clock: ManualClock) -> None:
    caller = access.caller(bearer(site))
    access.spend(caller, "study", 700)
    access.spend(caller, "study", 300)
    assert access.spent(caller, "study") == 1000
    access.spend(caller, "never", 1)
    access.close()
    with accessing(site) as again:
        assert again.spent(caller, "study") == 1000
        (grant,) = ops.show_project(site, "study").to_json()["grants"]
        assert grant["spent_bytes"] == 1000
        clock.advance(86_400)  # the first of February
        assert again.spent(caller, "study") == 0


# --- when something is missing ----------------------------------------------------------------------------------------


def test_without_the_projects_key_nothing_is_shown(site: ops.Site, access: Access) -> None:
    (site.settings.keys / "project-study.key").unlink()
    with pytest.raises(SiteError) as failed:
        access.project(access.caller(bearer(site)), "study")
    assert failed.value.kind is Kind.KEY_MISSING
    assert ops.show_project(site, "study").problem


def test_a_site_that_is_open_for_reading_answers(site: ops.Site) -> None:
    header = bearer(site)
    with ops.open_site(site.folder, clock=site.clock, read_only=True) as reading, accessing(reading) as access:
        caller = access.caller(header)
        assert shown(access, caller) == ALL
        access.spend(caller, "study", 5)
        ops.object_to_research(site, [IPP[0]])
        assert shown(access, caller) == {"slide4", "slide5"}
        with pytest.raises(SiteError):
            ops.create_token(reading, "alice", expires_at=kit.NOW + timedelta(days=1))
