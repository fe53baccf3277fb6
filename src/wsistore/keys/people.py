"""People's own keys (Ed25519): each lies in its owner's folder, sealed by a passphrase, bound to an account.

The file is JSON. What is secret in it, the 32 private bytes, is sealed by AES-256-GCM under a key that scrypt makes of
the passphrase; all the rest is authenticated with it, so that a key cannot be given another account.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import secrets
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from wsistore.clock import Clock, iso
from wsistore.errors import InputError, Kind, MissingError, SiteError
from wsistore.events import canonical_json
from wsistore.keys.signing import Signer, id_of, verify

_KIND, _FORMAT = "wsistore-person-key", 1
_COST = {"n": 1 << 15, "r": 8, "p": 1}
"""Of scrypt: 32 MiB and a tenth of a second for each guess."""
_MOST_COST = 1 << 18
_MOST_BYTES = 1 << 14
LEAST_PASSPHRASE = 12
"""Characters. What protects a deletion should not be guessed by whoever finds the file."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the operating system."""

    uid: int
    login: str

    @classmethod
    def current(cls) -> Self:
        """Return the account that this process works for."""
        # Not getpass.getuser: it believes $LOGNAME.
        uid = os.geteuid()
        try:
            return cls(uid, pwd.getpwuid(uid).pw_name)
        except KeyError:  # no name for this user id, as in some containers
            return cls(uid, f"uid-{uid}")


def account_of(login: str) -> Account:
    """Return the account with this login.

    Raises
    ------
    MissingError
        If this machine knows none.

    """
    try:
        return Account(pwd.getpwnam(login).pw_uid, login)
    except (KeyError, ValueError, UnicodeError) as error:
        msg = f"This machine knows no account {login[:100]!r}."
        raise MissingError(msg, remedy="Check the login: getent passwd LOGIN.") from error


@dataclass(frozen=True, slots=True)
class PublicPerson:
    """What a person hands to the administrator of the roster: no secret, and signed by the key itself."""

    account: Account
    public: bytes
    """32 bytes."""
    signature: bytes

    def to_text(self) -> str:
        """Return it as a line of text."""
        return f"wsistore-approver {self.account.uid} {self.account.login} {self.public.hex()} {self.signature.hex()}"

    @classmethod
    def parse(cls, text: str, *, where: str) -> Self:
        """Return what a line of text says; `where` it was, for messages.

        Raises
        ------
        InputError
            If it is no such line, or was altered.

        """
        words = text.split()
        try:
            name, uid, login, public, signature = words
            found = cls(Account(int(uid), login), bytes.fromhex(public), bytes.fromhex(signature))
            is_good = name == "wsistore-approver" and check(found.public, _binding(found), found.signature)
        except ValueError:
            is_good = False
        if not is_good:
            msg = f"{where} is no line of an approver's key, or it was altered."
            remedy = "Let the person run 'wsistore approver key' and hand over what it prints."
            raise InputError(msg, kind=Kind.SIGNATURE_INVALID, remedy=remedy)
        return found


class PersonKey:
    """A person's key, opened: it signs and shows nothing else.

    Parameters
    ----------
    signer
        With the private key.
    account
        The account that the key is bound to.

    """

    def __init__(self, signer: Signer, account: Account) -> None:
        self._signer = signer
        self.account = account
        self.public: bytes = signer.public
        """The 32 public bytes."""
        self.key_id: str = signer.key_id

    def __repr__(self) -> str:
        return f"PersonKey({self.key_id})"

    def __reduce__(self) -> tuple[Any, ...]:
        msg = "Keys are not pickled."
        raise TypeError(msg)

    def sign(self, statement: str) -> bytes:
        """Return the signature of a statement, 64 bytes."""
        return self._signer.sign(statement.encode())

    def introduction(self) -> PublicPerson:
        """Return what the person hands to the administrator of the roster."""
        bare = PublicPerson(self.account, self.public, b"")
        return PublicPerson(self.account, self.public, self._signer.sign(_binding(bare)))


def check(public: bytes, data: bytes, signature: bytes) -> bool:
    """Say whether `signature` is that of `data` by the key whose 32 public bytes are `public`."""
    name = id_of(public)
    return verify({name: public}, name, data, signature)


def default_path() -> Path:
    """Return where a person's key lies unless told otherwise: in the home folder of the account, not that of $HOME."""
    try:
        home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        home = Path("/nonexistent")
    return home / ".config" / "wsistore" / "approver.key"


