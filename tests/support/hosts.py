"""A server on the loopback interface that answers for real hosts: a CONNECT proxy, with certificates of its own.

The libraries are not changed: they find proxy and authority through the usual environment variables.
"""

import contextlib
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


@dataclass
class Hosts:
    """`files` are contents by URL. A redirect leads from one URL to another. `cut` is where an answer breaks off."""

    folder: Path
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """URL and range of each request."""

    port: int = 0

    @property
    def environment(self) -> dict[str, str]:
        proxy, bundle = f"http://127.0.0.1:{self.port}", str(self.folder / "ca.pem")
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        certificates = {"SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle}
        return dict.fromkeys(names, proxy) | {"NO_PROXY": "", "no_proxy": ""} | certificates

    def urls(self) -> list[str]:
        return [url for url, _ in self.asked]


@contextlib.contextmanager
def answering(folder: Path, *names: str) -> Iterator[Hosts]:
    """Answer for the hosts of these names until the block ends."""
    hosts = Hosts(folder)
    context = _certified(folder, names)

    class Handler(_Handler):
        pass

    Handler.hosts, Handler.context = hosts, context
    with _Server(("127.0.0.1", 0), Handler) as server:
        hosts.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield hosts
        finally:
            server.shutdown()
            thread.join()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error."""


class _Handler(BaseHTTPRequestHandler):
    hosts: Hosts
    context: ssl.SSLContext
    protocol_version = "HTTP/1.1"
    host = ""

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.close_connection = False
        self.host = f"https://{self.path.removesuffix(':443')}"
        self.connection = self.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.connection.close()

    def do_GET(self) -> None:
        url = self.path if self.path.startswith("http") else self.host + self.path
        wanted = self.headers.get("Range")
        self.hosts.asked.append((url, wanted))
        if url in self.hosts.redirects:
            headers = self.hosts.headers.get(url, {}) | {"Location": self.hosts.redirects[url]}
            self._answer(302, b"", end=None, **headers)
        elif url not in self.hosts.files:
            self._answer(404, b"gone")
        else:
            self._send(url, self.hosts.files[url], int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0)

    do_HEAD = do_GET  # noqa: N815  as http.server names them

    def _send(self, url: str, content: bytes, begin: int) -> None:
        if begin and begin >= len(content):
            self._answer(416, b"")
            return
        headers = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} if begin else {}
        headers |= self.hosts.headers.get(url, {})
        end = self.hosts.cut.get(url)
        end = None if end is None else max(end - begin, 0)
        self._answer(206 if begin else 200, content[begin:], end=end, **headers)

    def _answer(self, status: int, content: bytes, *, end: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:end])
        if end is not None and end < len(content):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


def _certified(folder: Path, names: tuple[str, ...]) -> ssl.SSLContext:
    """A certificate for these hosts, by an authority whose certificate is `ca.pem` in the folder."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    # Python 3.13 refuses an authority that does not say what its key is for.
    uses = ("-addext", "keyUsage=critical,keyCertSign")
    openssl("req", "-x509", *key, *uses, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=test")
    openssl("req", *key, "-keyout", "host.key", "-out", "host.csr", "-subj", f"/CN={names[0]}")
    shown = ",".join(f"DNS:{name}" for name in names)
    identifiers = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid,issuer"
    (folder / "names").write_text(f"subjectAltName={shown}\n{identifiers}\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl("x509", "-req", "-in", "host.csr", *signed, "-out", "host.pem", "-days", "30")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "host.pem", folder / "host.key")
    for name in ("ca.key", "host.key"):  # code with a private key is refused, and a test's folder may be the code's
        (folder / name).unlink()
    return context
