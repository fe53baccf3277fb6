"""`S3Storage` on a real server: versions, locks, encryption, TLS, credentials, leavings, and the server itself."""

from __future__ import annotations

import datetime as dt
import ipaddress
import pickle
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.execute_kit import alive, wait_until
from tests.s3_kit import SCRIPTS, S3Bucket, S3Server
from tests.s3_proxy import proxy
from wsistore.clock import SystemClock
from wsistore.errors import Kind, ObjectMissingError, StorageError
from wsistore.storage.base import Span, Storage
from wsistore.storage.open import check_tier, create_tier, open_storage
from wsistore.storage.s3 import S3Storage
from wsistore.units import MIB

REPOSITORY = SCRIPTS.parent.parent
BIG = bytes(range(256)) * (9 * MIB // 256)


@pytest.fixture
def locked(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Bucket]:
    with s3_server.bucket(lock=True) as bucket, s3_server.credentials(monkeypatch):
        yield bucket


def opened(bucket: S3Bucket, **settings: object) -> Storage:
    settings = {"endpoint": bucket.server.endpoint, "region": "default", **settings}
    return open_storage(f"{bucket.url}/a tier", settings)


# --- tiers -----------------------------------------------------------------------------------------------------------


def test_bucket_holds_several_tiers(s3_bucket: S3Bucket) -> None:
    options = {"endpoint": s3_bucket.server.endpoint}
    one, other = (open_storage(f"{s3_bucket.url}/{name}", options) for name in ("hot", "hot-2"))
    create_tier(one, "id-1", "hot")
    create_tier(other, "id-2", "hot-2")
    assert check_tier(one, "id-1").name == "hot"
    one.put("a", b"1")
    assert [info.key for info in other.list()] == ["wsistore-tier.json"]
    other.delete("a")
    assert one.get("a") == b"1"
    assert s3_bucket.keys() == {"hot/a", "hot/wsistore-tier.json", "hot-2/wsistore-tier.json"}


def test_bucket_that_is_not_there_is_a_missing_tier(s3_bucket: S3Bucket) -> None:
    storage = open_storage("s3://no-such-bucket-anywhere/x", {"endpoint": s3_bucket.server.endpoint})
    for act in (
        lambda: storage.get("a"),
        lambda: storage.head("a"),
        lambda: storage.put("a", b"x"),
        lambda: list(storage.list()),
        lambda: storage.delete("a"),
    ):
        with pytest.raises(StorageError) as caught:
            act()
        assert caught.value.kind is Kind.TIER_MISSING


def test_what_other_programs_put_there_is_not_named(s3_bucket: S3Bucket) -> None:
    for key in ("a tier/", "a tier/x//y", "a tier/folder/", "a tier/../z", "a tier/ok", "elsewhere"):
        s3_bucket.put(key, b"x")
    assert [info.key for info in opened(s3_bucket).list()] == ["ok"]


def test_listing_goes_over_pages(s3_bucket: S3Bucket) -> None:
    storage = opened(s3_bucket)
    for number in range(1005):
        s3_bucket.put(f"a tier/{number:04d}", b"")
    keys = [info.key for info in storage.list()]
    assert keys == [f"{number:04d}" for number in range(1005)]
    assert [info.key for info in storage.list(after="0999")] == keys[1000:]


# --- settings --------------------------------------------------------------------------------------------------------


def test_objects_are_written_as_the_settings_say(s3_bucket: S3Bucket) -> None:
    storage = opened(s3_bucket, storage_class="STANDARD_IA", encryption="aws:kms", kms_key="testkey-1")
    storage.put("small", b"x")
    with storage.upload("big") as upload:
        upload.write(BIG)
        upload.complete()
    for key, data in (("small", b"x"), ("big", BIG)):
        head = s3_bucket.client.head_object(Bucket=s3_bucket.name, Key=f"a tier/{key}")
        assert head["StorageClass"] == "STANDARD_IA"
        assert head["ServerSideEncryption"] == "aws:kms"
        assert head["SSEKMSKeyId"] == "testkey-1"
        assert storage.get(key) == data
        assert storage.get_many(key, [Span(0, 1)]) == [data[:1]]


def test_locked_object_cannot_be_removed(locked: S3Bucket) -> None:
    storage = opened(locked, lock_mode="governance", lock_days=2)
    info = storage.put("small", b"x")
    with storage.upload("big") as upload:
        upload.write(BIG)
        big = upload.complete()
    for found in (info, big):
        held = locked.client.get_object_retention(Bucket=locked.name, Key=f"a tier/{found.key}")["Retention"]
        assert held["Mode"] == "GOVERNANCE"
        assert abs(held["RetainUntilDate"] - SystemClock().now() - timedelta(days=2)) < timedelta(minutes=5)
        with pytest.raises(StorageError, match="Object Lock") as caught:
            storage.delete(found.key, version=found.version)
        assert caught.value.kind is Kind.STORAGE_DENIED
        storage.delete(found.key)  # hides it
        with pytest.raises(ObjectMissingError):
            storage.head(found.key)
        assert len(storage.get(found.key, version=found.version)) == found.size_bytes


def test_abilities_of_buckets(s3_bucket: S3Bucket, locked: S3Bucket) -> None:
    plain = S3Storage(s3_bucket.options()).abilities()
    assert (plain.versions, plain.object_lock, plain.default_lock) == (False, False, None)
    assert plain.skew_seconds is not None
    assert abs(plain.skew_seconds) < 60
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 3}}
    locked.client.put_object_lock_configuration(
        Bucket=locked.name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    found = S3Storage(locked.options()).abilities()
    assert (found.versions, found.object_lock, found.default_lock) == (True, True, "COMPLIANCE 3 days")


def test_versions_of_a_bucket_that_was_suspended(s3_bucket: S3Bucket) -> None:
    def versioning(status: str) -> Storage:
        s3_bucket.client.put_bucket_versioning(Bucket=s3_bucket.name, VersioningConfiguration={"Status": status})
        return opened(s3_bucket)

    s3_bucket.put("a tier/a", b"before")
    kept = versioning("Enabled").put("a", b"1")
    storage = versioning("Suspended")
    storage.put("a", b"2")
    assert storage.properties.versions
    assert [(info.version, storage.get("a", version=info.version)) for info in storage.versions("a")] == [
        ("null", b"2"),
        (kept.version, b"1"),
    ]
    storage.delete("a", version="null")
    assert storage.get("a") == b"1"


# --- what was never finished -----------------------------------------------------------------------------------------


def test_uploads_that_nobody_finished_are_found_and_thrown_away(s3_bucket: S3Bucket) -> None:
    storage = S3Storage(s3_bucket.options("a tier"))
    upload = storage.upload("big")
    upload.write(BIG)  # and then the process dies
    client = s3_bucket.client
    other = client.create_multipart_upload(Bucket=s3_bucket.name, Key="another tier/x")
    now = datetime.now(UTC)
    assert storage.clean_temporary(now - timedelta(hours=1)) == 0
    assert [found.key for found in storage.unfinished(now + timedelta(minutes=1))] == ["a tier/big"]
    assert storage.clean_temporary(now + timedelta(minutes=1)) == 1
    assert s3_bucket.uploads() == [("another tier/x", other["UploadId"])]
    with pytest.raises(StorageError), upload:
        upload.complete()


# --- credentials and TLS ---------------------------------------------------------------------------------------------


def test_pickled_storage_carries_no_secrets(s3_bucket: S3Bucket) -> None:
    storage = opened(s3_bucket)
    storage.put("a", b"x")  # opened, with credentials at hand
    text = pickle.dumps(storage)
    assert s3_bucket.server.secret_key.encode() not in text
    assert s3_bucket.server.access_key.encode() not in text
    assert pickle.loads(text).get("a") == b"x"


def test_credentials_come_from_a_file(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = s3_bucket.server
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    file = tmp_path / "keys"
    pair = f"aws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
    file.write_text(f"[default]\n{pair}[nobody]\naws_access_key_id = x\naws_secret_access_key = y\n")
    assert list(opened(s3_bucket, credentials_file=str(file)).list()) == []
    for settings in ({}, {"credentials_file": str(file), "profile": "nobody"}):
        for act in (lambda s: s.get("a"), lambda s: s.head("a"), lambda s: list(s.list())):
            with pytest.raises(StorageError) as caught:
                act(opened(s3_bucket, **settings))
            assert caught.value.kind is Kind.STORAGE_DENIED
    with pytest.raises(StorageError) as caught:
        opened(s3_bucket, credentials_file=str(tmp_path / "none")).head("a")
    assert caught.value.kind is Kind.SETTINGS_INVALID


def test_no_credentials_at_all(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="no credentials") as caught:
        opened(s3_bucket).get("a")
    assert caught.value.kind is Kind.STORAGE_DENIED


def test_unknown_profile(s3_bucket: S3Bucket) -> None:
    with pytest.raises(StorageError) as caught:
        opened(s3_bucket, profile="no-such-profile").get("a")
    assert caught.value.kind is Kind.SETTINGS_INVALID


def test_http_needs_to_be_meant(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_bucket.server.endpoint)
    with pytest.raises(StorageError, match="without TLS"):
        open_storage(s3_bucket.url).get("a")


def test_tls_with_the_sites_own_authority(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    bundle, context = _certificate(tmp_path)
    with proxy(s3_bucket.server.endpoint, context) as secure:
        trusted = opened(s3_bucket, endpoint=secure.endpoint, ca_bundle=str(bundle))
        trusted.put("a", b"x")
        with trusted.upload("big") as upload:
            upload.write(BIG)
            upload.complete()
        assert trusted.get("a") == b"x"
        assert trusted.get("big") == BIG
        for act in (lambda s: s.get("a"), lambda s: list(s.list())):
            with pytest.raises(StorageError, match="TLS") as caught:
                act(opened(s3_bucket, endpoint=secure.endpoint))
            assert "ca_bundle" in caught.value.remedy
            assert caught.value.kind is Kind.STORAGE_FAILED
    with pytest.raises(StorageError, match="TLS"):
        opened(s3_bucket, endpoint=s3_bucket.server.endpoint.replace("http:", "https:")).get("a")


def _certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return the file of a self-signed certificate for 127.0.0.1, and what a server needs."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    authority = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    bundle, private = folder / "ca.pem", folder / "key.pem"
    bundle.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle, private)
    return bundle, context


# --- the server of the tests -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_server_does_not_outlive_a_test_run_that_is_killed(s3_server: S3Server, tmp_path: Path) -> None:
    program = f"""
import sys, time
sys.path.insert(0, {str(REPOSITORY)!r})
from tests import s3_kit
run = s3_kit.new_run()
s3_kit.start(run)
print(run.folder, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        pids = {file.stem: int(file.read_text()) for file in folder.glob("*/run/*.pid")}
        running = {name for name, pid in pids.items() if alive(pid)}
        process.kill()
    assert running == {"mon", "osd", "rgw", "guard"}
    wait_until(lambda: not list(folder.glob("[0-9]*")) and not any(map(alive, pids.values())))
    assert {file.name for file in folder.iterdir()} == {"test.env", "test.lock"}
    shutil.rmtree(folder)
