"""What the settings say of one tier: frozen values without secrets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from wsistore.model import Preset
from wsistore.settings.archive import ArchiveSettings

MOST_COPIES = 16
"""That a site may ask for."""
MOST_SCRUB_DAYS = 3650
"""Between two readings of a copy."""
SOON_DAYS = 90
"""A certificate that ends within so many days is spoken of: an audit and its paperwork take about that long."""


class CertificateState(StrEnum):
    """What a tier's hosting certificate is worth on a day."""

    NONE = "none"
    """None is named: a hospital that hosts its own data needs none."""
    VALID = "valid"
    EXPIRES_SOON = "expires-soon"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A hosting certificate for health data (in France: HDS)."""

    number: str
    valid_until: date
    """Last day on which it is valid."""

    def state(self, today: date) -> CertificateState:
        """Return what it is worth on the day `today`."""
        left = (self.valid_until - today).days
        if left < 0:
            return CertificateState.EXPIRED
        return CertificateState.EXPIRES_SOON if left < SOON_DAYS else CertificateState.VALID


@dataclass(frozen=True, slots=True)
class ObjectLock:
    """How long objects cannot be deleted after they were written."""

    mode: str
    """``governance`` (accounts with a special permission may) or ``compliance`` (nobody may)."""
    days: int


@dataclass(frozen=True, slots=True)
class Encryption:
    """Server-side encryption that is asked for with every object."""

    method: str
    """``AES256`` (the service's keys) or ``aws:kms`` (a key of a key service)."""
    key: str = ""
    """Name of the key for ``aws:kms``; by default the bucket's. Never the key itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSettings:
    """One named place for copies."""

    name: str
    """Up to 32 lower-case letters, digits, ``-`` and ``_``."""
    id: str
    """Random, given at `wsistore init`; the tier keeps the same in its marker object, so that a folder that was
    mounted in the wrong place is noticed before anything is written to it."""
    url: str
    """Where the bytes lie: an absolute ``file://`` URL (percent-encoded), ``s3://bucket/prefix``, or the URL of another
    back end. In the file it may be a path relative to the site's folder."""
    preset: Preset = Preset.KEEP
    """How copies in this tier are encoded. By default as the scanner wrote them: that costs no time."""
    prices: str = ""
    """What the tier costs: a name that comes with wsistore (`wsistore.tiers.prices.known_prices`), or the path of a
    file, relative to the site's folder. By default what the tier's name suggests: a tape archive for one that is called
    cold, object storage for warm, the hospital's own disks for all others."""
    energy: str = ""
    """Coefficients of energy and carbon: ``france``, which comes with wsistore and is the default, or the absolute path
    of a file whose tables replace some of them. Those of the price file replace both."""
    endpoint: str = ""
    """URL of the S3 service; by default what the environment or the profile names, else AWS."""
    region: str = ""
    """By default the environment's or the profile's."""
    profile: str = ""
    """Section of the credentials file; by default the environment decides."""
    key_file: str = ""
    """Absolute path of a file in the format of ``~/.aws/credentials``, which nobody but its owner may read (0600)."""
    path_style: bool = True
    """``endpoint/bucket/key``, which every service knows; False for ``bucket.endpoint/key``."""
    allow_http: bool = False
    """Whether an endpoint without TLS is meant: keys of patients' slides travel in the clear."""
    ca_bundle: str = ""
    """Absolute path of PEM certificates to trust, for a service with a certificate of the site's own authority."""
    options: tuple[tuple[str, str | int | float | bool], ...] = ()
    """Names and values that other back ends (fsspec's file systems) take. No secrets."""
    storage_class: str = ""
    """Storage class of objects; by default the bucket's."""
    archive: ArchiveSettings | None = None
    """How the tier archives what was verified; by default it does not."""
    encryption: Encryption | None = None
    """By default what the bucket does by itself."""
    object_lock: ObjectLock | None = None
    """Asked for with every object, beside what the bucket does by itself; by default not."""
    required_copies: int = 1
    """A copy in this tier may be dropped only while at least so many other good copies of the same version of the slide
    remain in the site. By default the site's `required_copies`."""
    minimum_storage_days: int | None = None
    """Days that are billed for an object even if it is deleted sooner; by default what the price list says."""
    scrub_days: int = 30
    """Every copy is to be read again within so many days (`wsistore scrub`): a month, for what rots on a disk is to be
    found while the other copies are good. Of archive classes only the listing is looked at."""
    capacity_bytes: int | None = None
    """What the tier may hold; by default not known."""
    high_watermark: float = 0.85
    """Part of the capacity above which the tier is to be relieved. File systems slow down when they fill up."""
    low_watermark: float = 0.75
    """Part of the capacity to which it is then relieved; far enough below that not every ingest starts it again."""
    location: str = ""
    """Where the bytes are, for people and reports: a country's code or any text."""
    certificate: Certificate | None = None
    """Of the host, where somebody else than the hospital hosts the tier."""
    closed: str = ""
    """Why the tier takes no new copies, where people decided so; nothing if it does."""
    encrypt_companions: bool = False
    """Whether companions, which identify patients, are encrypted before they go there, by the site's own keys."""
    bandwidth_up: int | None = None
    """Bytes per second that each process sends at most; by default as many as go through."""
    bandwidth_down: int | None = None
    """Bytes per second that each process reads at most; likewise."""

    @property
    def path(self) -> Path | None:
        """Folder of a tier on this machine's file systems; None for other back ends."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    @property
    def scheme(self) -> str:
        """The URL's, in lower case."""
        return self.url.partition("://")[0].lower()

    @property
    def storage_options(self) -> dict[str, Any]:
        """What `wsistore.storage.open.open_storage` is to be told beside the URL; no secrets, and it pickles."""
        if self.scheme != "s3":
            return dict(self.options) | self._archive_options()
        lock, encryption = self.object_lock, self.encryption
        options: dict[str, Any] = {
            "endpoint": self.endpoint or None,
            "region": self.region or None,
            "path_style": self.path_style,
            "profile": self.profile or None,
            "credentials_file": self.key_file or None,
            "ca_bundle": self.ca_bundle or None,
            "storage_class": self.storage_class or None,
        }
        if encryption is not None:
            options |= {"encryption": encryption.method, "kms_key": encryption.key or None}
        if self.archive is not None and self.archive.provider:
            options["provider"] = self.archive.provider
        if lock is not None:
            options |= {"lock_mode": lock.mode, "lock_days": lock.days}
        return options

    def _archive_options(self) -> dict[str, Any]:
        """Return what makes a folder one with a tape library behind it, or a rehearsed archive."""
        if self.archive is None:
            return {}
        tape, speed = self.archive.tape, self.archive.simulated_speed
        if tape is not None:
            return {"recall": tape.recall, "offline": tape.offline, "release": tape.release}
        return {} if speed is None else {"simulated_speed": speed}

    def certificate_state(self, today: date) -> CertificateState:
        """Return what the tier's hosting certificate is worth on the day `today`."""
        return CertificateState.NONE if self.certificate is None else self.certificate.state(today)

    def why_closed(self, today: date) -> str:
        """Return why the tier may take no new copies on the day `today`, in words; nothing if it may.

        What is in the tier stays readable: it must be possible to bring it elsewhere.
        """
        if self.closed:
            return f"The tier {self.name!r} is closed: {self.closed.rstrip('.')}."
        if self.certificate is None or self.certificate.state(today) is not CertificateState.EXPIRED:
            return ""
        number, end = self.certificate.number, self.certificate.valid_until.isoformat()
        return f"The hosting certificate {number} of the tier {self.name!r} was valid until {end}."
