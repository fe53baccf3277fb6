"""An administrator's week: 200 slides with three years of dates, rules, a plan, two approvals, applied in two goes."""

from __future__ import annotations

import csv
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.site_kit import cli, command, committed_keys, files_of, restored, stored_keys, tiny_svs
from wsistore import ops
from wsistore.keys.people import Account, PersonKey
from wsistore.keys.signing import Signer
from wsistore.tiers.plans import read_plan

SLIDES, PER_CASE = 200, 4
CASES = SLIDES // PER_CASE
_PATIENCE = 600
"""Seconds: a hundred slides are encoded by real workers, on whatever machine this is."""
PASSPHRASE = "four words that agree"
RULES = """\
version: 1
about: Active cases stay hot, those of the last two years are folded, all others packed; the law says when they may go.
time_zone: Europe/Paris
feed_max_age: 7 day
retention:
  - name: csp-r1112-7
    keep_until: greatest(last_encounter + interval 20 year, birth_date + interval 28 year)
    suspended_by: recourse
  - name: teaching
    where: list_has_any(collections, ['teaching'])
    keep_until: never-ends
placement:
  - name: active-case
    where: signed_out_at is null or signed_out_at > now - interval 90 day
    tier: hot
  - name: recent
    where: signed_out_at > now - interval 2 year
    tier: warm
    encode: fold
  - name: archive
    tier: cold
    encode: pack
limits:
  delete_at_most: 10 %
  move_at_most: 100 %
"""


