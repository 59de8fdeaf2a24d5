"""Which files of a run's folder the record proves by the digests that it holds itself, and which it does not."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.checkpoint_store import Position
from samebits.core.code_tree import is_cache
from samebits.core.digest import Digest
from samebits.core.errors import ImageError, InputError, RecordError
from samebits.core.file_tree import TreeEntry, read_manifest
from samebits.core.folder_manifest import STAGING, FolderEntry, digest_file, is_apart, named_digest
from samebits.core.inputs_lock import LOCK_NAME, read_lock
from samebits.core.jsonio import Fields, read_json
from samebits.core.output_walk import is_ignored
from samebits.core.record import Record
from samebits.core.result import OutputFile
from samebits.core.run_dir import RunDir
from samebits.core.run_files import MAX_CODE_BYTES
from samebits.core.source_digest import LOCK_PATH, PACKAGES_PATH
from samebits.host.audit.ledger_audit import check_ledger
from samebits.host.image.build_context import check_kept

_OPEN = (
    *("outputs/", "work/", "models/", "checkpoints/", "log.txt", "README.txt"),
    *("image/source/", "image/cuda/requirements.lock"),
    STAGING,
)
"""Where a run may leave files of which its record holds no digest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """A file as it should be; `modes` is False where nothing tells whether it was executable."""

    entry: FolderEntry
    modes: bool = True


