"""Words for what content names by key: tiers, departments, states, reasons of a change."""

from __future__ import annotations

from wsistore.reports.pages.content import IDLE, UNKNOWN, Change, Content, Item, Who
from wsistore.reports.pages.texts import Texts

_LEAST = 0.005
"""EUR: a reason that is smaller is not told."""


def who_is(texts: Texts, whom: Who) -> str:
    """Return a department's name, or words where there is none."""
    if whom == IDLE:
        return texts("who.idle")
    return texts("who.unknown") if whom == UNKNOWN else (whom.name or texts("who.unknown"))


def item_name(texts: Texts, item: Item) -> str:
    """Return the name of a tier or of a department."""
    return who_is(texts, item.key) if isinstance(item.key, Who) else str(item.key)


def item_key(item: Item) -> str:
    """Return what programs call a tier or a department."""
    if not isinstance(item.key, Who):
        return str(item.key)
    return item.key.name if item.key.kind == "department" else f"({item.key.kind})"


def state(texts: Texts, content: Content) -> list[tuple[str, str]]:
    """Return sentences on the state of a month, each with the kind of its notice."""
    found = []
    if not content.is_over:
        found.append((texts("page.unfinished"), ""))
    if content.closed_at is not None:
        found.append((texts("page.closed", at=moment(content.closed_at)), "good"))
    elif content.is_over:
        found.append((texts("page.draft"), ""))
    return found


def moment(text: str) -> str:
    """Return an ISO moment as people read it; in UTC, and says so."""
    return f"{text[:16].replace('T', ' ')} UTC"


def why(texts: Texts, change: Change) -> str:
    """Return the reasons of a change, the largest first."""
    found = []
    if abs(change.volume) >= _LEAST:
        size = change.bytes_now - change.bytes_before
        key = "change.volume" if size * change.volume <= 0 else f"change.volume_{'more' if size > 0 else 'less'}"
        words = texts(key, bytes=texts.bytes(abs(size)), amount=texts.money(change.volume, sign=True))
        found.append((abs(change.volume), words))
    if abs(change.price) >= _LEAST:
        found.append((abs(change.price), texts("change.price", amount=texts.money(change.price, sign=True))))
    for meter, amount in change.activity.items():
        if abs(amount) >= _LEAST:
            found.append((abs(amount), f"{meter_name(texts, meter)}{_colon(texts)} {texts.money(amount, sign=True)}"))
    words = "; ".join(words for _, words in sorted(found, key=lambda one: -one[0]))
    if not change.before and change.now:
        return f"{texts('change.new')}; {words}" if words else texts("change.new")
    if change.before and not change.now:
        return f"{texts('change.gone')}; {words}" if words else texts("change.gone")
    return words


def meter_name(texts: Texts, meter: str) -> str:
    """Return a kind of usage in words."""
    return texts(f"meter.{meter}") if texts.has(f"meter.{meter}") else meter


def _colon(texts: Texts) -> str:
    return "\N{NO-BREAK SPACE}:" if texts.language == "fr" else ":"
