"""A site's settings: one frozen value, read once from ``wsistore.toml`` and handed down."""

from wsistore.settings.find import find_site
from wsistore.settings.read import load
from wsistore.settings.values import FILE_NAME, HOME_VARIABLE, Settings, TierSettings
from wsistore.settings.write import write_new

__all__ = ["FILE_NAME", "HOME_VARIABLE", "Settings", "TierSettings", "find_site", "load", "write_new"]
