"""Rules become a plan, two people approve it, and it is applied, by Prefect: a small hospital of eight slides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from demo.prefect_nights import prefect_nights
from wsistore import ops
from wsistore.errors import ConflictError, Kind
from wsistore.keys.people import Account, PersonKey
from wsistore.keys.signing import Signer
from wsistore.ops.metadata import read_metadata
from wsistore.ops.plans_due import PLANS
from wsistore.testing.tiffs import write_svs
from wsistore.testing.tissue import pyramid, tissue
from wsistore.tiers.plans import Plan, read_plan

RULES = """\
version: 1
retention:
  - name: csp-r1112-7
    keep_until: greatest(last_encounter + interval 20 year, birth_date + interval 28 year)
    suspended_by: recourse
placement:
  - {name: active-case, where: signed_out_at is null or signed_out_at > now - interval 90 day, tier: hot}
  - {name: recent, where: signed_out_at > now - interval 2 year, tier: warm, encode: fold}
  - {name: archive, tier: cold, encode: pack}
limits: {delete_at_most: 25 %, move_at_most: 100 %}
"""
_AGES_DAYS = (None, 30, 200, 400, 600, 1000, 1500, 8000)
"""Of each slide's case, how long ago it was signed out; the first is still open. The last patient never came back."""
_EDGE = 480
_ACTIONS = {"none": 2, "move": 5, "delete": 1}
_TIERS = {"hot": 2, "warm": 3, "cold": 2}


def night(folder: Path) -> tuple[list[str], bool]:
    """Apply the law's and the hospital's rules to a site of its own, by the flow that does so every night.

    Parameters
    ----------
    folder
        A new folder.

    Returns
    -------
    list of str
        What was done, or what went wrong.
    bool
        Whether all was done as planned.

    """
    home = folder / "site"
    ops.init_site(home, name="demo")
    (home / "rules.yaml").write_text(RULES, encoding="utf-8")
    with prefect_nights(home) as nights:
        with ops.open_site(home, actor="importer") as site:
            _take_in(site, folder)
        first = nights.run()
        (path,) = (home / PLANS).glob("*.parquet")
        plan = read_plan(path)
        with ops.open_site(home) as site:
            refused = _is_refused(site, plan)
            _approve(site, plan)
        second = nights.run("apply")
        where = nights.where
    actions = Counter(plan.rows["action"].to_pylist())
    with ops.open_site(home) as site:
        receipt = ops.receipt(site, plan.digest)["document"]["totals"]
        tiers = Counter(copy.tier for copies in site.catalog.current_copies().values() for copy in copies)
        chains = site.catalog.check_chains()
    as_run = (first.name, second.name) == ("WaitingForApproval", "Completed")
    as_planned = actions == _ACTIONS and tiers == _TIERS and receipt["done"] == receipt["slides"]
    if not (as_run and refused and as_planned and receipt["certified"] == 1 and not chains):
        what = f"{dict(actions)}, {receipt}, {dict(tiers)}, {first}, {second}"
        return [f"[red]The plan was not applied as it was made: {what}[/]"], False
    made_of = f"{actions['move']} to move, {actions['delete']} to delete, {actions['none']} to stay"
    did = f"{receipt['done']} of {receipt['slides']}"
    return [
        f"By rules, a plan for {len(plan.rows)} more slides, of a small hospital with 20 years of dates: {made_of}.",
        f"A night of Prefect (a server of its own, at {where}) made it, and ended as [bold]{first.name}[/].",
        f"An approver and a physician signed it, with three visas; then {did} rows were done: [bold]{second.name}[/].",
        "The slide whose time was over is gone from every tier, with a certificate that the site signed.",
    ], True


def _is_refused(site: ops.Site, plan: Plan) -> bool:
    """Say whether a plan that nobody has signed is not applied."""
    try:
        list(ops.apply_plan(site, plan.path, anytime=True))
    except ConflictError as error:
        return error.kind is Kind.NOT_APPROVED
    return False


def _take_in(site: ops.Site, folder: Path) -> None:
    """Make slides and what the hospital knows of them, and take both in."""
    today = datetime.now(UTC).date()
    cases = [_case(number, age, today) for number, age in enumerate(_AGES_DAYS)]
    paths = []
    for number, case in enumerate(cases):
        path = folder / "share" / case["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        paths.append(write_svs(path, pyramid(tissue(_EDGE, _EDGE, seed=100 + number), 2, 2)))
    slides = _table(folder / "slides.csv", cases, "file", "case_id", "patient_id")
    for result in ops.ingest(site, paths, metadata=read_metadata(slides)):
        if result.error is not None:
            raise ConflictError(result.error.message)
    tables = [
        _table(folder / "patients.csv", cases, "patient_id", "birth_date"),
        _table(folder / "encounters.csv", cases, "encounter_id", "patient_id", "kind", "state", "begins"),
        _table(folder / "recourses.csv", [], "recourse_id", "patient_id", "state", "begins"),
        _table(folder / "cases.csv", cases, "case_id", "patient_id", "signed_out_at"),
    ]
    ops.import_metadata(site, tables, as_of=datetime.now(UTC) - timedelta(hours=1))


def _case(number: int, age: int | None, today: date) -> Mapping[str, str]:
    seen = today - timedelta(days=age or 0)
    return {
        "file": f"{number}.svs",
        "case_id": f"CASE-{number:04}",
        "patient_id": f"PATIENT-{number:04}",
        "birth_date": "1950-06-15",
        "encounter_id": f"VISIT-{number:04}",
        "kind": "visit",
        "state": "finished",
        "begins": str(seen),
        "signed_out_at": "" if age is None else f"{seen}T12:00:00Z",
    }


def _table(path: Path, rows: list[Mapping[str, str]], *columns: str) -> Path:
    lines = [",".join(columns), *(",".join(row[name] for name in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _approve(site: ops.Site, plan: Plan) -> None:
    """Two people of two accounts, whose keys are made here: everybody else's lie with their owners."""
    people = {"Head of IT": "administrator", "Head of pathology": "approver", "Physician": "dim-physician"}
    keys = [_key(90_000 + number) for number in range(len(people))]
    for (name, role), key in zip(people.items(), keys, strict=True):
        ops.add_approver(site, name, [role], keys[0], introduction=key.introduction())
    for role, key in zip(list(people.values())[1:], keys[1:], strict=True):
        ops.approve(site, plan, role, key)
    for role in ("director", "dim-physician", "departmental-archives"):
        ops.add_visa(site, plan, role, f"{role}/1", str(datetime.now(UTC).date()), keys[1])


def _key(uid: int) -> PersonKey:
    return PersonKey(Signer(Ed25519PrivateKey.generate().private_bytes_raw()), Account(uid, f"account-{uid}"))
