"""What a tier on an S3 service needs to be told, as one frozen value made of its URL and a table of settings.

There are no secrets in it: it names a profile or a file where the credentials lie, so that it may be printed, logged,
and sent to workers, which find their credentials on their own machines in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn
from urllib.parse import urlsplit

from wsistore.errors import Kind, StorageError
from wsistore.storage.base import MAX_KEY_BYTES, check_key
from wsistore.storage.s3_providers import PROVIDERS

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_STORAGE_CLASS = re.compile(r"[A-Z][A-Z0-9_-]{0,63}")
_LOCK_MODES = ("none", "governance", "compliance")
_MAX_PREFIX_BYTES = MAX_KEY_BYTES // 2


@dataclass(frozen=True, slots=True)
class S3Options:
    """One place in one bucket, and how it is to be spoken to and written."""

    bucket: str
    prefix: str = ""
    """What all keys of the tier start with in the bucket, without slashes at its ends; several tiers share a bucket."""
    endpoint: str | None = None
    """URL of the service; by default what the environment or the profile names, else AWS. Only an endpoint that is
    written here with http:// is spoken to without TLS."""
    region: str | None = None
    """By default the environment's or the profile's; most services that are not AWS take any."""
    path_style: bool = True
    """``endpoint/bucket/key``, which every service knows; False for ``bucket.endpoint/key``."""
    profile: str | None = None
    """Section of the credentials file; by default the environment decides."""
    credentials_file: str | None = None
    """A file in the format of ``~/.aws/credentials``, for sites that keep one for each tier."""
    ca_bundle: str | None = None
    """A file of PEM certificates to trust, for a service with a certificate of the site's own authority."""
    encryption: str = "none"
    """Server-side encryption asked for with each object: ``none`` (what the bucket does by itself), ``AES256``, or
    ``aws:kms``."""
    kms_key: str | None = None
    """Name of the key for ``aws:kms``; by default the bucket's."""
    storage_class: str | None = None
    """Storage class that objects are written in; by default the bucket's."""
    provider: str | None = None
    """Whose manners the service's archive classes have (`wsistore.storage.s3_providers`); by default the endpoint's
    host decides."""
    lock_mode: str = "none"
    """Object Lock asked for with each object, beside what the bucket does by itself: ``none``, ``governance``,
    ``compliance``. The bucket must have been made with Object Lock."""
    lock_days: int = 0
    """How long an object that is written now cannot be deleted."""
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 60.0
    """Longest silence of the server before a request counts as lost. Completing a large upload may take long."""
    concurrency: int = 16
    """Requests in flight at once, at most, from one process."""

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket):
            _refuse(f"{self.bucket!r} is no bucket's name.", "Write s3://bucket or s3://bucket/prefix.")
        if self.prefix:
            self._check_prefix()
        if self.endpoint is not None:
            self._check_endpoint(self.endpoint)
        if self.encryption not in {"none", "AES256", "aws:kms"}:
            _refuse(f"encryption = {self.encryption!r} is not known.", "Write none, AES256 or aws:kms.")
        if self.kms_key is not None and self.encryption != "aws:kms":
            _refuse("kms_key needs encryption = 'aws:kms'.", "Set both or neither.")
        if self.storage_class is not None and not _STORAGE_CLASS.fullmatch(self.storage_class):
            _refuse(f"storage_class = {self.storage_class!r} is none.", "Write a class such as STANDARD_IA.")
        if self.provider is not None and self.provider not in PROVIDERS:
            _refuse(f"provider = {self.provider!r} is not known.", f"Write one of {', '.join(PROVIDERS)}.")
        if self.lock_mode not in _LOCK_MODES:
            _refuse(f"lock_mode = {self.lock_mode!r} is not known.", f"Write one of {', '.join(_LOCK_MODES)}.")
        if (self.lock_days > 0) != (self.lock_mode != "none") or self.lock_days < 0:
            _refuse("lock_mode and lock_days go together.", "Set a mode and at least 1 day, or neither.")
        for name in ("connect_timeout_seconds", "read_timeout_seconds", "concurrency"):
            if not getattr(self, name) > 0:
                _refuse(f"{name} = {getattr(self, name)!r} is not positive.", "Leave it out for a sound default.")

    @property
    def url(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"

    @property
    def allow_http(self) -> bool:
        """Whether the endpoint was written with ``http://``."""
        return self.endpoint is not None and self.endpoint.lower().startswith("http://")

    @classmethod
    def of(cls, url: str, settings: Mapping[str, Any] | None = None) -> S3Options:
        """Return the options that a tier's URL and its table of settings make.

        Parameters
        ----------
        url
            ``s3://bucket`` or ``s3://bucket/prefix``. Nothing in it is percent-encoded.
        settings
            Values of the other fields by their names.

        Raises
        ------
        StorageError
            If something is unknown, of the wrong type or makes no sense, of kind ``settings-invalid``.

        """
        scheme, separator, rest = url.partition("://")
        if scheme.lower() != "s3" or not separator:
            _refuse(f"{_redacted(url)!r} does not start with s3://.", "Write s3://bucket/prefix.")
        if "@" in rest.partition("/")[0]:
            _refuse(f"{_redacted(url)!r} carries credentials.", "Name a profile or a credentials_file instead.")
        bucket, _, prefix = rest.partition("/")
        values = dict(settings or {})
        known = {field.name: field.type for field in fields(cls) if field.name not in {"bucket", "prefix"}}
        for name, value in values.items():
            if name not in known:
                _refuse(f"{name!r} is no setting of an S3 tier.", f"Known are: {', '.join(known)}.")
            if not _fits(value, str(known[name])):
                _refuse(f"{name} of {url} is a {type(value).__name__}.", f"It must be of type {known[name]}.")
        return cls(bucket, prefix.rstrip("/"), **values)

    def _check_prefix(self) -> None:
        try:
            check_key(self.prefix)
        except StorageError:
            _refuse(f"{self.prefix!r} cannot be the prefix of a tier.", "Write plain names with single slashes.")
        if len(self.prefix.encode()) > _MAX_PREFIX_BYTES:
            _refuse(f"The prefix {self.prefix!r} is too long.", f"At most {_MAX_PREFIX_BYTES} bytes are left for it.")

    def _check_endpoint(self, endpoint: str) -> None:
        shown = _redacted(endpoint)
        try:
            parts = urlsplit(endpoint)
            host, _ = parts.hostname, parts.port
        except ValueError:
            _refuse(f"The endpoint {shown!r} is no URL.", "Write https://host or https://host:port.")
        if parts.username is not None or parts.password is not None:
            _refuse(f"The endpoint {shown!r} carries credentials.", "Name a profile or a credentials_file instead.")
        if parts.scheme.lower() not in {"http", "https"} or not host or parts.query or parts.fragment:
            _refuse(f"The endpoint {shown!r} is no URL of a service.", "Write https://host or https://host:port.")
        if parts.path.strip("/"):
            _refuse(f"The endpoint {shown!r} has a path.", "The bucket belongs into the tier's URL.")


def _fits(value: object, type_name: str) -> bool:
    if isinstance(value, bool) or type_name == "bool":
        return isinstance(value, bool) and type_name == "bool"
    if value is None:
        return "None" in type_name
    if type_name == "float":
        return isinstance(value, int | float)
    return isinstance(value, int if type_name == "int" else str)


def _redacted(url: str) -> str:
    return re.sub(r"//[^/]*@", "//", url)


def _refuse(message: str, remedy: str) -> NoReturn:
    raise StorageError(message, kind=Kind.SETTINGS_INVALID, remedy=remedy)
