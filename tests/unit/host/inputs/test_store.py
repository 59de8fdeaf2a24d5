"""The store: files by their digest, checked when they are used, and linked by their paths."""

import os
from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.file_tree import hash_tree
from samebits.core.inputs_lock import InputsLock, PinnedFile
from samebits.host.inputs.store import InputStore, provide


def _stored(store: InputStore, path: str, content: bytes) -> PinnedFile:
    draft = store.draft() / "file"
    draft.write_bytes(content)
    return PinnedFile(path=path, digest=store.adopt(draft), size=len(content))


@pytest.fixture
def lock(store: InputStore) -> InputsLock:
    names = {"home/.keras/datasets/a": b"one", "home/.keras/models/same": b"one", "work/b": b"two"}
    return InputsLock.of([_stored(store, name, content) for name, content in names.items()])


def test_a_lock_becomes_a_folder_of_links(store: InputStore, lock: InputsLock) -> None:
    tree = provide(lock)
    assert hash_tree(tree, "inputs").digest == lock.digest
    assert (tree / "work" / "b").stat().st_ino == store.path(Digest.of_bytes(b"two")).stat().st_ino
    assert provide(lock) == tree


def test_files_are_private_and_read_only(store: InputStore, lock: InputsLock, tmp_path: Path) -> None:
    assert (tmp_path / "cache" / "inputs").stat().st_mode & 0o777 == 0o700
    at = store.path(lock.files[0].digest).stat()
    assert (at.st_mode & 0o777, at.st_mtime) == (0o444, 1_767_225_600)


def test_a_file_that_was_changed_by_hand_is_never_used(
    store: InputStore, lock: InputsLock, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = provide(lock)
    path = store.path(lock.files[2].digest)
    path.chmod(0o644)
    path.write_bytes(b"twO")
    with pytest.raises(InputError, match=r"^1 of 3 inputs are not here: work/b; run `samebits fetch`$"):
        provide(lock)
    assert "was changed after it was stored" in capsys.readouterr().err
    assert not path.exists()
    # What is fetched again is linked again, too.
    _stored(store, "work/b", b"two")
    assert provide(lock) == tree
    assert (tree / "work" / "b").read_bytes() == b"two"


def test_a_folder_of_links_that_was_changed_is_made_anew(lock: InputsLock) -> None:
    tree = provide(lock)
    (tree / "home" / "added").write_text("x")
    (tree / "work" / "b").unlink()
    (tree / "work" / "b").write_bytes(b"tw0")
    assert hash_tree(provide(lock), "inputs").digest == lock.digest


def test_another_size_is_another_file(store: InputStore) -> None:
    file = _stored(store, "work/a", b"one")
    edited = InputsLock.of([PinnedFile(path=file.path, digest=file.digest, size=4)])
    with pytest.raises(InputError, match="1 of 1 inputs are not here"):
        provide(edited)


def test_only_the_wanted_content_is_copied_from_elsewhere(store: InputStore, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"one")
    wanted = PinnedFile(path="work/a", digest=Digest.of_bytes(b"two"), size=3)
    assert not store.adopt_copy(other, wanted)
    assert not store.holds(wanted)
    other.write_bytes(b"two")
    assert store.adopt_copy(other, wanted)
    assert store.holds(wanted)
    assert os.listdir(tmp_path / "cache" / "inputs" / "partial") == []
