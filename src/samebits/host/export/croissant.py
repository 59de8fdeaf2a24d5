"""Croissant: the files of a run's data as a data set, by MLCommons' library `mlcroissant`."""

import json
import mimetypes
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from samebits.core.errors import InputError, RecordError
from samebits.core.file_tree import TreeEntry, read_manifest
from samebits.core.jsonio import write_atomically
from samebits.core.printable import printable
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.host.export import facts
from samebits.host.export.facts import Request

if TYPE_CHECKING:
    from mlcroissant import FileObject

SUFFIX = ".samebits.croissant.json"
_ABOUT = "The data of the training run {run}: {count} files, {size} bytes. The tree of all has the digest {digest}."


def write_croissant(run: RunDir, target: Path | None, request: Request) -> Path:
    """Write the metadata to a new file; returns it. Raises InputError for a run without data."""
    record = facts.require_whole(run)
    path = target or facts.default_path(run, SUFFIX)
    facts.require_new(path)
    values = croissant(run, record, request)
    write_atomically(path, json.dumps(values, indent=1, ensure_ascii=False, default=str).encode() + b"\n")
    return path


def croissant(run: RunDir, record: Record, request: Request) -> Any:
    """The metadata: each file with its place, size and sha256."""
    with facts.library("mlcroissant"):
        import mlcroissant
    entries = _entries(run, record)
    about = _ABOUT.format(
        run=printable(record.id),
        count=len(entries),
        size=sum(entry.size for entry in entries),
        digest=record.recipe.data,
    )
    people = [mlcroissant.Person(name=name) for name in request.authors]
    return mlcroissant.Metadata(
        name=printable(f"data-of-{record.id}"),
        description=about,
        url=request.url,
        license=None if request.license is None else [request.license],
        creators=people,
        version="1.0.0",
        date_published=facts.started(record),
        distribution=list(_files(entries, request)),
    ).to_json()


def _entries(run: RunDir, record: Record) -> list[TreeEntry]:
    if record.recipe.data is None:
        raise InputError(f"the run {record.id} has no data to describe")
    tree = read_manifest(run.data_manifest)
    if tree.digest != record.recipe.data:
        raise RecordError(f"{run.data_manifest} is not the recorded one; restore the run's folder")
    return [entry for entry in tree.entries if entry.digest is not None]


def _files(entries: list[TreeEntry], request: Request) -> Iterator["FileObject"]:
    import mlcroissant

    base = "data/" if request.url is None else f"{request.url.rstrip('/')}/"
    for number, entry in enumerate(entries):
        kind, coding = mimetypes.guess_type(entry.path)
        yield mlcroissant.FileObject(
            id=f"file-{number}",
            name=printable(entry.path),
            content_url=base + quote(entry.path),
            content_size=f"{entry.size} B",
            encoding_formats=[_ENCODINGS.get(coding or "", kind) or "application/octet-stream"],
            sha256=entry.digest and entry.digest.hex,
        )


_ENCODINGS = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
