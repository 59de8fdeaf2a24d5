"""Downloads files by URL into the store. Only the digest of the whole file decides whether it is the right one."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from samebits.core.errors import InputError, SamebitsError
from samebits.core.folder_manifest import digest_file
from samebits.core.inputs_lock import PinnedFile
from samebits.core.jsonio import parse_digits, storage_error
from samebits.host.cache_dir import exclusive
from samebits.host.inputs.store import InputStore

if TYPE_CHECKING:
    import requests

_TIMEOUT = 30.0  # seconds without a byte
_READ_BYTES = 1 << 16  # what a connection that breaks can lose, and the least that moves the bar
_ATTEMPTS = 4  # of which each goes on where the last one stopped

Report = Callable[[int, int], None]
"""Called with the bytes that a file has so far, and with those that are announced (0: unknown)."""


class _InterruptedDownloadError(SamebitsError):
    """The connection ended before the file did."""


def download(file: PinnedFile, store: InputStore, report: Report) -> PinnedFile:
    """Get a file by its URL into the store; returns it with its size.

    Raises InputError if the server does not send the file with this digest, StorageError if it cannot be stored.
    """
    partial = store.partial(file.digest)
    # Two processes never write to one partial file.
    with exclusive(partial.parent, partial.name):
        if not store.holds(file):
            _complete(file, partial, report)
            store.adopt(partial)
    return PinnedFile(path=file.path, digest=file.digest, size=store.path(file.digest).stat().st_size, url=file.url)


def _complete(file: PinnedFile, partial: Path, report: Report) -> None:
    """Download until the file is complete, and check it."""
    resumed = partial.exists()
    _get_with_retries(file, partial, report)
    # What was there may belong to another version of the file.
    if resumed and not _matches(file, partial):
        partial.unlink()
        _get_with_retries(file, partial, report)
    if _matches(file, partial):
        return
    found, size = digest_file(os.fspath(partial)), partial.stat().st_size
    partial.unlink()
    raise InputError(
        f"{file.url} is another file now: {size:,} bytes with sha256 {found.hex if found else 'unknown'}, and"
        f" {file.path} is pinned with{'' if file.size is None else f' {file.size:,} bytes and'} sha256"
        f" {file.digest.hex}; ask for the old file, or run `samebits fetch SCRIPT --update` to pin the new one"
    )


def _matches(file: PinnedFile, path: Path) -> bool:
    return file.size in (None, path.stat().st_size) and digest_file(os.fspath(path)) == file.digest


def _get_with_retries(file: PinnedFile, partial: Path, report: Report) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        before = partial.stat().st_size if partial.exists() else 0
        try:
            _get(file, partial, report)
            return
        except _InterruptedDownloadError as error:
            here = partial.stat().st_size if partial.exists() else 0
            # A server that sends nothing more is not asked again and again.
            if attempt == _ATTEMPTS or (here == before and attempt > 1):
                raise InputError(
                    f"the download of {file.url} stopped after {here:,} bytes: {error}; run `samebits fetch` again to"
                    " continue there"
                ) from error


def _get(file: PinnedFile, partial: Path, report: Report) -> None:
    """One request, for what is missing of the file."""
    have = partial.stat().st_size if partial.exists() else 0
    if file.size is not None and have >= file.size:
        return
    with _response(file, have) as response:
        # Nothing is left to send: the file is complete, or another one.
        if response.status_code == 416:
            return
        # A server that ignores the range sends all of it.
        continues = response.status_code == 206 and _starts_at(response, have)
        if not continues:
            have = 0
        try:
            with partial.open("ab" if continues else "wb") as target:
                _copy(file, response, target.write, have, report, most=_most_bytes(file, partial))
        except OSError as error:
            raise storage_error(error, partial) from error


def _most_bytes(file: PinnedFile, partial: Path) -> int:
    """What is read at most: of a file of unknown size nine tenths of the free space."""
    return shutil.disk_usage(partial.parent).free * 9 // 10 if file.size is None else file.size


def _copy(
    file: PinnedFile,
    response: "requests.Response",
    write: Callable[[bytes], object],
    have: int,
    report: Report,
    *,
    most: int,
) -> None:
    length = response.headers.get("Content-Length", "")
    announced = parse_digits(length)
    expected = 0 if announced is None else have + announced
    for chunk in _chunks(response):
        write(chunk)
        have += len(chunk)
        report(have, expected)
        # A longer file is another one. The rest could be endless.
        if have > most and file.size is not None:
            return
        if have > most:
            raise InputError(
                f"{file.url} sends more than {most >> 20:,} MiB, most of the free space; free some, or do without"
            )
    if have < expected:
        raise _InterruptedDownloadError(f"{expected:,} bytes were announced")


def _chunks(response: "requests.Response") -> Iterator[bytes]:
    from urllib3.exceptions import HTTPError

    try:
        # The bytes as they are stored on the server: nothing is unpacked on the way.
        yield from response.raw.stream(_READ_BYTES, decode_content=False)
    except (HTTPError, OSError) as error:
        raise _InterruptedDownloadError(_line(error)) from error


def _starts_at(response: "requests.Response", have: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


@contextmanager
def _response(file: PinnedFile, have: int) -> Iterator["requests.Response"]:
    """The server's answer. Redirects are followed: only the content decides."""
    import requests

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True
    try:
        response = requests.get(str(file.url), headers=headers, stream=True, timeout=_TIMEOUT, verify=verify)
    except requests.RequestException as error:
        raise _InterruptedDownloadError(_line(error)) from error
    with response:
        if response.status_code >= 500:
            raise _InterruptedDownloadError(f"status {response.status_code} {response.reason}")
        if response.status_code not in (200, 206, 416):
            raise InputError(
                f"{file.url} answers {response.status_code} {response.reason}: {file.path} is gone there; get the file"
                " from someone who has it, with `samebits fetch --export` and `--import`"
            )
        yield response


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
