"""Recovery sheets: both give the keys back, one tells nothing, and every slip of the pen is found in its line."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from wsistore.errors import InputError, Kind
from wsistore.keys.sheets import Secrets, as_html, join, parse, split

MADE = datetime(2026, 3, 1, tzinfo=UTC)
SITE = "0123456789abcdefghjk"
KEPT = Secrets(SITE, {1: bytes(range(32)), 3: bytes(range(100, 132))}, bytes(range(200, 232)))
ROW = re.compile(r"^ *\d+\. ")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the same shares at each run: of a million slips, one fits the twenty bits of its line's check."""
    draw = random.Random(2)
    made = SimpleNamespace(token_bytes=draw.randbytes, token_hex=lambda size: draw.randbytes(size).hex())
    monkeypatch.setattr("wsistore.keys.sheets.secrets", made)


def rows(text: str) -> list[int]:
    return [number for number, line in enumerate(text.splitlines()) if ROW.match(line)]


@pytest.mark.parametrize("kept", [KEPT, Secrets(SITE, {1: b"k" * 32}), Secrets(SITE, {}, b"s" * 32)])
def test_two_sheets_give_everything_back_in_any_order(kept: Secrets) -> None:
    one, other = split(kept, MADE)
    assert join(one, other) == kept
    assert join(other, one) == kept


def test_one_sheet_tells_nothing() -> None:
    shares = [parse(split(KEPT, MADE)[0]).share for _ in range(2)]
    assert shares[0] != shares[1]
    for text in split(KEPT, MADE):
        assert KEPT.versions[1] not in parse(text).share
        assert KEPT.signing not in parse(text).share
    assert "k" not in repr(Secrets("x", {1: b"k" * 32}))


def test_typing_is_forgiven_where_nothing_is_lost() -> None:
    one, other = split(KEPT, MADE)
    lines = [line.split(".", 1) if ROW.match(line) else None for line in one.splitlines()]
    typed = "\n".join(
        line if cut is None else f"{cut[0].strip()}: {cut[1].lower().replace('0', 'o').replace('1', 'l')}"
        for line, cut in zip(one.splitlines(), lines, strict=True)
    )
    assert join(typed.replace("     ", " - "), other) == KEPT
    assert join(one.replace("\n", "\r\n"), "  " + other.replace("\n", "\n   ")) == KEPT


@pytest.mark.usefixtures("drawn")
def test_every_mistyped_character_is_found_in_its_line() -> None:
    one, _ = split(KEPT, MADE)
    lines = one.splitlines()
    draw = random.Random(1)
    for place, number in enumerate(rows(one), start=1):
        start = lines[number].index(".") + 1
        for at in range(start, len(lines[number])):
            old = lines[number][at]
            if old == " ":
                continue
            new = draw.choice([c for c in "0123456789ABCDEFGHJKMNPQRSTVWXYZ" if c != old])
            wrong = lines[number][:at] + new + lines[number][at + 1 :]
            with pytest.raises(InputError, match=f"Sheet 1: line {place} is mistyped") as caught:
                parse("\n".join([*lines[:number], wrong, *lines[number + 1 :]]))
            assert caught.value.kind is Kind.SHEET_INVALID


@pytest.mark.usefixtures("drawn")
def test_lines_that_are_missing_swapped_or_twice_are_found() -> None:
    one, other = split(KEPT, MADE)
    lines = one.splitlines()
    where = rows(one)
    for number in where[:-1]:
        with pytest.raises(InputError, match="is missing, or stands after"):
            parse("\n".join(lines[:number] + lines[number + 1 :]))
    with pytest.raises(InputError, match="fewer lines"):
        join("\n".join(lines[: where[-1]]), other)
    swapped = list(lines)
    swapped[where[0]], swapped[where[1]] = swapped[where[1]], swapped[where[0]]
    with pytest.raises(InputError):
        parse("\n".join(swapped))
    relabelled = list(lines)
    relabelled[where[0]] = " 1. " + lines[where[1]].split(".")[1]
    with pytest.raises(InputError, match="line 1 is mistyped"):
        parse("\n".join(relabelled))


@pytest.mark.usefixtures("drawn")
def test_sheets_of_other_pairs_do_not_fit() -> None:
    one, other = split(KEPT, MADE)
    second_one, second_other = split(KEPT, MADE)
    for left, right in ((one, second_other), (second_one, other)):
        with pytest.raises(InputError, match="two pairs"):
            join(left, right)
    with pytest.raises(InputError, match="Both are sheet 2"):
        join(other, other)
    # The head is part of every line's check: a sheet is not made to fit by writing another head above it.
    pair = parse(one).pair
    with pytest.raises(InputError, match="line 1 is mistyped"):
        join(one, second_other.replace(parse(second_other).pair, pair))


@pytest.mark.parametrize("text", ["", "hello", "Site: x\nPair: y\nSheet: 3\n", "Site: x\nPair: y\nSheet: 1\n", "\x00"])
def test_what_is_no_sheet_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse(text)


def test_page_says_what_the_text_says() -> None:
    one, other = split(KEPT, MADE)

    class Text(HTMLParser):
        found = ""

        def handle_data(self, data: str) -> None:
            self.found += data if self.lasttag == "pre" else ""

    page = Text()
    page.feed(as_html(one))
    assert join(page.found, other) == KEPT
    assert "2026-03-01" in one
    assert "site key version 1, 3, signing key" in one
    assert max(len(line) for line in one.splitlines()) < 100, "prints on one line"
