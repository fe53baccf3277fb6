"""A file of rules is understood whole or refused, with the line, the column and the name that was meant."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.rules_kit import TIERS, rules_of
from tests.unit.test_catalog_conditions import REFUSED
from wsistore.errors import InputError, Kind, MissingError
from wsistore.model import Preset
from wsistore.settings import load, write_new
from wsistore.tiers.rules import Hosting, TierFacts, Window, parse_rules, read_rules
from wsistore.tiers.rules.values import Period, Unit

WHOLE = """\
version: 1
about: What we do.
sources: [a law, a letter]
time_zone: Europe/Paris
feed_max_age: 2 weeks
hosting: {certificate: required, own: hot, locations: [FR, DE]}
retention:
  - name: csp
    keep_until: greatest(last_encounter + interval 20 year, birth_date + interval 28 year)
    suspended_by: recourse
  - name: death
    where: death_date < last_encounter + interval 10 year
    keep_until: death_date + interval 10 year
    replaces: csp
  - name: interest
    where: list_has_any(collections, ['teaching'])
    keep_until: never-ends
    at_legal_end: detach-identity
    review_every: 5 years
placement:
  - {name: active, where: signed_out_at is null, tier: hot}
  - {name: archive, tier: cold, also: [tape], encode: pack, copies: 2}
limits:
  move_bytes_per_day: 5 TB
  window: "20:00-06:00"
  hot_high_watermark: 85 %
  high_watermarks: {warm: 70 %}
  cost_at_most: 500 EUR
  delete_at_most: 0.5 %
  move_at_most: 10 %
