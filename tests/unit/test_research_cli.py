"""The commands project and token, tables of given pseudonyms, and sites that seal identities."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import catalog_kit as kit
from tests.research_kit import IPP, accessing, bearer, research_site, rows, secret_of, shown
from tests.site_kit import cli
from wsistore import ops
from wsistore.errors import InputError, Kind, MissingError, SiteError
from wsistore.keys import site_keys
from wsistore.ops.objecting import read_numbers
from wsistore.testing.clock import ManualClock


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ops.Site]:
    with research_site(tmp_path) as opened:
        yield opened


# --- commands ---------------------------------------------------------------------------------------------------------


def test_a_project_from_its_making_to_its_end(site: ops.Site, tmp_path: Path) -> None:
    folder = site.folder
    made = cli(folder, "project", "create", "skin", "--purpose", "Protocol 2", "--until", "2099-12-31", "--json").lines[
        0
    ]
    assert (made["project"], made["state"], made["slides"], made["cohort"]) == ("skin", "open", 0, None)
    assert made["expires_at"].startswith("2099-12-31T23:59:59")
    again = cli(folder, "project", "create", "skin", "--purpose", "x", "--json")
    assert (again.code, again.error["kind"]) == (5, "project-exists")
    told = cli(folder, "project", "cohort", "skin", "--where", "organ = 'ADICAP:SK'")
    assert "skin shows 4 slides" in told.out
    listed = tmp_path / "slides.txt"
    listed.write_text("slide3.svs\nslide4\n")
    assert cli(folder, "project", "cohort", "skin", "--list", listed, "--json").lines[0]["slides"] == 2
    assert cli(folder, "project", "cohort", "skin", "--json").error["kind"] == "metadata-invalid"
    granted = cli(
        folder, "project", "grant", "skin", "team", "--group", "--scope", "recall", "--quota", "5 GB", "--json"
    )
    assert granted.lines[0] == {
        "project": "skin",
        "kind": "group",
        "who": "team",
        "scopes": ["read", "recall"],
        "expires_at": None,
        "quota_bytes": 5_000_000_000,
    }
    assert "team" in cli(folder, "project", "show", "skin").out
    assert cli(folder, "project", "revoke", "skin", "team", "--json").lines[0]["revoked"] == 0  # a user of that name
    assert cli(folder, "project", "revoke", "skin", "team", "--group", "--json").lines[0]["revoked"] == 1
    assert cli(folder, "project", "rotate-keys", "skin", "--json").lines[0]["generations"] == 2
    assert cli(folder, "project", "rotate-keys", "skin", "--retire", "--json").lines[0]["generations"] == 1
    assert cli(folder, "project", "close", "skin", "--json").lines[0]["closed_at"]
    assert cli(folder, "project", "grant", "skin", "bob", "--json").error["kind"] == "not-allowed"
    assert [one["state"] for one in cli(folder, "project", "ls", "--json").lines] == ["closed", "open"]
    assert "Protocol 2" in cli(folder, "project", "ls").out
    assert cli(folder, "project", "show", "never", "--json").error["kind"] == "project-missing"


@pytest.mark.parametrize(
    "arguments",
    [
        ("project", "create", "Skin", "--purpose", "x"),
        ("project", "create", "a" * 41, "--purpose", "x"),
        ("project", "create", "../x", "--purpose", "x"),
        ("project", "create", "x", "--purpose", " "),
        ("project", "create", "x", "--purpose", "x", "--until", "2001-01-01"),
        ("project", "create", "x", "--purpose", "x", "--dates", "exact"),
        ("project", "create", "x", "--purpose", "x", "--rate", "fast"),
        ("project", "cohort", "study", "--where", "patient_id = 'x'"),
        ("project", "grant", "study", "al\nice"),
        ("project", "grant", "study", "alice", "--scope", "write"),
        ("project", "grant", "study", "alice", "--quota", "0 B"),
        (
            "project",
            "object",
        ),
        ("token", "create", ""),
        ("token", "create", "alice", "--scope", "admin"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(site: ops.Site, arguments: tuple[str, ...]) -> None:
    before = [one.to_json() for one in ops.list_projects(site)], ops.list_tokens(site)
    done = cli(site.folder, *arguments, "--json")
    assert done.code == 3, done
    assert ([one.to_json() for one in ops.list_projects(site)], ops.list_tokens(site)) == before


def test_tokens_are_shown_once(site: ops.Site) -> None:
    folder = site.folder
    said = cli(folder, "token", "create", "alice", "--days", "2", "--scope", "recall")
    assert re.fullmatch(r"wst_[0-9a-z]{12}_[\w-]{43}\n", said.out)
    made = cli(folder, "token", "create", "bob", "--json").lines[0]
    assert set(made) == {"token", "id", "user", "scopes", "expires_at"}
    listed = cli(folder, "token", "ls", "--json")
    assert [one["user"] for one in listed.lines] == ["alice", "bob"]
    secret = secret_of(made["token"])
    assert secret not in listed.out + cli(folder, "token", "ls").out
    gone = cli(folder, "token", "revoke", made["token"], "--json")
    assert gone.lines[0]["id"] == made["id"]
    assert secret not in gone.out
    assert "revoked" in [one["state"] for one in cli(folder, "token", "ls", "--json").lines]
    unknown = cli(folder, "token", "revoke", "0" * 12, "--json")
    assert (unknown.code, unknown.error["kind"]) == (4, "token-invalid")


def test_objections_by_list(site: ops.Site, tmp_path: Path) -> None:
    listed = tmp_path / "register.csv"
    listed.write_text(f"IPP;since\n{IPP[0]};2026\n{IPP[2]};2026\n{IPP[0]};2026\n")
    assert read_numbers(listed) == [IPP[0], IPP[2]]
    done = cli(site.folder, "project", "object", "--file", listed, "--json")
    assert done.lines == [{"new": 2, "objections": 2}]
    assert cli(site.folder, "project", "show", "study", "--json").lines[0]["slides"] == 1
    told = cli(site.folder, "project", "withdraw-objection", IPP[0])
    assert IPP[0] not in told.out + told.err
    assert cli(site.folder, "project", "show", "study", "--json").lines[0]["slides"] == 4
    assert cli(site.folder, "project", "object", "--file", tmp_path / "none", "--json").code == 4


# --- pseudonyms that were given ---------------------------------------------------------------------------------------


def table(folder: Path, text: str) -> Path:
    path = folder / "correspondence.csv"
    path.write_text(text)
    return path


def test_given_pseudonyms_join_and_others_keep_theirs(site: ops.Site, tmp_path: Path) -> None:
    with accessing(site) as access:
        caller = access.caller(bearer(site))
        before = {row["slide"]: row["patient"] for row in rows(access, caller)}
        path = table(
            tmp_path,
            "\ufeffkind;ours;theirs\npatient;patient-0001;EDS-1\ncase;CASE-0001;EDS-C1\nblock;CASE-0001/A1;EDS-B1\n"
            "slide;slide1.svs;EDS-S1\n",
        )
        assert cli(site.folder, "project", "pseudonyms", "study", path, "--json").lines[0]["pseudonyms"] == 4
        found = {row["slide"]: row for row in rows(access, caller)}
        one = found["EDS-S1"]
        assert (one["patient"], one["case"], one["block"]) == ("EDS-1", "EDS-C1", "EDS-B1")
        assert [row["patient"] for row in found.values()].count("EDS-1") == 3
        assert {row["patient"] for row in found.values()} - {"EDS-1"} == set(before.values()) - {before_of(before, 3)}
        for old in before:
            assert access.project(caller, "study").slide(old) is not None  # what notebooks hold goes on answering
        shared = access.project(caller, "study").slide("EDS-S1")
        assert shared is not None
        assert shared.slide == "slide1"


def before_of(names: dict[str, str], times: int) -> str:
    """Return the patient that has so many slides."""
    (found,) = {name for name in names.values() if list(names.values()).count(name) == times}
    return found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kind,ours\npatient,x\n",
        "ours,theirs\nPATIENT-0001,PATIENT-0001\n",
        "ours,theirs\nPATIENT-0001,patient-0001\n",
        "ours,theirs\nPATIENT-0001,a\nPATIENT-0002,A\n",
        "ours,theirs\nPATIENT-0001,a\nPATIENT-0001,b\n",
        "ours,theirs\nPATIENT-0001,../x\n",
        "ours,theirs\nPATIENT-0001,x.zarr\n",
        "ours,theirs\nPATIENT-0001,\n",
        "ours,theirs\nPATIENT-0001,a,b\n",
        "kind,ours,theirs\nperson,PATIENT-0001,a\n",
        "kind,ours,theirs\nblock,CASE-0001,a\n",
        "kind,ours,theirs\nblock,CASE-0001/A1,A1\n",
        "kind,ours,theirs\nslide,never,a\n",
        'ours,theirs\n"PATIENT-0001,a\n',
    ],
)
def test_tables_that_are_wrong_are_refused_and_name_no_number(site: ops.Site, tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError) as refused:
        ops.import_correspondence(site, "study", table(tmp_path, text))
    assert refused.value.kind is Kind.METADATA_INVALID
    assert "PATIENT-" not in str(refused.value)
    assert not (site.settings.keys / "project-study.table").exists()
    with pytest.raises(MissingError):
        ops.import_correspondence(site, "study", tmp_path / "none.csv")


def test_rotation_keeps_old_pseudonyms_of_slides_answering_until_they_are_retired(site: ops.Site) -> None:
    with accessing(site) as access:
        caller = access.caller(bearer(site))
        old = {row["slide"]: row["patient"] for row in rows(access, caller)}
        ops.rotate_project_keys(site, "study")
        new = {row["slide"]: row["patient"] for row in rows(access, caller)}
        assert not set(old) & set(new)
        assert not set(old.values()) & set(new.values())
        view = access.project(caller, "study")
        assert {view.slide(name).slide for name in old} == {view.slide(name).slide for name in new}  # type: ignore[union-attr]
        assert ops.rotate_project_keys(site, "study", retire=True) == 1
        view = access.project(caller, "study")
        assert [view.slide(name) for name in old] == [None] * len(old)
        assert {row["slide"] for row in rows(access, caller)} == set(new)


def test_projects_do_not_join(site: ops.Site) -> None:
    ops.create_project(site, "other", purpose="Protocol 2")
    ops.set_cohort(site, "other", where="true")
    ops.grant_project(site, "other", "alice")
    with accessing(site) as access:
        caller = access.caller(bearer(site))
        for column in ("slide", "patient", "case", "block", "received"):
            mine, theirs = ({row[column] for row in rows(access, caller, name)} for name in ("study", "other"))
            assert column == "received" or not mine & theirs, column
            assert len(mine) == len(theirs)


# --- sites that seal identities ---------------------------------------------------------------------------------------


def test_objections_are_sealed_and_nothing_is_shown_without_the_keys(tmp_path: Path) -> None:
    clock = ManualClock(kit.NOW)
    with research_site(tmp_path, clock=clock) as site:
        ops.object_to_research(site, [IPP[0]])
        header = bearer(site)
    folder = tmp_path / "site"
    path = folder / "wsistore.toml"
    path.write_text(path.read_text("utf-8").replace("\nname = ", "\nencrypt_identities = true\nname = ", 1), "utf-8")
    site_keys.make(folder / "keys", clock)
    with ops.open_site(folder, clock=clock) as site, accessing(site) as access:
        ops.seal_identities(site)
        ops.object_to_research(site, [IPP[2]])
        assert ops.object_to_research(site, [IPP[0].lower()]) == 0  # known, though it is sealed
        assert shown(access, access.caller(header)) == {"slide4"}
        site.catalog.close()
        data = b"".join(file.read_bytes() for file in folder.glob("catalog.db*"))
        for number in (IPP[0], IPP[2]):
            assert number.encode() not in data
            assert number.casefold().encode() not in data
    for key in (folder / "keys").glob("site-key-*"):
        key.rename(tmp_path / key.name)
    with ops.open_site(folder, clock=clock) as site, accessing(site) as access:
        with pytest.raises(SiteError) as failed:
            access.caller(header)
        assert failed.value.kind is Kind.KEY_MISSING
