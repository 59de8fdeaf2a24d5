"""`samebits fetch`: while the script runs, record what Python's HTTP libraries receive, and what is unpacked.

Every body that comes through `http.client` or `httpx` is hashed: `urllib`, `requests`, `huggingface_hub` and all that
is built on them, such as `keras.utils.get_file`. So the launcher finds the URL of a file by its content, whichever
library stored it. This is active in a fetch alone, never in a run.
"""

import functools
import hashlib
import http.client
import importlib
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

from samebits.core.jsonio import canonical_json
from samebits.runner.compat import cpython_private
from samebits.runner.compat.patches import Patches

VARIABLE = "SAMEBITS_FETCH"
"""Names the file to write the report to; the launcher sets it for a fetch."""

_READS = ("read", "read1", "readinto", "readline")
_HTTPX = ("httpx", "httpx2")


def is_fetch() -> bool:
    """Whether this process runs the script to find out what it downloads."""
    return bool(os.environ.get(VARIABLE))


@contextmanager
def recording_downloads() -> Iterator[None]:
    """Record downloads until the block ends, if the launcher asked for it."""
    if not is_fetch():
        yield
        return
    path = Path(os.environ[VARIABLE])
    temporary = path.parent / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    recorder = DownloadRecorder()
    with Patches() as patches:
        recorder.install(patches)
        # What is left of temporary files must not be taken for downloads that the script keeps.
        patches.replace(tempfile, "tempdir", str(temporary))
        try:
            yield
        finally:
            path.write_bytes(canonical_json(recorder.report()))


@dataclass(slots=True)
class _Body:
    """What one request received, as it was sent and as it was packed by the server."""

    url: str
    decoder: Any = None
    announced: int | None = None
    ended: bool = False
    size: int = 0
    sent: Any = field(default_factory=hashlib.sha256)
    unpacked: Any = field(default_factory=hashlib.sha256)

    def add(self, chunk: bytes) -> None:
        """More of it."""
        self.size += len(chunk)
        self.sent.update(chunk)
        if self.decoder is not None:
            try:
                self.unpacked.update(self.decoder.decompress(chunk))
            except zlib.error:
                self.decoder = None

    @property
    def partial(self) -> bool:
        """Whether the connection ended before the file did; a script may also read no more than it wants."""
        return self.ended and self.size < (self.announced or 0)

    def digests(self) -> list[str]:
        """The sha256 of what a library may have stored."""
        return [self.sent.hexdigest()] + ([self.unpacked.hexdigest()] if self.decoder is not None else [])


