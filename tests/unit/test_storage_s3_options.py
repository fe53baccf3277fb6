"""A tier's URL and its table of settings, and the sizes of an upload's parts."""

from __future__ import annotations

import pickle

import pytest

from wsistore.errors import Kind, StorageError
from wsistore.storage.s3_options import S3Options
from wsistore.storage.s3_upload import MAX_PARTS, PART_BYTES, part_bytes
from wsistore.units import MIB


def test_url_and_settings_make_options() -> None:
    options = S3Options.of(
        "s3://slides/warm/tier/",
        {
            "endpoint": "https://s3.example.org:8443",
            "lock_mode": "compliance",
            "lock_days": 30,
            "read_timeout_seconds": 5,
        },
    )
    assert (options.bucket, options.prefix, options.url) == ("slides", "warm/tier", "s3://slides/warm/tier")
    assert not options.allow_http
    assert pickle.loads(pickle.dumps(options)) == options
    assert S3Options.of("S3://slides").url == "s3://slides"
    assert S3Options.of("s3://slides", {"endpoint": "http://127.0.0.1:9000"}).allow_http


@pytest.mark.parametrize(
    ("url", "settings", "words"),
    [
        ("s3://", {}, "bucket"),
        ("s3://a", {}, "bucket"),
        ("s3://bad_bucket!/x", {}, "bucket"),
        ("s3://bucket//x", {}, "prefix"),
        ("s3://bucket/a/../b", {}, "prefix"),
        ("s3://bucket/" + "x" * 600, {}, "long"),
        ("s3://key:hidden@bucket/x", {}, "credentials"),
        ("file:///x", {}, "s3://"),
        ("s3://bucket", {"endpoint": "ftp://x"}, "endpoint"),
        ("s3://bucket", {"endpoint": "https://user:hidden@host"}, "credentials"),
        ("s3://bucket", {"endpoint": "https://host/path"}, "path"),
        ("s3://bucket", {"endpoint": "https://[host"}, "endpoint"),
        ("s3://bucket", {"endpoint": "https://host:99999"}, "endpoint"),
        ("s3://bucket", {"endpoint": 7}, "endpoint"),
        ("s3://bucket", {"secret_key": "hidden"}, "secret_key"),
        ("s3://bucket", {"bucket": "other"}, "bucket"),
        ("s3://bucket", {"encryption": "rot13"}, "encryption"),
        ("s3://bucket", {"kms_key": "k"}, "kms_key"),
        ("s3://bucket", {"storage_class": "cold one"}, "storage_class"),
        ("s3://bucket", {"lock_mode": "forever"}, "lock_mode"),
        ("s3://bucket", {"lock_mode": "governance"}, "lock_days"),
        ("s3://bucket", {"lock_days": 3}, "lock_mode"),
        ("s3://bucket", {"concurrency": 0}, "concurrency"),
        ("s3://bucket", {"concurrency": True}, "concurrency"),
        ("s3://bucket", {"read_timeout_seconds": float("nan")}, "read_timeout_seconds"),
        ("s3://bucket", {"path_style": "yes"}, "path_style"),
    ],
)
def test_options_that_make_no_sense_are_refused(url: str, settings: dict[str, object], words: str) -> None:
    with pytest.raises(StorageError) as caught:
        S3Options.of(url, settings)
    assert caught.value.kind is Kind.SETTINGS_INVALID
    assert words in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert caught.value.remedy


def test_ten_thousand_parts_hold_the_largest_object() -> None:
    sizes = [part_bytes(number) for number in range(MAX_PARTS)]
    assert sum(sizes) >= 5 * 1024**4
    assert sizes[0] == PART_BYTES >= 8 * MIB
    assert sizes == sorted(sizes)
    assert max(sizes) <= 5 * 1024**3
