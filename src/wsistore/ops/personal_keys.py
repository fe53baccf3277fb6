"""People's own keys, for the account that this process works for."""

from __future__ import annotations

from pathlib import Path

from wsistore.clock import Clock
from wsistore.keys import people
from wsistore.keys.people import Account, PersonKey, PublicPerson


def own_key_path() -> Path:
    """Return where the key of this account lies unless told otherwise."""
    return people.default_path()


def make_own_key(path: Path, passphrase: str, clock: Clock) -> PublicPerson:
    """Make a key for this account, sealed by a passphrase; return what its owner hands to the roster's administrator.

    Raises
    ------
    InputError
        If the passphrase is too short.
    SiteError
        If there is a file already, or it cannot be written.

    """
    return people.make(path, passphrase, Account.current(), clock).introduction()


def open_own_key(path: Path, passphrase: str) -> PersonKey:
    """Open the key of this account; raises as `wsistore.keys.people.open_key`."""
    return people.open_key(path, passphrase, Account.current())


def read_introduction(text: str, *, where: str) -> PublicPerson:
    """Return what a person handed over; raises as `PublicPerson.parse`."""
    return PublicPerson.parse(text, where=where)


def account_of(login: str) -> Account:
    """Return the account with this login.

    Raises
    ------
    MissingError
        If this machine knows none.

    """
    return people.account_of(login)