"""


def test_everything_that_a_file_may_say() -> None:
    rules = parse_rules(WHOLE.encode(), "r.yaml")
    assert (rules.about, rules.sources) == ("What we do.", ("a law", "a letter"))
    assert rules.time_zone == ZoneInfo("Europe/Paris")
    assert rules.feed_max_age == timedelta(days=14)
    assert rules.hosting == Hosting(certificate=True, own=("hot",), locations=("FR", "DE"))
    csp, death, interest = rules.retention
    assert csp.suspended_by_recourse
    assert csp.where is None
    assert death.replaces == ("csp",)
    assert (interest.keep_until, interest.detach, interest.review_every) == (None, True, Period(5, Unit.YEAR))
    active, archive = rules.placement
    assert (active.encode, active.copies, active.tiers) == (None, None, ("hot",))
    assert (archive.tiers, archive.encode, archive.copies, archive.line) == (("cold", "tape"), Preset.PACK, 2, 22)
    limits = rules.limits
    assert limits.move_bytes_per_day == 5 * 10**12
    assert limits.window == Window(time(20), time(6))
    assert limits.high_watermarks == {"hot": 0.85, "warm": 0.7}
    assert (limits.cost_at_most_eur, limits.delete_at_most, limits.move_at_most) == (500.0, 0.005, 0.1)
    assert rules.text == WHOLE
    assert pickle.loads(pickle.dumps(rules)) == rules


def test_what_a_file_need_not_say() -> None:
    rules = rules_of("")
    assert (rules.retention, rules.placement, rules.time_zone) == ((), (), UTC)
    assert (rules.limits.delete_at_most, rules.limits.move_at_most) == (0.001, 0.05)
    assert (rules.limits.move_bytes_per_day, rules.limits.window, rules.limits.cost_at_most_eur) == (None, None, None)
    assert rules.feed_max_age == timedelta(days=7)


def test_digest_is_of_the_bytes() -> None:
    one, other = (parse_rules(text, "r") for text in (b"version: 1\n", b"version: 1 \n"))
    assert len(one.digest) == 64
    assert one.digest != other.digest


def test_columns_are_those_that_the_rules_name_and_a_few_more() -> None:
    columns = set(parse_rules(WHOLE.encode(), "r").columns)
    assert {"birth_date", "collections", "signed_out_at", "copies", "recourse", "holds"} <= columns
    assert not {"metadata", "stain", "patient", "now"} & columns


_WHERE = "placement:\n  - name: a\n    tier: hot\n    where: "
_UNTIL = "retention:\n  - name: a\n    keep_until: "
_KEPT = "retention:\n  - {name: a, keep_until: "
_PLACED = "placement:\n  - {name: a, tier: hot"

WRONG = [
    ("retention:\n  - nmae: x", 3, 5, "no key 'nmae' here (did you mean 'name'?)"),
    ("retenton: []", 2, 1, "no key 'retenton' here (did you mean 'retention'?)"),
    ("retention:\n  - {name: x}", 3, 5, "rule 'x': there is no key 'keep_until'"),
    ("retention:\n  - {keep_until: never-ends}", 3, 5, "retention rule 1: there is no key 'name'"),
    ("placement:\n  - {name: x}", 3, 5, "there is no key 'tier'"),
    ("retention: {name: x}", 2, 12, "a table stands where a list|a table where a list is expected"),
    ("retention: [x]", 2, 13, "'x' where a table of keys and values is expected"),
    ("retention:\n  - name: X y\n    keep_until: never-ends", 3, 11, "'X y' is no name"),
    ("retention:\n  - name: ''\n    keep_until: never-ends", 3, 11, "nothing stands where a text is expected"),
    ("placement:\n  - name: a\n    tier: hot\n    tier: cold", 5, 5, "the key 'tier' is here twice, first in line 4"),
    (_PLACED + ", where: stain = 1}\n  - {name: a, tier: hot}", 4, 5, "another rule 'a' in line 3"),
    (_PLACED + "}\n  - {name: b, tier: hot}", 3, 5, "'b' is never asked"),
    ("placement:\n  - {name: a, tier: Hot}", 3, 21, "'Hot' is no tier's name"),
    (_PLACED + ", also: [warm, hot]}", 3, 32, "a tier is named twice"),
    (_PLACED + ", encode: packed}", 3, 34, "none of keep, fold, pack (did you mean 'pack'?)"),
    (_PLACED + ", copies: 0}", 3, 34, "a whole number from 1 to"),
    (_PLACED + ", copies: two}", 3, 34, "a whole number from 1 to"),
    (_PLACED + ", copies: true}", 3, 34, "a whole number from 1 to"),
    # expressions
    (_WHERE + "stian = 'HE'", 5, 12, "unknown column 'stian' (at character 1); did you mean 'stain'?"),
    (_WHERE + "stain =", 5, 12, "no SQL expression"),
    (_WHERE + "stain", 5, 12, "is not true or false, but of the type VARCHAR"),
    (_WHERE + "stain > birth_date + 'x'", 5, 12, "cannot be evaluated"),
    (_WHERE + "current_date > birth_date", 5, 12, "reads the clock"),
    (_WHERE + "holds = 0", 5, 12, "unknown column 'holds'"),
    (_WHERE + "patient = 'x'", 5, 12, "unknown column 'patient'"),
    (_UNTIL + "width", 4, 17, "is not a day, but of the type BIGINT"),
    (_UNTIL + "never", 4, 17, "unknown column 'never'"),
    (_UNTIL + "birth_date + interval '1 year 2 days'", 4, 17, "not one number and one unit"),
    (_UNTIL + "birth_date + (interval 1 year + interval 1 month)", 4, 17, "several intervals at once"),
    (_UNTIL + "birth_date; drop table x", 4, 17, "no SQL expression"),
    # what belongs together
    (_KEPT + "never-ends, replaces: b}", 3, 49, "there is no retention rule 'b'"),
    ("retention:\n  - {name: aw, keep_until: never-ends, replaces: aww}", 3, 50, "mean 'aw'?"),
    (_KEPT + "never-ends, replaces: a}", 3, 49, "replaces itself"),
    (_KEPT + "never-ends, replaces: b}\n  - {name: b, keep_until: birth_date, replaces: a}", 3, 49, "that replaces"),
    (_KEPT + "birth_date, at_legal_end: detach-identity}", 3, 53, "keep_until is never-ends"),
    (_KEPT + "never-ends, at_legal_end: delete}", 3, 53, "none of detach-identity"),
    (_KEPT + "never-ends, suspended_by: appeal}", 3, 53, "none of recourse"),
    (_KEPT + "never-ends, review_every: often}", 3, 53, "no period such as '5 year'"),
    (_KEPT + "never-ends, review_every: 0 year}", 3, 53, "no period such as '5 year'"),
    # limits and the rest
    ("limits: {move_bytes_per_day: many}", 2, 30, "'many' is no size"),
    ("limits: {window: 20h-6h}", 2, 18, "no span of hours"),
    ("limits: {window: '25:00-06:00'}", 2, 18, "no span of hours"),
    ("limits: {window: '06:00-06:00'}", 2, 18, "no span of hours"),
    ("limits: {delete_at_most: 0.1}", 2, 26, "no percentage such as"),
    ("limits: {delete_at_most: 101 %}", 2, 26, "no percentage such as"),
    ("limits: {cost_at_most: 500}", 2, 24, "no sum such as '500 EUR'"),
    ("limits: {hot_high_watermark: 80 %, high_watermarks: {hot: 85 %}}", 2, 59, "the watermark of 'hot' is here twice"),
    ("limits: {delete_atmost: 1 %}", 2, 25, "did you mean 'delete_at_most'?"),
    ("feed_max_age: 2 month", 2, 15, "no number of days or weeks"),
    ("time_zone: Europe/Pariss", 2, 12, "no time zone such as"),
    ("time_zone: ../../etc/passwd", 2, 12, "no time zone such as"),
    ("hosting: {certificate: yes}", 2, 24, "none of required, not-required"),
    ("about: &a x", 2, 8, "anchors and aliases"),
    ("about: !!binary eA==", 2, 8, "the tag"),
    ("about: [", 2, 9, "is no YAML"),
    ("about: 'x", 2, 10, "is no YAML"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "said"), WRONG, ids=[said[:40] for *_, said in WRONG])
def test_what_is_wrong_is_said_with_its_place(text: str, line: int, column: int, said: str) -> None:
    with pytest.raises(InputError) as caught:
        rules_of(text)
    error = caught.value
    assert error.kind is Kind.RULES_INVALID
    assert any(part in error.message for part in said.split("|")), error.message
    assert error.message.startswith(f"rules.yaml, line {line}, column "), error.message
    if f"column {column}:" not in error.message:
        # A key that is missing or twice is told at its table; everything else at the value itself.
        assert "there is no key" in error.message or "no YAML" in error.message, error.message
    assert error.remedy


OUT = [text for text, _ in REFUSED if len(text) < 200 and text != "metadata = 1"]
"""All but one that is no more than nonsense: unknown for every slide."""


@pytest.mark.parametrize("text", OUT, ids=lambda text: text[:40])
def test_nothing_gets_out_through_a_rule(text: str) -> None:
    """What conditions of the command line may not say, rules may not say either, wherever an expression stands."""
    for place in ("placement:\n  - {name: a, tier: hot, where: %s}", "retention:\n  - {name: a, keep_until: %s}"):
        with pytest.raises(InputError) as caught:
            rules_of(place % json.dumps(text))
        assert caught.value.kind is Kind.RULES_INVALID
        assert "rules.yaml, line 3, column" in caught.value.message


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"\x00", b"[" * 1200, b"- a\n- b", b"just a text", b"version: 2", b"version: one", b"about: x",
     b"a: 1\n---\nb: 2", b"version: 1\nversion: 1", b"{" * 1200, b"%YAML 9.9\n---\na"],
)  # fmt: skip
def test_what_is_no_file_of_rules_is_refused(content: bytes) -> None:
    with pytest.raises(InputError) as caught:
        parse_rules(content, "r.yaml")
    assert caught.value.kind is Kind.RULES_INVALID
    assert "r.yaml" in caught.value.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no file .*none\.yaml"):
        read_rules(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_rules(tmp_path)
    (tmp_path / "big.yaml").write_bytes(b"#" * (1 << 20) + b"\nversion: 1\n")
    with pytest.raises(InputError, match="larger than"):
        read_rules(tmp_path / "big.yaml")


def test_tiers_that_the_site_does_not_have_are_refused() -> None:
    rules = rules_of("placement:\n  - {name: a, tier: warn}\n")
    with pytest.raises(InputError, match=r"line 3: rule 'a' names a tier 'warn' .*\(did you mean 'warm'\?\)"):
        rules.bind(TIERS)
    with pytest.raises(InputError, match="limits names a tier 'tape'"):
        rules_of("limits: {tape_high_watermark: 80 %}").bind(TIERS)
    assert rules_of("placement:\n  - {name: a, tier: warm}\n").bind(TIERS).bound


def test_hosting_says_which_tiers_may_hold_the_data() -> None:
    tiers = {
        "hot": TierFacts(location="FR"),
        "ours": TierFacts(remote=True, location="fr"),
        "warm": TierFacts(remote=True, location="FR", certified_until=date(2026, 12, 31)),
        "cold": TierFacts(remote=True, location="FR"),
        "far": TierFacts(remote=True, location="US", certified_until=date(2030, 1, 1)),
        "shut": TierFacts(location="FR", closed="moving out"),
        "somewhere": TierFacts(),
    }
    rules = rules_of("hosting: {certificate: required, own: [ours], locations: [FR]}", tiers)
    refused = rules.not_allowed(date(2026, 12, 31))
    assert set(refused) == {"cold", "far", "somewhere"}
    assert "no certificate" in refused["cold"]
    assert "US" in refused["far"]
    assert "2026-12-31" in rules.not_allowed(date(2027, 1, 1))["warm"]
    assert "moving out" in rules.taking_none(date(2026, 12, 31))["shut"]
    assert "warm" in rules_of("", tiers).taking_none(
        date(2027, 1, 1)
    )  # its certificate is over, whatever the rules say


def test_windows_may_span_midnight() -> None:
    night, paris = Window(time(20), time(6)), ZoneInfo("Europe/Paris")
    assert night.contains(datetime(2026, 7, 1, 18, 0, tzinfo=UTC), paris)
    assert not night.contains(datetime(2026, 7, 1, 18, 0, tzinfo=UTC))
    assert night.contains(datetime(2026, 7, 1, 3, 59, tzinfo=UTC), paris)
    assert not night.contains(datetime(2026, 7, 1, 4, 0, tzinfo=UTC), paris)
    assert str(night) == "20:00-06:00"
    noon = Window(time(12), time(14))
    assert [noon.contains(datetime(2026, 7, 1, hour, tzinfo=UTC)) for hour in (11, 12, 13, 14)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_site_may_name_its_file_of_rules(tmp_path: Path) -> None:
    write_new(tmp_path)
    assert load(tmp_path).rules == tmp_path / "rules.yaml"
    settings = tmp_path / "wsistore.toml"
    settings.write_text(settings.read_text() + '\n[rules]\nfile = "law/ours.yaml"\n')
    assert load(tmp_path).rules == tmp_path / "law" / "ours.yaml"
