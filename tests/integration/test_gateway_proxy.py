"""What stands in front of the gateway as it is deployed: nginx with TLS, and the files of its containers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ruamel.yaml import YAML

from tests.s3_kit import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
CONFIGURATION = DEPLOY / "gateway" / "nginx.conf"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
_MAIN = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log {folder}/errors;
events {{ worker_connections 64; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/wsistore.conf;
}}
"""


class Upstream(BaseHTTPRequestHandler):
    """Says what it was sent, in the place of the gateway."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"state"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "slides.example.org")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("slides.example.org")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "fullchain.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    no_password = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password)
    (folder / "key.pem").write_bytes(pem)


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[tuple[int, int, Path]]:
    """Ports of HTTPS and HTTP, and a folder with what was logged."""
    if not Path(NGINX).exists():
        pytest.skip("needs Debian's package nginx-light")
    write_certificate(tmp_path)
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    https = free_port()
    http = https + 1
    text = CONFIGURATION.read_text()
    for old, new in (
        ("server 127.0.0.1:8090;", f"server 127.0.0.1:{upstream.server_port};"),
        ("listen 443 ssl", f"listen 127.0.0.1:{https} ssl"),
        ("listen 80;", f"listen 127.0.0.1:{http};"),
        ("/etc/wsistore/tls", str(tmp_path)),
        ("/var/log/nginx", str(tmp_path)),
        # Ports of IPv6 are not everywhere.
        ("    listen [::]:443 ssl http2;\n", ""),
        ("    listen [::]:80;\n", ""),
    ):
        assert old in text, old
        text = text.replace(old, new)
    (tmp_path / "wsistore.conf").write_text(text)
    user = "user root;" if os.getuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(_MAIN.format(user=user, folder=tmp_path))
    process = subprocess.Popen([NGINX, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "errors"])
    try:
        wait_for(https, process)
        yield https, http, tmp_path
    finally:
        process.terminate()
        process.wait(240)
        upstream.shutdown()
        upstream.server_close()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    pytest.fail(f"nginx does not listen: {process.poll()}")


def ask(folder: Path, port: int, path: str, headers: dict[str, str]) -> tuple[HTTPResponse, bytes]:
    trusted = ssl.create_default_context(cafile=str(folder / "fullchain.pem"))
    trusted.check_hostname = False
    with closing(HTTPSConnection("127.0.0.1", port, timeout=240, context=trusted)) as connection:
        connection.request("GET", path, headers={"Host": "slides.example.org", **headers})
        answer = connection.getresponse()
        return answer, answer.read()


def test_requests_go_through_as_they_are(proxy: tuple[int, int, Path]) -> None:
    https, _, folder = proxy
    path = "/projects/p/slides/%2e%2e/x.zarr/0/c/0//0?where=organ%20%3D%20'colon'"
    sent = {"Authorization": "Bearer wst_a_b", "Range": "bytes=1-2", "If-None-Match": '"x"', "If-Range": '"y"'}
    answer, body = ask(folder, https, path, sent | {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"})
    got = json.loads(body)
    assert answer.status == 206
    # What means nothing to the gateway must reach it as it was sent, or it could come to mean something on the way.
    assert got["path"] == path
    assert {name.lower(): value for name, value in sent.items()}.items() <= got["headers"].items()
    assert got["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert got["headers"]["x-forwarded-proto"] == "https"
    assert got["headers"]["host"] == "slides.example.org"
    assert answer.headers["ETag"] == '"state"'
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_the_proxys_log_has_neither_paths_nor_queries_nor_tokens(proxy: tuple[int, int, Path]) -> None:
    https, _, folder = proxy
    ask(folder, https, "/projects/marker-project?where=marker-query", {"Authorization": "Bearer marker-token"})
    log = folder / "wsistore.log"
    end = time.monotonic() + 120
    while not log.read_text() and time.monotonic() < end:
        time.sleep(0.02)
    assert " GET 200 " in log.read_text()
    assert "marker" not in log.read_text()


def test_without_tls_there_is_only_a_hint(proxy: tuple[int, int, Path]) -> None:
    _, http, _ = proxy
    with closing(HTTPConnection("127.0.0.1", http, timeout=240)) as connection:
        connection.request("GET", "/projects", headers={"Host": "slides.example.org"})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Location"]) == (301, "https://slides.example.org/projects")


def test_only_the_proxy_is_seen_from_outside_of_the_containers() -> None:
    text = (DEPLOY / "gateway" / "compose.yaml").read_text()
    services = YAML(typ="safe").load(text)["services"]
    assert [port for one in services.values() for port in one.get("ports", [])] == ["443:443", "80:80"]
    assert services["proxy"]["network_mode"] == "service:gateway"
    assert services["proxy"]["depends_on"] == {"gateway": {"condition": "service_healthy"}}
    assert services["gateway"]["read_only"] is True
    assert services["gateway"]["cap_drop"] == ["ALL"]
    assert all(one["restart"] == "unless-stopped" and "healthcheck" in one for one in services.values())
    for name in ("WSISTORE_SITE", "WSISTORE_USER", "WSISTORE_TLS"):
        assert f"${{{name}:?" in text
