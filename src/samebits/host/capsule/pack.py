"""`samebits pack`: a run and what is needed to verify it, as one file whose bytes follow from its content."""

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from samebits.core.errors import InputError, RecordError, shorten
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.host.audit.folder_audit import audit_ended
from samebits.host.capsule import contents, gather
from samebits.host.capsule.archive import Source, write_archive
from samebits.host.capsule.blob_store import BlobStore
from samebits.host.capsule.contents import Contents, Member, check_path, order
from samebits.host.capsule.readme import readme
from samebits.host.console import hashing_progress, log
from samebits.host.report.run_page import run_page
from samebits.host.runs.registry import checksum_of

SUFFIX = ".samebits.tar"


@dataclass(frozen=True, kw_only=True, slots=True)
class PackOptions:
    """What to leave out, where the data is now (None: where it was), and the store of shared files, if there is one."""

    without: tuple[str, ...] = ()
    data: Path | None = None
    store: Path | None = None

    @property
    def parts(self) -> frozenset[str]:
        """What to pack."""
        return frozenset(contents.PARTS) - set(self.without)

    def for_run(self, record: Record) -> "PackOptions":
        """Without what a run does not have: a virtual environment has no image, a plain `docker run` records none."""
        image = record.recipe.image
        if image.config is not None:
            return self
        missing = (contents.IMAGE, contents.BASE) if image.python else (contents.IMAGE, contents.BASE, contents.WHEELS)
        return replace(self, without=(*self.without, *missing))


def pack(run: RunDir, target: Path, options: PackOptions) -> Contents:
    """Write a capsule; raises RecordError for a run that is not as its record says, InputError for what is missing."""
    record = _require_whole(run)
    options = options.for_run(record)
    _check_target(target, run)
    with tempfile.TemporaryDirectory(prefix=".samebits-pack-", dir=target.absolute().parent) as folder:
        sources, left_out = _sources(run, record, options, Path(folder))
        capsule = Contents(
            run=record.id,
            record=checksum_of(run),
            recipe=str(record.recipe.digest),
            result=None if record.result_digest is None else str(record.result_digest),
            image=None if record.recipe.image.config is None else str(record.recipe.image.config),
            without=tuple(part for part in contents.PARTS if part not in options.parts),
            left_out=tuple(left_out),
            members=tuple(source.member for source in sources),
        )
        with hashing_progress(f"packing {record.id}") as progress:
            return write_archive(target, capsule, sources, progress)


def _require_whole(run: RunDir) -> Record:
    """The record of a run that has ended, and whose files are all as it says."""
    record, audit = audit_ended(run, "a capsule holds runs that have ended")
    changed = [str(change) for change in audit.files.damages] + list(audit.problems)
    if changed:
        raise RecordError(f"{run.path}: {shorten(changed, 3)}; restore the run's folder, then pack it")
    return record


def _check_target(target: Path, run: RunDir) -> None:
    if os.path.lexists(target):
        raise InputError(f"{target} exists already; remove it, or name another file with -o")
    folder = target.absolute().parent
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; create it, or name another file with -o")
    if folder.resolve().is_relative_to(run.path.resolve()):
        raise InputError(f"{target} is in the run's folder, which would change it; name another file with -o")


def _sources(run: RunDir, record: Record, options: PackOptions, folder: Path) -> tuple[list[Source], list[str]]:
    """Every file in the order of the capsule, and what of the run cannot be in it."""
    parts = options.parts
    store = None if options.store is None else BlobStore(options.store)
    files, left_out = gather.run_files(run, checkpoints=contents.CHECKPOINTS in parts)
    files += gather.data_files(run, record, options.data) if contents.DATA in parts else ()
    files += gather.input_files(run, record) if contents.INPUTS in parts else ()
    files += gather.wheel_files(run, record) if contents.WHEELS in parts else ()
    files += gather.image_files(run, record, parts, folder, store)
    if left_out:
        log(f"left out, as a capsule holds no links: {shorten(left_out, 3)}")
    if store is not None:
        files = [store.take(source) for source in files]
    without = tuple(part for part in contents.PARTS if part not in parts)
    stored = any(source.member.stored for source in files)
    files += [
        _text(contents.README, readme(record, without, stored=stored)),
        _text(contents.REPORT, run_page(run)),
    ]
    return sorted(map(_checked, files), key=lambda source: order(source.member)), left_out


def _text(path: str, content: bytes) -> Source:
    return Source(member=Member(path=path, size=len(content)), content=content)


def _checked(source: Source) -> Source:
    """Raises InputError for a path that no capsule may hold."""
    try:
        check_path(source.member.path)
    except RecordError as error:
        raise InputError(f"cannot pack a file: {error}; rename it") from error
    return source
