"""How the gateway for research serves: the table ``[serve]`` of a site's settings, and ``[serve.oidc]``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

DATES = ("shifted", "month", "year", "none")
"""How days are told to researchers: moved by up to 180 days, the same for all slides of a patient; cut to the month or
the year; or not at all."""


@dataclass(frozen=True, slots=True)
class ServeOidcSettings:
    """An identity provider whose access tokens the gateway takes (OpenID Connect)."""

    issuer: str
    """As the tokens' ``iss`` says it, to the letter."""
    audience: str
    """As whom the gateway is registered there: the tokens' ``aud``."""
    jwks: str = ""
    """The provider's public keys: an absolute path, or an https:// URL; nothing: where the issuer's configuration
    (``.well-known/openid-configuration``) says."""
    user_claim: str = "sub"
    """The claim that is the user's name in grants. The subject is the one that nobody can choose."""
    groups_claim: str = ""
    """The claim that lists groups or roles; dots lead into it, as in ``realm_access.roles``. Nothing: none."""
    client_id: str = ""
    """Public client that notebooks sign in as (device flow); nothing: `audience`."""


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What a site decides of the gateway."""

    address: str = "127.0.0.1"
    """Where it listens. By default only this machine can reach it: a proxy in front of it speaks TLS."""
    port: int = 8090
    access_log: str = ""
    """Absolute path of the file of access lines; nothing: standard output."""
    requests_per_second: float = 200.0
    """Of one token. A viewer asks for 50 tiles at a time, a training loop for as many as it gets."""
    bytes_per_second: int | None = None
    """Of one token; None: what the network gives."""
    concurrent: int = 64
    """Requests of one token at the same time."""
    presign: bool = False
    """Whether URLs signed by the site may be handed out, for reading from S3 without the gateway."""
    cohort_refresh: timedelta = timedelta(minutes=5)
    """How old the evaluation of a cohort may be when the catalogue has changed since."""
    dates: str = "shifted"
    """How days are told in projects that do not say otherwise; one of `DATES`."""
    told: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By column (``organ``, ``diagnoses``, ``stain``), values that researchers may see beside codes and usual terms."""
    workers: int = 0
    """Processes; 0: one for each processor, four at most."""
    oidc: ServeOidcSettings | None = None
