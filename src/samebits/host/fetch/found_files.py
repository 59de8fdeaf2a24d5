"""Which files that a fetch left behind are inputs: what came from the network, and what caches made of it."""

import fnmatch
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samebits.core.errors import RecordError
from samebits.core.folder_manifest import digest_file
from samebits.core.inputs_lock import HOME, WORK
from samebits.core.run_files import read_plain
from samebits.host.inputs.network import SCRATCH

_MAX_REPORT_BYTES = 256 << 20  # about a million members of archives
_CACHES = (".cache", ".keras", "nltk_data", "scikit_learn_data", "tensorflow_datasets", ".local/share")
"""Folders that libraries keep downloads in, and what they prepare from them."""

_RAW = "tensorflow_datasets/downloads"
_MADE_ANYWAY = (
    *(f"{SCRATCH}/*", ".keras/keras.json", ".config/*", ".cache/matplotlib/*", ".cache/fontconfig/*", ".nv/*"),
    *("*/__pycache__/*", "*.lock", "*.incomplete", f"{_RAW}/*"),
)
"""Files that every run makes for itself, or that no run reads: locks, raw downloads beside what was prepared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundFile:
    """A file of a fetch: its path in the lock, where it lies, its sha256, and its URL where that is known."""

    path: str
    at: Path
    sha256: str
    url: str | None = None


@dataclass(slots=True)
class FetchReport:
    """What the script's process reported: URLs by sha256, and members of archives by the archive's path.

    `partial` are the sha256 of downloads that ended before the file did.
    """

    urls: dict[str, str] = field(default_factory=dict)
    partial: set[str] = field(default_factory=set)
    unpacked: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "FetchReport":
        """Read a report; raises RecordError."""
        report = cls()
        whole: set[str] = set()
        try:
            values: Mapping[str, Any] = json.loads(read_plain(path, _MAX_REPORT_BYTES))
            for body in values["downloads"]:
                for sha256 in body["sha256"]:
                    report.urls.setdefault(sha256, body["url"])
                    (report.partial if body["partial"] else whole).add(sha256)
            for found in values["unpacked"]:
                report.unpacked.setdefault(found["archive"], set()).update(found["members"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordError(f"the fetch left no report of its downloads ({error}); run it again") from error
        # Another server may have sent all of the same bytes.
        report.partial -= whole
        return report


def find_inputs(home: Path, inside: str, outputs: Path, report: FetchReport, *, unpacked: bool) -> list[FoundFile]:
    """The inputs among all files of the home folder, which the script saw as `inside`, and beside its code.

    Files that were unpacked from an archive which is an input itself are left out, as the run unpacks them again;
    `unpacked` keeps them.
    """
    found = [
        *_candidates(home, HOME, report, caches=True),
        *_candidates(outputs, WORK, report, caches=False),
    ]
    if unpacked:
        return found
    archives = {f"{inside}/{file.path.removeprefix(f'{HOME}/')}" for file in found if file.path.startswith(f"{HOME}/")}
    made = {member for archive, members in report.unpacked.items() if archive in archives for member in members}
    return [file for file in found if f"{inside}/{file.path.removeprefix(f'{HOME}/')}" not in made]


def prepared_urls(home: Path, report: FetchReport) -> set[str]:
    """The URLs of raw downloads beside what a library prepared from them."""
    digests = (digest_file(os.fspath(path)) for _, path in _files(home / _RAW))
    return {report.urls[digest.hex] for digest in digests if digest is not None and digest.hex in report.urls}


def _candidates(folder: Path, root: str, report: FetchReport, *, caches: bool) -> Iterator[FoundFile]:
    inside = os.path.realpath(folder)
    for relative, path in _files(folder):
        if any(fnmatch.fnmatchcase(relative, pattern) for pattern in _MADE_ANYWAY):
            continue
        real = Path(os.path.realpath(path))
        # The script made the link: it must not lead to a file of this machine.
        if not real.is_relative_to(inside) or (sha256 := digest_file(os.fspath(real))) is None:
            continue
        url = report.urls.get(sha256.hex)
        if url is not None or (caches and any(relative.startswith(f"{cache}/") for cache in _CACHES)):
            yield FoundFile(path=f"{root}/{relative}", at=path, sha256=sha256.hex, url=url)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """All files and links below a folder, sorted."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            yield str(path.relative_to(folder)), path