def make(path: Path, passphrase: str, account: Account, clock: Clock) -> PersonKey:
    """Make a key for an account and lay it down, readable by its owner only; one that is there stays.

    Raises
    ------
    InputError
        If the passphrase is too short.
    SiteError
        If there is a file already (`Kind.SITE_EXISTS`), or it cannot be written.

    """
    if len(passphrase) < LEAST_PASSPHRASE:
        msg = f"The passphrase has {len(passphrase)} characters; it takes {LEAST_PASSPHRASE} or more."
        raise InputError(msg, kind=Kind.PASSPHRASE_WRONG, remedy="Four words that do not belong together do well.")
    signer = Signer(Ed25519PrivateKey.generate().private_bytes_raw())
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    fields = {
        "format": _FORMAT,
        "kind": _KIND,
        "account": asdict(account),
        "made": iso(clock.now()),
        "public": signer.public.hex(),
        "scrypt": _COST | {"salt": base64.b64encode(salt).decode()},
    }
    cipher = AESGCM(Scrypt(salt=salt, length=32, **_COST).derive(passphrase.encode()))
    sealed = nonce + cipher.encrypt(nonce, signer.secret(), canonical_json(fields).encode())
    _write(path, json.dumps({**fields, "sealed": base64.b64encode(sealed).decode()}, indent=2).encode() + b"\n")
    return PersonKey(signer, account)


def open_key(path: Path, passphrase: str, account: Account) -> PersonKey:
    """Open the key that lies at `path`, for the account that it is bound to.

    Raises
    ------
    MissingError
        If there is none.
    SiteError
        If others may read it, or it is damaged.
    InputError
        If the passphrase is wrong (`Kind.PASSPHRASE_WRONG`), or it is another account's (`Kind.NOT_ALLOWED`).

    """
    fields = _fields(path)
    try:
        sealed = base64.b64decode(fields.pop("sealed"), validate=True)
        cost = fields["scrypt"]
        salt, n, r, p = base64.b64decode(cost["salt"], validate=True), cost["n"], cost["r"], cost["p"]
        if fields["format"] != _FORMAT or not 1 < n * r * p <= _MOST_COST * 8 or n > _MOST_COST:
            raise _damaged(path)
        secret = Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(passphrase.encode())
        bound = Account(int(fields["account"]["uid"]), str(fields["account"]["login"]))
        private = AESGCM(secret).decrypt(sealed[:12], sealed[12:], canonical_json(fields).encode())
        signer = Signer(private)
    except InvalidTag as error:
        msg = f"The passphrase of {path} is another one, or the file was altered."
        raise InputError(msg, kind=Kind.PASSPHRASE_WRONG, remedy="Type it again.") from error
    except (ValueError, LookupError, TypeError, AttributeError, MemoryError, OverflowError) as error:
        raise _damaged(path) from error
    if bound.uid != account.uid:
        msg = f"{path} is the key of {bound.login} (uid {bound.uid}); this is {account.login} (uid {account.uid})."
        raise InputError(msg, kind=Kind.NOT_ALLOWED, remedy="Approve under your own account, with your own key.")
    return PersonKey(signer, bound)


def _binding(person: PublicPerson) -> bytes:
    return canonical_json(
        {"what": "wsistore-approver", "account": asdict(person.account), "public": person.public.hex()}
    ).encode()


def _fields(path: Path) -> dict[str, Any]:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES)
    except FileNotFoundError as error:
        msg = f"There is no key at {path}."
        raise MissingError(msg, kind=Kind.KEY_MISSING, remedy="Make yours: wsistore approver key.") from error
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read ({error})."
        raise SiteError(msg, remedy="Mend its permissions.") from error
    if mode & 0o077:
        msg = f"{path} may be read by others (mode {mode:04o})."
        raise SiteError(msg, kind=Kind.SETTINGS_INVALID, remedy=f"Run: chmod 600 {path}")
    try:
        fields: Any = json.loads(content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or fields.get("kind") != _KIND:
        raise _damaged(path)
    return fields


def _write(path: Path, content: bytes) -> None:
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, parents=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        msg = f"There is a file already: {error.filename}."
        remedy = "A key is not replaced: whoever lost the passphrase is revoked and makes another key at another place."
        raise SiteError(msg, kind=Kind.SITE_EXISTS, remedy=remedy) from error
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be written ({error})."
        raise SiteError(msg, remedy="Name another place with --key.") from error


def _damaged(path: Path) -> SiteError:
    remedy = "Restore it from a backup, or let the administrator revoke it and make another."
    return SiteError(f"{path} is no person's key, or damaged.", kind=Kind.KEY_MISSING, remedy=remedy)
