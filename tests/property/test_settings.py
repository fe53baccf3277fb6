"""No settings file, whatever is in it, leads to anything but settings or an error of the site."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from wsistore.errors import SiteError
from wsistore.settings import Settings, load, write_new

GOOD = 'version = 1\nname = "n"\n[catalog]\nurl = "sqlite:///c"\n[tiers.hot]\nid = "0123456789"\nurl = "x"\n'
BUCKET = (
    GOOD
    + """\
[tiers.far]
id = "9876543210"
url = "s3://b/p"
endpoint = "https://s3:1"
region = "r"
key_file = "k"
path_style = false
encryption = {method = "aws:kms", key = "a"}
object_lock = {mode = "governance", days = 3}
required_copies = 2
capacity = "4 TB"
high_watermark = "9 %"
low_watermark = "8 %"
hds_certificate = {number = "1", valid_until = 2027-05-31}
bandwidth_up = "2 MB/s"
"""
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    good = draw(st.sampled_from((GOOD, BUCKET))).encode()
    start, length = draw(st.integers(0, len(good))), draw(st.integers(0, 12))
    piece = draw(st.binary(max_size=6) | st.text("=[]\"'{}.\n-#1eT:\\u%", max_size=8).map(str.encode))
    return good[:start] + piece + good[start + length :]


def outcome(content: bytes) -> Settings | SiteError:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "wsistore.toml").write_bytes(content)
        try:
            return load(Path(folder))
        except SiteError as error:
            return error


@given(damaged() | st.binary(max_size=80))
def test_any_file_gives_settings_or_the_site_s_error(content: bytes) -> None:
    found = outcome(content)
    assert isinstance(found, Settings) or "wsistore.toml" in found.message


def test_the_undamaged_file_is_good() -> None:
    assert isinstance(outcome(GOOD.encode()), Settings)
    assert isinstance(outcome(BUCKET.encode()), Settings)


def test_deep_nesting_is_refused() -> None:
    assert isinstance(outcome(b"x = " + b"[" * 100_000), SiteError)


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)


@given(names, names.filter(lambda url: "\x00" not in url and "%00" not in url and ":" not in url))
def test_any_name_and_place_comes_back(name: str, place: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        written = write_new(Path(folder), name=name, tiers={"hot": place})
        assert load(Path(folder)) == written
        assert written.name == name
