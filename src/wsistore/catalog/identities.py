"""Identities of patients in the catalogue: sealed where the site wants it, opened for whoever has the site's keys.

Every connection of the catalogue knows its `Identities`. What is sealed is a text that begins with `SEALED`; so sealed
and plain values may stand side by side, while a site that was in use before is being sealed, or after the setting was
taken back. The functions here take and give plain texts, and leave them as they are where nothing is to be sealed.

Each sealed value is bound to what it is `about`: the same words must be given to seal and to open it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Protocol

from sqlalchemy import Connection, select, update

from wsistore.catalog import schema
from wsistore.catalog.schema_identities import identity_keys
from wsistore.errors import InputError, Kind, SiteError, WsistoreError

SEALED = "wsistore-sealed:"
"""How a sealed value begins."""
OPTION = "wsistore_identities"
"""Execution option of connections: their `Identities`."""

IDENTIFYING = (
    *("patient_id", "patient", "patient_number", "ipp", "nip", "ins", "ins_nir", "ins_nia", "nir", "mrn"),
    *("patient_name", "name_of_patient", "family_name", "birth_name", "given_name", "given_names", "first_name"),
    *("last_name", "nom", "nom_naissance", "nom_de_naissance", "nom_usage", "prenom", "prénom", "prenoms", "prénoms"),
    *("birth_date", "date_of_birth", "date_naissance", "date_de_naissance", "birth_place", "place_of_birth"),
    *("lieu_naissance", "lieu_de_naissance", "birth_place_insee", "sex", "sexe", "address", "adresse", "phone"),
    *("telephone", "téléphone", "email"),
)
"""Metadata that identify a patient, whatever capitals, spaces, hyphens and underscores they are written with."""
PATIENT = "patient_id"
_MARKS = re.compile(r"[\W_]+")


def _folded(name: str) -> str:
    return _MARKS.sub("", name).casefold()


class Sealer(Protocol):
    """Seals and opens; `wsistore.keys.identities.IdentityCipher` does."""

    def seal(self, text: str, about: str) -> str:
        """Return a text sealed."""
        ...

    def open(self, sealed: str, about: str) -> str:
        """Return what was sealed; `SiteError` (`Kind.KEY_MISSING`) where its key is not at hand."""
        ...

    def indexes(self, text: str) -> tuple[str, ...]:
        """Return the blind indexes that a value may have, the current one first."""
        ...


Unlock = Callable[[Mapping[str, str]], Sealer]
"""Takes the wrapped identity keys by their ids, oldest first."""


def _none(_: Mapping[str, str]) -> Sealer:
    msg = "The catalogue was opened without the site's keys: identities cannot be read."
    raise SiteError(msg, kind=Kind.KEY_MISSING, remedy="Open the site, not its catalogue alone.")


class Identities:
    """What a catalogue does with identities. Threads share it.

    Parameters
    ----------
    unlock
        Gets at the keys, when they are first needed.
    is_on
        Whether what is written is sealed. What is sealed already is opened in either case.
    columns
        Further metadata that identify patients, by name.

    """

    def __init__(self, unlock: Unlock = _none, *, is_on: bool = False, columns: Iterable[str] = ()) -> None:
        self.is_on = is_on
        self._unlock = unlock
        self._names = frozenset(map(_folded, (*IDENTIFYING, *columns)))
        self._lock = Lock()
        self._known: dict[str, str] = {}
        self._sealer: Sealer | None = None

    def is_identity(self, name: str) -> bool:
        """Say whether metadata of this name identify a patient."""
        return _folded(name) in self._names

    def sealer(self, connection: Connection, sealed: str = "") -> Sealer:
        """Return what seals and opens; keys are read anew where `sealed` needs one that was not there before."""
        with self._lock:
            if self._sealer is None or (sealed and not any(f":{name}:" in sealed for name in self._known)):
                self._known = wrapped_keys(connection)
                self._sealer = self._unlock(self._known)
            return self._sealer

    def forget(self) -> None:
        """Read the keys anew when they are next needed."""
        with self._lock:
            self._sealer = None


CLEAR = Identities()
"""Of a catalogue that is opened without the site: it seals nothing, and opens nothing that is sealed."""


def of(connection: Connection) -> Identities:
    """Return what a connection does with identities."""
    found = connection.get_execution_options().get(OPTION, CLEAR)
    return found if isinstance(found, Identities) else CLEAR


def wrapped_keys(connection: Connection) -> dict[str, str]:
    """Return the wrapped identity keys by their ids, oldest first."""
    table = identity_keys
    rows = connection.execute(select(table.c.id, table.c.wrapped).order_by(table.c.made_at, table.c.id))
    return {row.id: row.wrapped for row in rows}


# --- values -----------------------------------------------------------------------------------------------------------


def seal_identity(connection: Connection, text: str, *, about: str) -> str:
    """Return a text as it is to be kept: sealed, or as it is where the site seals nothing.

    Raises
    ------
    SiteError
        If it is to be sealed, and the keys are not at hand (`Kind.KEY_MISSING`).

    """
    identities = of(connection)
    if not identities.is_on or not text or text.startswith(SEALED):
        return text
    return identities.sealer(connection).seal(text, about)


def open_identity(connection: Connection, text: str, *, about: str) -> str:
    """Return the text that `seal_identity` made `text` of.

    Raises
    ------
    SiteError
        If it is sealed, and its key is not at hand (`Kind.KEY_MISSING`).
    IntegrityError
        If it is damaged, or about something else.

    """
    if not text.startswith(SEALED):
        return text
    return of(connection).sealer(connection, text).open(text, about)


def identity_index(connection: Connection, text: str | None) -> str | None:
    """Return the blind index to keep beside a sealed value, so that it can be looked up; None where nothing is sealed.

    It says nothing but whether two values are the same, whatever their capitals, and that only to who has the key.
    """
    identities = of(connection)
    return identities.sealer(connection).indexes(text)[0] if identities.is_on and text else None


def identity_indexes(connection: Connection, texts: Iterable[str]) -> dict[str, str]:
    """Return the blind indexes by which values can be looked up, each with its value; none if nothing was ever sealed.

    Raises as `open_identity`.
    """
    if not wrapped_keys(connection):
        return {}
    sealer = of(connection).sealer(connection)
    return {index: text for text in texts for index in sealer.indexes(text)}


# --- metadata ---------------------------------------------------------------------------------------------------------


def seal_metadata(connection: Connection, slide: str, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return a slide's metadata as they are kept: values that identify a patient are sealed; raises as `seal_identity`.

    Raises
    ------
    InputError
        If a value looks like a sealed one (`Kind.METADATA_INVALID`).

    """
    identities = of(connection)
    for name, value in metadata.items():
        if value.startswith(SEALED):
            msg = f"The value of {name!r} begins with {SEALED!r}, as only what wsistore has sealed does."
            raise InputError(msg, kind=Kind.METADATA_INVALID, remedy="Give the value itself.")
    if not identities.is_on:
        return dict(metadata)
    return {
        name: seal_identity(connection, value, about=about_of(slide, name)) if identities.is_identity(name) else value
        for name, value in metadata.items()
    }


