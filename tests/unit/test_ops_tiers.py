"""The catalogue knows the tiers that a site uses, so that copies can be found without the settings file."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsistore import ops
from wsistore.errors import SiteError


def test_using_a_tier_notes_it(tmp_path: Path) -> None:
    settings = ops.init_site(tmp_path)
    with ops.open_site(tmp_path) as site:
        assert site.catalog.tiers() == []
        site.tier("warm")
        site.tier("warm")
        (noted,) = site.catalog.tiers()
    warm = settings.tier("warm")
    assert (noted.name, noted.id, noted.url) == (warm.name, warm.id, warm.url)


def test_another_tier_under_a_known_name_is_refused(tmp_path: Path) -> None:
    ops.init_site(tmp_path)
    with ops.open_site(tmp_path) as site:
        site.tier("warm")
    text = (tmp_path / "wsistore.toml").read_text()
    swapped = text.replace("[tiers.warm]", "[tiers.x]").replace("[tiers.cold]", "[tiers.warm]")
    (tmp_path / "wsistore.toml").write_text(swapped)
    with ops.open_site(tmp_path) as site, pytest.raises(SiteError):
        site.tier("warm")