class RecordedFiles:
    """`expected` by path; names that were `added` since, and `unchecked` ones, of which the record holds no digest."""

    def __init__(self, run: RunDir, record: Record, entries: Mapping[str, FolderEntry]) -> None:
        self._run = run
        self._record = record
        self._entries = entries
        self.expected = {found.entry.path: found for found in self._known()}
        rest = entries.keys() - self.expected.keys()
        names = {path for path in rest if not is_apart(path) and not path.endswith("/") and not self._is_cache(path)}
        # What the record could not have left out was added.
        self.added = {path for path in names if self._is_no_output(path) or not path.startswith(_OPEN)}
        checked = {path for path in names if path.startswith("image/source/") or self._is_checkpoint(path)}
        self.unchecked = names - self.added - checked

    def _known(self) -> Iterator[Expected]:
        run, recipe = self._run, self._record.recipe
        yield _file("record.json")
        yield _file("ledger.jsonl")
        yield _file("code.jsonl", recipe.code.tree)
        if recipe.data is not None:
            yield _file("data.jsonl", recipe.data)
        if recipe.inputs is not None:
            yield _file(LOCK_NAME)
        if "image/" in self._entries or self._record.result is not None:
            yield _file("image/lock/requirements.lock", recipe.image.lock)
            if recipe.image.packages is not None:
                yield _file("image/packages/requirements.lock", recipe.image.packages)
            yield from map(_file, ("image/Dockerfile", "image/image.json"))
        if self._is_file("code.jsonl"):
            yield from _code(run, modes=recipe.code.modes)
        yield from (_file(path, digest) for path in self._entries if (digest := named_digest(path)) is not None)
        outputs = () if self._record.result is None else self._record.result.outputs
        yield from (_output(item, self._entries) for item in outputs)

    def changed(self, reads: Callable[[str], bool]) -> Iterator[str]:
        """The paths of files whose content contradicts the record in another way than by its digest."""
        checks = {"ledger.jsonl": self._ledger_changed, "image/image.json": self._image_changed}
        checks |= {} if self._record.recipe.inputs is None else {LOCK_NAME: self._lock_changed}
        for path, check in checks.items():
            if self._is_file(path) and reads(path) and check():
                yield path
        group = "image/source/ or image/Dockerfile"
        if "image/" in self._entries and reads(group) and self._all_plain("image/") and not self._is_kept():
            yield group
        for path in self._entries:
            if self._is_checkpoint(path) and self._is_file(path) and reads(path) and self._checkpoint_changed(path):
                yield path

    def _ledger_changed(self) -> bool:
        return bool(check_ledger(self._run.ledger, self._record).problems)

    def _lock_changed(self) -> bool:
        """Whether it names other files; a URL is in no digest of the record."""
        try:
            return read_lock(self._run.inputs).digest != self._record.recipe.inputs
        except InputError:
            return True

    def _image_changed(self) -> bool:
        recorded = self._record.recipe.image
        digests = {"lock": recorded.lock, "source": recorded.source, "base": recorded.base}
        digests["packages"] = recorded.packages
        try:
            values = Fields(read_json(self._run.image / "image.json", self._run.path)).rest()
        except RecordError:
            return True
        # In a virtual environment it holds nothing else; in an image also how that was built.
        known = {name: str(digest) for name, digest in digests.items() if digest is not None}
        return {name: values.get(name) for name in (known if "format" in values else values)} != known

    def _is_kept(self) -> bool:
        try:
            check_kept(self._run.image, self._record.recipe.image)
        except ImageError:
            # The locks are held against the record by themselves.
            recorded = self._record.recipe.image
            return any(
                self._is_other(*lock) for lock in ((LOCK_PATH, recorded.lock), (PACKAGES_PATH, recorded.packages))
            )
        return True

    def _is_other(self, name: str, wanted: Digest | None) -> bool:
        """Whether a lock is there, and is not the recorded one."""
        found = digest_file(str(self._run.image / name), self._run.path, MAX_CODE_BYTES)
        return found is not None and found != wanted

    def _checkpoint_changed(self, path: str) -> bool:
        try:
            self._run.checkpoints.read(Position.parse(Path(path).stem))
        except RecordError:
            return True
        return False

    def _is_checkpoint(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        try:
            return folder == "checkpoints" and name.endswith(".json") and Position.parse(name[:-5]) is not None
        except RecordError:
            return False

    def _is_cache(self, path: str) -> bool:
        """Whether Python wrote it beside the code, which no command reads."""
        return path.startswith("code/") and is_cache(path)

    def _is_no_output(self, path: str) -> bool:
        """Whether it lies among the outputs, and is none of those that the result covers or the recipe ignores."""
        if not path.startswith("outputs/") or self._record.result is None:
            return False
        folder, ignore = path.rpartition("/")[0], self._record.recipe.ignore_outputs
        beside = lambda name: self._is_file(f"{folder}/{name}")  # noqa: E731
        return not is_ignored(path.removeprefix("outputs/"), ignore, beside)

    def _is_file(self, path: str) -> bool:
        return path in self._entries and self._entries[path].kind == "a file"

    def _all_plain(self, folder: str) -> bool:
        """Whether a folder holds files and folders only; anything else is found by its kind, and never opened."""
        inside = (entry for path, entry in self._entries.items() if path.startswith(folder))
        return all(entry.kind in ("a file", "a folder") for entry in inside)


def _file(path: str, digest: Digest | None = None, **values: Any) -> Expected:
    return Expected(entry=FolderEntry(path=path, digest=digest, **values), modes=False)


def _code(run: RunDir, *, modes: bool) -> Iterator[Expected]:
    try:
        entries = read_manifest(run.code_manifest).entries
    except RecordError:
        return
    for entry in entries:
        yield _code_file(entry, modes=modes)


def _code_file(entry: TreeEntry, *, modes: bool) -> Expected:
    path = "code/" + entry.path.replace("\\", "\\\\")
    if entry.digest is None:
        return _file(path)
    found = FolderEntry(path=path, size=entry.size, digest=entry.digest, executable=entry.executable)
    return Expected(entry=found, modes=modes)


def _output(item: OutputFile, entries: Mapping[str, FolderEntry]) -> Expected:
    """An output; one that is digested by its tensors is only known to be there."""
    path = f"outputs/{item.path}"
    if item.by == "link":
        return Expected(entry=FolderEntry(path=path, link=_recorded_link(item, entries.get(path))), modes=False)
    return _file(path, Digest.parse(item.digest) if item.by == "bytes" else None)


def _recorded_link(item: OutputFile, found: FolderEntry | None) -> str:
    """The target of a link as it is, if that has the recorded digest; of an absolute one nothing is known."""
    target = "" if found is None or found.link is None else found.link
    relative = os.path.normpath(os.path.join(os.path.dirname(item.path), target))
    known = os.path.isabs(target) or str(Digest.of_bytes(relative.encode())) == item.digest
    return target if known else "another target"