def open_metadata(
    connection: Connection, slide: str, metadata: Mapping[str, str], *, strict: bool = True
) -> dict[str, str]:
    """Return a slide's metadata as the site said them; raises as `open_identity`.

    Where the keys are not at hand, and not `strict`, what is sealed is left out: it is unknown.
    """
    found = {}
    for name, value in metadata.items():
        if not value.startswith(SEALED):
            found[name] = value
            continue
        try:
            found[name] = open_identity(connection, value, about=about_of(slide, name))
        except WsistoreError as error:
            if strict or error.kind is not Kind.KEY_MISSING:
                raise
    return found


def case_about(case: str) -> str:
    """Return what a case's patient is about."""
    return f"case {case}"


def put_patient(connection: Connection, case: str, patient: str | None) -> None:
    """Say whose a case is; raises as `seal_identity`."""
    sealed = seal_identity(connection, patient, about=case_about(case)) if patient else None
    values = {"patient_id": sealed, "patient_index": identity_index(connection, patient)}
    connection.execute(update(schema.cases).where(schema.cases.c.case_key == case).values(values))


def open_patient(connection: Connection, case: str, patient: str | None) -> str | None:
    """Return a case's patient; None where it is unknown, or the keys are not at hand."""
    if patient is None:
        return None
    try:
        return open_identity(connection, patient, about=case_about(case))
    except WsistoreError as error:
        if error.kind is not Kind.KEY_MISSING:
            raise
        return None


def about_of(slide: str, name: str) -> str:
    """Return what a value of a slide's metadata is about."""
    return f"slide {slide} {name}"