class DownloadRecorder:
    """Patches the libraries; `report` has what was seen since."""

    def __init__(self) -> None:
        self._bodies: list[_Body] = []
        self._unpacked: list[dict[str, Any]] = []
        self._asked: dict[str, str] = {}

    def install(self, patches: Patches) -> None:
        """Call it before the script starts."""
        connection: Any = http.client.HTTPConnection
        patches.wrap((connection, "putrequest"), self._noting_request)
        patches.wrap((connection, "getresponse"), self._noting_response)
        for name in _READS:
            patches.wrap((http.client.HTTPResponse, name), functools.partial(self._noting_bytes, name=name))
        for module in _HTTPX:
            with suppress(ImportError):
                httpx = importlib.import_module(module)
                patches.wrap((httpx.Client, "send"), self._noting_redirects)
                patches.wrap((httpx.Response, "iter_raw"), self._noting_stream)
        # Where the folder stands among the arguments.
        for name, position in (("extractall", 0), ("extract", 1)):
            for archive, names in ((tarfile.TarFile, "getnames"), (zipfile.ZipFile, "namelist")):
                noting = functools.partial(self._noting_members, names=names, position=position)
                patches.wrap((archive, name), noting)

    def report(self) -> dict[str, Any]:
        """`downloads` with URL and sha256 (of each form that a library may have stored), and what was `unpacked`.

        A download is `partial` where the server announced more bytes than it sent: not every library notices.
        """
        bodies = (body for body in self._bodies if body.size)
        downloads = [
            {"url": body.url, "size": body.size, "sha256": body.digests(), "partial": body.partial} for body in bodies
        ]
        return {"downloads": downloads, "unpacked": self._unpacked}

    def _noting_request(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def putrequest(connection: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
            connection.samebits_path = url
            return original(connection, method, url, *args, **kwargs)

        return putrequest

    def _noting_response(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def getresponse(connection: Any, *args: Any, **kwargs: Any) -> Any:
            response = original(connection, *args, **kwargs)
            url = _url(connection)
            self._note_redirect(url, response.getheader("Location"))
            if response.status == 200:
                body = self._body(url, response.getheader("Content-Encoding"))
                # http.client's own understanding: None for what is sent in chunks, whose end it requires.
                body.announced = response.length
                response.samebits_body = body
            return response

        return getresponse

    def _note_redirect(self, url: str, location: str | None) -> None:
        """What it leads to may have a name of its own each time; the script asked for the first one."""
        if location:
            self._asked[_key(urljoin(url, location))] = self._asked.get(_key(url), url)

    def _body(self, url: str, encoding: str | None) -> _Body:
        packed = (encoding or "").lower() in ("gzip", "x-gzip", "deflate")
        # 47: a gzip or a zlib header, as the data says.
        body = _Body(url=self._asked.get(_key(url), url), decoder=zlib.decompressobj(47) if packed else None)
        self._bodies.append(body)
        return body

    def _noting_redirects(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def send(client: Any, *args: Any, **kwargs: Any) -> Any:
            response = original(client, *args, **kwargs)
            for each in (*response.history, response):
                self._note_redirect(str(each.url), each.headers.get("Location"))
            return response

        return send

    def _noting_stream(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def iter_raw(response: Any, *args: Any, **kwargs: Any) -> Iterator[bytes]:
            found = original(response, *args, **kwargs)
            if response.status_code != 200:
                yield from found
                return
            # The client follows redirects before its caller sees one.
            first = response.history[0].url if response.history else response.url
            body = self._body(str(first), response.headers.get("Content-Encoding"))
            for chunk in found:
                body.add(chunk)
                yield chunk

        return iter_raw

    def _noting_bytes(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(original)
        def read(response: Any, *args: Any) -> Any:
            found = original(response, *args)
            body = getattr(response, "samebits_body", None)
            if body is not None:
                body.add(bytes(args[0][:found]) if name == "readinto" else found)
                body.ended = not found and args[:1] != (0,)
            return found

        return read

    def _noting_members(self, original: Callable[..., Any], names: str, position: int) -> Callable[..., Any]:
        @functools.wraps(original)
        def extract(archive: Any, *args: Any, **kwargs: Any) -> Any:
            found = original(archive, *args, **kwargs)
            source = getattr(archive, "name", None) or getattr(archive, "filename", None)
            target = kwargs.get("path", args[position] if len(args) > position else None)
            if isinstance(source, (str, os.PathLike)):
                folder = os.path.abspath(os.fspath(target or "."))
                members = [os.path.normpath(os.path.join(folder, name)) for name in getattr(archive, names)()]
                self._unpacked.append({"archive": os.path.abspath(os.fspath(source)), "members": members})
            return found

        return extract


def _url(connection: Any) -> str:
    """The URL of the request that was sent last."""
    path = getattr(connection, "samebits_path", "/")
    if path.startswith("http"):  # asked of a proxy without a tunnel
        return str(path)
    # Libraries have connections of their own, over TLS and under that name.
    secure = any("HTTPS" in base.__name__ for base in type(connection).__mro__)
    # Through a proxy, the connection's own host is the proxy's.
    host, port = cpython_private.tunnel(connection) or (connection.host, connection.port)
    shown = host if port in (None, 443 if secure else 80) else f"{host}:{port}"
    return f"http{'s' if secure else ''}://{shown}{path}"


def _key(url: str) -> str:
    """Equal for all ways in which a library may quote one URL."""
    return unquote(url.partition("#")[0])
