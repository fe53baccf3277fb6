"""Several owners ingest, fail, crash and are cleaned up after, against a model made of plain dictionaries."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from tests import catalog_kit as kit
from wsistore.catalog import AlreadyClaimed, AttemptState, Catalog
from wsistore.errors import ConflictError, MissingError
from wsistore.events import EventKind
from wsistore.testing.clock import ManualClock

CONTENTS = st.sampled_from("abcd")
OWNERS = ("one/1:boot:1:1", "two/1:boot:2:2", "three/1:boot:3:3")


@dataclass
class Told:
    """What the model knows of an attempt."""

    slide: str
    owner: str
    state: AttemptState = AttemptState.WRITING
    content: str = ""
    n: int = 0
    object_written: bool = False


@dataclass
class Model:
    """What ought to be true."""

    attempts: dict[str, Told] = field(default_factory=dict)
    versions: dict[str, list[str]] = field(default_factory=dict)
    """Slide to contents committed, in order; the last is current."""
    events: dict[str, list[str]] = field(default_factory=dict)

    def live(self) -> dict[str, str]:
        """Content to slide, for all that is current or claimed."""
        claimed = {told.content: told.slide for told in self.attempts.values() if told.state is AttemptState.CLAIMED}
        return {contents[-1]: slide for slide, contents in self.versions.items()} | claimed

    def claimed_slides(self) -> set[str]:
        """Slides with an open claim."""
        return {told.slide for told in self.attempts.values() if told.state is AttemptState.CLAIMED}

    def commit(self, key: str) -> None:
        """Make what was claimed current."""
        told = self.attempts[key]
        told.state = AttemptState.COMMITTED
        self.versions.setdefault(told.slide, []).append(told.content)
        self.events.setdefault(told.slide, []).append("ingested")


OPEN = {AttemptState.WRITING, AttemptState.VERIFIED, AttemptState.CLAIMED}


class Protocol(RuleBasedStateMachine):
    """Each rule is one call that some owner makes, or a crash."""

    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.url = kit.new_url(self.folder)
        self.clock = ManualClock(kit.NOW)
        self.catalog = Catalog.open(self.url, clock=self.clock)
        self.model = Model()

    def teardown(self) -> None:
        self.catalog.close()
        shutil.rmtree(self.folder)

    # --- the way of an ingest

    @rule(target=attempts, owner=st.sampled_from(OWNERS), data=st.data())
    def begin(self, owner: str, data: st.DataObject) -> str:
        known = sorted({*self.model.versions, *(told.slide for told in self.model.attempts.values())})
        new = f"slide{len(known)}"
        slide = data.draw(st.sampled_from([*known, new]))
        attempt = self.catalog.begin_attempt(slide, "hot", owner, kit.LEASE)
        self.model.attempts[attempt.attempt] = Told(slide, owner)
        return attempt.attempt

    @rule(key=attempts)
    def mark_verified(self, key: str) -> None:
        told = self.model.attempts[key]
        if told.state in {AttemptState.WRITING, AttemptState.VERIFIED}:
            self.catalog.mark_verified(key, "f" * 64)
            told.state = AttemptState.VERIFIED
        else:
            with pytest.raises((ConflictError, MissingError)):
                self.catalog.mark_verified(key, "f" * 64)

    @rule(key=attempts, content=CONTENTS)
    def claim(self, key: str, content: str) -> None:
        told = self.model.attempts[key]
        n = len(self.model.versions.get(told.slide, [])) + 1
        if told.state is AttemptState.CLAIMED and told.content == content:
            self._claim(key, content, told.n)  # a repetition
        elif told.state not in {AttemptState.WRITING, AttemptState.VERIFIED}:
            with pytest.raises((ConflictError, MissingError)):
                self._claim(key, content, n)
        elif content in self.model.live():
            with pytest.raises(AlreadyClaimed) as caught:
                self._claim(key, content, n)
            assert caught.value.slide == self.model.live()[content]
        elif told.slide in self.model.claimed_slides():
            with pytest.raises(AlreadyClaimed) as caught:
                self._claim(key, content, n)
            assert caught.value.slide == told.slide
        else:
            self._claim(key, content, n)
            told.state, told.content, told.n = AttemptState.CLAIMED, content, n

    def _claim(self, key: str, content: str, n: int) -> None:
        slide = self.model.attempts[key].slide
        self.catalog.claim(
            key,
            fingerprint=kit.fingerprint_of(content),
            slide=kit.slide_of(slide, f"{content}.svs"),
            source=kit.source_of(content, n),
            copy=kit.copy_of(slide, n),
            supersedes=n - 1 or None,
        )

    @rule(key=attempts)
    def write_commit_object(self, key: str) -> None:
        told = self.model.attempts[key]
        if told.state is AttemptState.CLAIMED:
            told.object_written = True

    @rule(key=attempts)
    def commit(self, key: str) -> None:
        told = self.model.attempts[key]
        if told.state is AttemptState.CLAIMED and told.object_written:
            self.catalog.commit(key, kit.INGESTED)
            self.model.commit(key)
        elif told.state is AttemptState.COMMITTED:
            self.catalog.commit(key, kit.INGESTED)  # a repetition
        elif told.state is not AttemptState.CLAIMED:
            with pytest.raises((ConflictError, MissingError)):
                self.catalog.commit(key, kit.INGESTED)

    @rule(key=attempts)
    def abandon(self, key: str) -> None:
        told = self.model.attempts[key]
        if told.state is AttemptState.COMMITTED:
            with pytest.raises(ConflictError):
                self.catalog.abandon(key, "no")
        elif not told.object_written:
            self.catalog.abandon(key, "no")
            told.state = AttemptState.ABANDONED

    @rule(key=consumes(attempts))
    def forget(self, key: str) -> None:
        told = self.model.attempts[key]
        if told.state is AttemptState.ABANDONED:
            self.catalog.forget_attempt(key)
            del self.model.attempts[key]
        else:
            with pytest.raises(ConflictError):
                self.catalog.forget_attempt(key)

    # --- other things that happen

    @precondition(lambda self: self.model.versions)
    @rule(data=st.data())
    def append_event(self, data: st.DataObject) -> None:
        slide = data.draw(st.sampled_from(sorted(self.model.versions)))
        self.catalog.append_event(slide, EventKind.RESTORED, "operator", {"to": "/x"})
        self.model.events[slide].append("restored")

    @rule(owner=st.sampled_from(OWNERS))
    def crash_and_recovery(self, owner: str) -> None:
        """The owner dies; who comes next finishes or undoes all that it had begun."""
        self.catalog.close()
        self.catalog = Catalog.open(self.url, clock=self.clock)
        for attempt in self.catalog.open_attempts("hot"):
            told = self.model.attempts[attempt.attempt]
            if attempt.owner != owner:
                continue
            if told.object_written:
                copy = self.catalog.copy_of_attempt(attempt.attempt)
                assert copy is not None
                assert copy.commit_key == f"commits/{told.slide}/{told.n}.json"
                self.catalog.commit(attempt.attempt, kit.INGESTED)
                self.model.commit(attempt.attempt)
            else:
                self.catalog.abandon(attempt.attempt, "its owner died")
                told.state = AttemptState.ABANDONED

    @rule()
    def time_passes(self) -> None:
        self.clock.advance(60)

    # --- what always holds

    @invariant()
    def slides_are_those_that_were_committed(self) -> None:
        found = {slide.slide: (slide.version, slide.name) for slide in self.catalog.slides()}
        assert found == {
            slide: (len(contents), f"{contents[-1]}.svs") for slide, contents in self.model.versions.items()
        }
        for slide, contents in self.model.versions.items():
            states = [(copy.version, str(copy.state)) for copy in self.catalog.copies(slide)]
            older = [(n, "superseded") for n in range(len(contents) - 1, 0, -1)]
            assert states == [(len(contents), "committed"), *older]

    @invariant()
    def attempts_are_as_told(self) -> None:
        found = {attempt.attempt: attempt.state for attempt in self.catalog.open_attempts()}
        told = {key: told.state for key, told in self.model.attempts.items()}
        assert found == {key: state for key, state in told.items() if state is not AttemptState.COMMITTED}

    @invariant()
    def one_live_source_per_content(self) -> None:
        live = "SELECT fingerprint FROM sources WHERE state IN ('claimed', 'current')"
        found = [fingerprint for (fingerprint,) in kit.sql(self.url, live)]
        assert sorted(found) == sorted(kit.fingerprint_of(content) for content in self.model.live())

    @invariant()
    def nothing_is_orphaned(self) -> None:
        assert kit.sql(self.url, "PRAGMA foreign_key_check") == []
        bare = "SELECT slide FROM slides WHERE slide NOT IN (SELECT slide FROM sources)"
        assert kit.sql(self.url, bare) == []
        unclaimed = (
            "SELECT s.slide FROM sources s LEFT JOIN attempts a ON a.attempt = s.attempt "
            "WHERE a.state IS NULL OR (s.state = 'claimed') != (a.state = 'claimed')"
        )
        assert kit.sql(self.url, unclaimed) == []

    @invariant()
    def chains_are_whole(self) -> None:
        assert self.catalog.check_chains() == []
        for slide, kinds in self.model.events.items():
            assert [event.kind for event in self.catalog.events(slide)] == kinds


TestProtocol = Protocol.TestCase
# Each step is durable, and is followed by a look at every table: tens of milliseconds.
TestProtocol.settings = settings(max_examples=settings().max_examples * 2 // 5)