@dataclass
class Hospital:
    """Its cases: when they were signed out, and which may go."""

    folder: Path
    today: date = field(default_factory=lambda: datetime.now(UTC).date())
    files: dict[str, Path] = field(default_factory=dict)
    """Of each case, the first slide's file."""

    OPEN, OLD = range(5), range(40, 44)
    """Cases whose report is not validated yet; cases of patients who were last here 21 years ago."""
    HELD, TAUGHT, UNKNOWN, SUED = 40, 41, 45, 46
    """An old one that a court asked for; an old one that is taught with; birth unknown; recourse open."""

    def signed_out(self, case: int) -> date | None:
        """Return when a case was signed out: over the last three years, evenly."""
        return None if case in self.OPEN else self.today - timedelta(days=3 * 365 * (case - 5) // (CASES - 5) + 1)

    def goes(self) -> set[int]:
        """Return the cases that the law lets go and nothing keeps."""
        return set(self.OLD) - {self.HELD, self.TAUGHT}

    def placed(self, case: int) -> str:
        """Return where a case belongs: the rules, said once more."""
        day = self.signed_out(case)
        if day is None or day > self.today - timedelta(days=90):
            return "hot"
        return "warm" if day > self.today - timedelta(days=730) else "cold"

    def write(self) -> list[Path]:
        """Write the slides' files and the tables; return the tables."""
        rows = []
        for number in range(SLIDES):
            case = number // PER_CASE
            path = tiny_svs(self.folder / "in" / f"{number:03}.svs", seed=1)
            path.write_bytes(path.read_bytes() + f"slide {number:03}".encode())
            self.files.setdefault(f"CASE-{case:04}", path)
            rows.append({"file": path.name, "case_id": f"CASE-{case:04}", "patient_id": f"PATIENT-{case:04}"})
        long_ago = self.today.replace(year=self.today.year - 21, day=1)
        return [
            self._table("slides", rows),
            self._table("patients", [self._patient(case) for case in range(CASES)]),
            self._table("encounters", [self._encounter(case, long_ago) for case in range(CASES)]),
            self._table("recourses", [self._recourse(self.SUED, long_ago)]),
            self._table("cases", [self._case(case) for case in range(CASES)]),
        ]

    def _patient(self, case: int) -> Mapping[str, str]:
        born = "" if case == self.UNKNOWN else "1950-02-28"
        return {"patient_id": f"PATIENT-{case:04}", "birth_date": born, "death_date": ""}

    def _encounter(self, case: int, long_ago: date) -> Mapping[str, str]:
        old = case in self.OLD or case in (self.UNKNOWN, self.SUED)
        day = long_ago if old else self.today - timedelta(days=30)
        patient = f"PATIENT-{case:04}"
        return {
            "encounter_id": f"E{case}",
            "patient_id": patient,
            "kind": "visit",
            "state": "finished",
            "begins": str(day),
        }

    def _recourse(self, case: int, day: date) -> Mapping[str, str]:
        return {"recourse_id": "R1", "patient_id": f"PATIENT-{case:04}", "state": "open", "begins": str(day)}

    def _case(self, case: int) -> Mapping[str, str]:
        day = self.signed_out(case)
        signed = "" if day is None else f"{day}T12:00:00Z"
        return {"case_id": f"CASE-{case:04}", "patient_id": f"PATIENT-{case:04}", "signed_out_at": signed}

    def _table(self, name: str, rows: Sequence[Mapping[str, str]]) -> Path:
        path = self.folder / f"{name}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path


@pytest.mark.slow
@pytest.mark.timeout(2 * _PATIENCE)
def test_rules_become_a_plan_that_two_people_approve_and_that_is_applied_in_two_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital = Hospital(tmp_path)
    slides, *tables = hospital.write()
    site = tmp_path / "site"
    assert cli(None, "init", site).code == 0
    assert cli(site, "ingest", tmp_path / "in", "--metadata", slides, "--json").code == 0
    as_of = (datetime.now(UTC) - timedelta(hours=6)).isoformat(timespec="minutes")
    assert cli(site, "metadata", "import", *tables, "--as-of", as_of).code == 0
    held = hospital.files[f"CASE-{hospital.HELD:04}"].name
    assert cli(site, "hold", "add", held, "--reason", "a court asked").code == 0
    assert cli(site, "collection", "add", "teaching", hospital.files[f"CASE-{hospital.TAUGHT:04}"].name).code == 0

    (site / "rules.yaml").write_text(RULES, encoding="utf-8")
    assert cli(site, "rules", "check").code == 0
    plan = tmp_path / "plan.parquet"
    assert cli(site, "plan", "-o", plan).code == 0
    rows = read_plan(plan).rows.to_pylist()
    _assert_planned(site, hospital, rows)
    _look_at_it(site, plan, tmp_path)

    ran = cli(site, "apply", plan, "--json")
    assert (ran.code, ran.error["kind"]) == (5, "not-approved")
    _approve(site, plan, tmp_path, monkeypatch)

    done = _apply_until(site, plan, some=10)
    assert 0 < done < sum(row["action"] != "none" for row in rows)
    again = subprocess.run(
        command(site, "apply", plan, "--json", "--anytime"), capture_output=True, text=True, timeout=_PATIENCE
    )
    assert again.returncode == 0, (again.stdout[-2000:], again.stderr[-2000:])
    _assert_done(site, plan, hospital, rows, tmp_path)
    assert cli(site, "apply", plan, "--json").error["kind"] == "plan-closed"


def _assert_planned(site: Path, hospital: Hospital, rows: Sequence[Mapping[str, object]]) -> None:
    assert len(rows) == SLIDES
    deleted = Counter(row["case_id"] for row in rows if row["action"] == "delete")
    taught = f"CASE-{hospital.TAUGHT:04}"
    held = f"CASE-{hospital.HELD:04}"
    # Only the slide that is taught with, and the one that is held, are kept of their cases.
    wanted = {f"CASE-{case:04}": PER_CASE for case in hospital.goes()} | {taught: PER_CASE - 1, held: PER_CASE - 1}
    assert deleted == wanted
    for row in rows:
        case = int(str(row["case_id"]).removeprefix("CASE-"))
        if row["action"] == "delete":
            continue
        is_held = row["blocked"] is not None and "held" in str(row["blocked"])
        tier = "hot" if is_held else hospital.placed(case)
        assert row["action"] == ("none" if tier == "hot" else "move"), row
        assert is_held or row["tier"] == tier
        if case in (hospital.UNKNOWN, hospital.SUED):
            assert row["retention"] == ("unknown" if case == hospital.UNKNOWN else "suspended")


def _look_at_it(site: Path, plan: Path, folder: Path) -> None:
    shown = cli(site, "plan", "show", plan)
    assert shown.code == 0
    assert "delete" in shown.out
    assert cli(site, "plan", "chart", plan, "-o", folder / "plan.html").code == 0
    assert (folder / "plan.html").stat().st_size > 1000
    bordereau = folder / "bordereau.xlsx"
    assert cli(site, "plan", "export", plan, "--bordereau", "--to", bordereau).code == 0
    assert bordereau.read_bytes()[:2] == b"PK"


def _approve(site: Path, plan: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The author runs the roster; two others, of two other accounts, approve; three visas are recorded."""
    monkeypatch.setenv("WSISTORE_PASSPHRASE", PASSPHRASE)
    mine = folder / "mine.key"
    assert cli(site, "approver", "key", "--key", mine).code == 0
    head = ("Head of IT", "--role", "administrator", "--role", "approver")
    assert cli(site, "approver", "add", *head, "--key", mine).code == 0
    keys = {}
    for uid, (name, role) in enumerate({"Head of pathology": "approver", "Physician": "dim-physician"}.items(), 70_001):
        key = PersonKey(Signer(Ed25519PrivateKey.generate().private_bytes_raw()), Account(uid, f"account-{uid}"))
        line = folder / f"{uid}.txt"
        line.write_text(key.introduction().to_text())
        assert cli(site, "approver", "add", name, "--role", role, "--introduction", line, "--key", mine).code == 0
        keys[role] = key
    own = cli(site, "approve", plan, "--key", mine, "--json")
    assert own.code != 0, "the author approved"
    with ops.open_site(site) as opened:
        ops.approve(opened, read_plan(plan), "approver", keys["approver"])
    refused = cli(site, "apply", plan, "--json")
    assert refused.error["kind"] == "not-approved", "one approval was enough"
    with ops.open_site(site) as opened:
        ops.approve(opened, read_plan(plan), "dim-physician", keys["dim-physician"])
        for role in ("director", "dim-physician", "departmental-archives"):
            today = str(datetime.now(UTC).date())
            ops.add_visa(opened, read_plan(plan), role, f"V/{role}", today, keys["approver"])


def _apply_until(site: Path, plan: Path, *, some: int) -> int:
    """Apply in a process of its own, and kill it when `some` rows are done; return how many are."""
    log = plan.with_suffix(".log")
    arguments = command(site, "apply", plan, "--json", "--anytime", "--jobs", "1")
    with (
        log.open("w") as errors,
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, text=True) as ran,
    ):
        assert ran.stdout is not None
        for _ in range(some):
            line = ran.stdout.readline()
            assert line, log.read_text()[-4000:]
            assert json.loads(line)["state"] == "done", line
        ran.kill()
    time.sleep(0.1)
    with ops.open_site(site) as opened:
        found = ops.receipt(opened, read_plan(plan).digest)
    return sum(row["state"] == "done" for row in found["document"]["rows"])


def _assert_done(
    site: Path, plan: Path, hospital: Hospital, rows: Sequence[Mapping[str, object]], folder: Path
) -> None:
    """Receipt, events and bytes agree with each other and with the plan."""
    certificates = folder / "certificates"
    assert cli(site, "receipt", plan, "-o", folder / "receipt.json", "--certificates", certificates).code == 0
    receipt = json.loads((folder / "receipt.json").read_text())
    states = {row["slide"]: row["state"] for row in receipt["document"]["rows"]}
    acting = {str(row["slide"]): str(row["action"]) for row in rows if row["action"] != "none"}
    assert states == dict.fromkeys(acting, "done")
    deleted = {slide for slide, action in acting.items() if action == "delete"}
    assert len(list(certificates.iterdir())) == len(deleted)
    with ops.open_site(site) as opened:
        assert {row.slide for row in opened.catalog.slides()} == {str(row["slide"]) for row in rows} - deleted
        for slide, action in acting.items():
            kinds = Counter(event.kind for event in opened.catalog.events(slide))
            wanted = {"delete": ("deleting", "deleted"), "move": ("copied", "dropped")}[action]
            assert [kinds[kind] for kind in wanted] == [1, 1], (slide, action, kinds)
        assert opened.catalog.check_chains() == []
        for row in rows:
            if row["slide"] not in deleted:
                copies = opened.catalog.copies(str(row["slide"]))
                assert [copy.tier for copy in copies] == [row["tier"] if row["action"] == "move" else "hot"]
        for tier in ("hot", "warm", "cold"):
            assert stored_keys(opened.tier(tier)) == committed_keys(opened, tier)
        for case in _some(set(range(CASES)) - set(hospital.OLD)):
            path = hospital.files[f"CASE-{case:04}"]
            assert restored(opened, opened.catalog.resolve(path.name)) == files_of(path)


def _some(cases: Iterable[int]) -> list[int]:
    return sorted(cases)[::5]
