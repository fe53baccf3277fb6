"""A site's settings: one frozen value, read once from ``wsistore.toml`` and handed down."""

from wsistore.settings.add import Change, tier_of, with_tier
from wsistore.settings.approvals import ADMINISTRATOR, ROLE, ApprovalSettings, OidcSettings
from wsistore.settings.find import find_site
from wsistore.settings.flows import FLOW_NAMES, FlowSettings, FlowsSettings, MailSettings
from wsistore.settings.intake import IntakeSettings, Release
from wsistore.settings.read import load
from wsistore.settings.serve import DATES, ServeOidcSettings, ServeSettings
from wsistore.settings.tiers import Certificate, CertificateState, Encryption, ObjectLock, TierSettings
from wsistore.settings.values import FILE_NAME, HOME_VARIABLE, EvidenceAges, Settings
from wsistore.settings.write import write_new

__all__ = [
    "ADMINISTRATOR",
    "DATES",
    "FILE_NAME",
    "FLOW_NAMES",
    "HOME_VARIABLE",
    "ROLE",
    "ApprovalSettings",
    "Certificate",
    "CertificateState",
    "Change",
    "Encryption",
    "EvidenceAges",
    "FlowSettings",
    "FlowsSettings",
    "IntakeSettings",
    "MailSettings",
    "ObjectLock",
    "OidcSettings",
    "Release",
    "ServeOidcSettings",
    "ServeSettings",
    "Settings",
    "TierSettings",
    "find_site",
    "load",
    "tier_of",
    "with_tier",
    "write_new",
]
