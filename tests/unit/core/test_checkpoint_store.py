"""Checkpoints: positions, retention, files that round-trip, and changes that are detected."""

import fcntl
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.checkpoint_copy import copy_checkpoints
from samebits.core.checkpoint_store import (
    Checkpoint,
    CheckpointStore,
    Position,
    describe_reached,
)
from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError, StorageError
from samebits.core.jsonio import Fields, canonical_json
from samebits.core.retention import ALL, LAST, NONE, RetentionPolicy
from support.machine import on_small_disk, unprivileged

_RECIPE = Digest.of_bytes(b"recipe")
_POSITIONS = [
    Position(phase=0, epoch=1),
    Position(phase=0, epoch=1, step=50),
    Position(phase=0, epoch=2),
    Position(phase=1, epoch=0, step=7),
    Position(phase=1, epoch=12345678),
    Position(phase=12345, epoch=1),
]


def _write(store: CheckpointStore, position: Position, *contents: bytes) -> Checkpoint:
    texts = {str(Digest.of_bytes(content)): content for content in contents}
    found = Checkpoint(
        position=position, recipe=_RECIPE, lines=3, last=_RECIPE, state={"at": position.name}, objects=tuple(texts)
    )
    store.write(found, texts)
    return found


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


@pytest.mark.parametrize("position", _POSITIONS)
def test_a_position_round_trips_through_its_name(position: Position) -> None:
    assert Position.parse(position.name) == position


def test_names_sort_like_positions() -> None:
    assert sorted(_POSITIONS, key=lambda position: position.order) == _POSITIONS
    assert sorted(position.name for position in _POSITIONS[:4]) == [position.name for position in _POSITIONS[:4]]


@pytest.mark.parametrize("name", ["", "0000", "0000-1", "0000-000001-1", "x0000-000001", "0000-000001.json", "objects"])
def test_names_that_are_no_position(name: str) -> None:
    with pytest.raises(RecordError, match=rf"^{re.escape(repr(name))} does not name a checkpoint$"):
        Position.parse(name)


def test_positions_in_messages() -> None:
    assert str(_POSITIONS[0]) == "phase 0 after 1 epoch"
    assert str(_POSITIONS[1]) == "phase 0 after 1 epoch, 50 steps into the next"
    assert str(Position(phase=2, epoch=0, step=1)) == "phase 2 after 0 epochs, 1 step into the next"
    assert describe_reached(_POSITIONS[2]) == "ended at phase 0 after 2 epochs, as asked"


@pytest.mark.parametrize(
    ("keep", "every", "message"),
    [
        ("some", None, "keep must be all, last, none or every:N, not 'some'"),
        ("every:", None, "keep must be all, last, none or every:N, not 'every:'"),
        ("every:0", None, "keep must be all, last, none or every:N, not 'every:0'"),
        ("every:-1", None, "keep must be all, last, none or every:N, not 'every:-1'"),
        ("3", None, "keep must be all, last, none or every:N, not '3'"),
        ("last", 0, "checkpoint-every must be 1 step or more, not 0"),
        ("none", 5, "keep none writes no checkpoint; drop checkpoint-every"),
    ],
)
def test_invalid_retention_policies(keep: str, every: int | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        RetentionPolicy(keep=keep, every=every)
    assert str(caught.value) == message
    with pytest.raises(RecordError, match=r"^'keep': "):
        RetentionPolicy.from_fields(Fields({"keep": keep, "every": every}))


@pytest.mark.parametrize(
    "keeping",
    [
        RetentionPolicy(),
        RetentionPolicy(keep=ALL, every=3),
        RetentionPolicy(keep="every:7"),
        RetentionPolicy(keep=NONE),
    ],
)
def test_retention_policies_round_trip(keeping: RetentionPolicy) -> None:
    assert RetentionPolicy.from_fields(Fields(keeping.to_dict())) == keeping
    assert keeping.writes == (keeping.keep != NONE)


def test_checkpoints_round_trip(store: CheckpointStore) -> None:
    written = [_write(store, position, b"same", position.name.encode()) for position in _POSITIONS]
    assert store.positions() == _POSITIONS
    assert [store.read(position) for position in _POSITIONS] == written
    assert len(list(store.objects.iterdir())) == len(_POSITIONS) + 1, "equal contents are stored once"
    for found in written:
        assert [store.content(Digest.parse(text)) for text in found.objects] == [b"same", found.position.name.encode()]
    assert not any(path.stat().st_mode & 0o222 for path in store.objects.iterdir())


def test_a_missing_folder_has_no_checkpoint(store: CheckpointStore) -> None:
    assert store.positions() == []
    assert store.refused() == ()


def _changed(value: dict[str, object], **changes: object) -> dict[str, object]:
    body = {name: item for name, item in {**value, **changes}.items() if name != "seal"}
    return body | {"seal": str(Digest.of_json(body))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: {**value, "recipe": str(Digest.of_bytes(b"x"))}, "the checksum does not match: the checkpoint"),
        (lambda value: _changed(value, version="2.0"), "checkpoint version 2.0 is newer than this samebits "),
        (lambda value: _changed(value, format="x.record"), "'format' is 'x.record'; the file is not a checkpoint"),
        (lambda value: _changed(value, ledger={"last": str(_RECIPE)}), "missing value in 'ledger.lines'"),
        (lambda value: _changed(value, objects=[1]), "'objects[0]' must be str, not 1"),
        (lambda value: _changed(value, place="1"), "'place': '1' does not name a checkpoint"),
        (lambda _: [], "the file must hold an object, not list"),
        (lambda _: None, "the file must hold an object, not NoneType"),
    ],
)  # fmt: skip
def test_files_that_are_no_checkpoint(
    store: CheckpointStore, change: Callable[[dict[str, object]], object], message: str
) -> None:
    position = _POSITIONS[0]
    path = store.path(position)
    value = _write(store, position).to_dict()
    path.unlink()
    path.write_bytes(canonical_json(change(value)))
    with pytest.raises(RecordError) as caught:
        store.read(position)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_truncated_renamed_and_missing_files(store: CheckpointStore) -> None:
    _write(store, _POSITIONS[0], b"content")
    path, other = store.path(_POSITIONS[0]), store.path(_POSITIONS[2])
    with pytest.raises(RecordError, match=r"^cannot read .*/0000-000002\.json: No such file or directory$"):
        store.read(_POSITIONS[2])
    path.rename(other)
    with pytest.raises(RecordError, match=r"0000-000002\.json holds the checkpoint 0000-000001: it was renamed$"):
        store.read(_POSITIONS[2])
    content = other.read_bytes()
    other.unlink()
    other.write_bytes(content[:-9])
    with pytest.raises(RecordError, match=r"0000-000002\.json is not JSON: "):
        store.read(_POSITIONS[2])
    digest = Digest.of_bytes(b"content")
    (store.objects / digest.hex).unlink()
    with pytest.raises(RecordError, match=rf"^cannot read .*/objects/{digest.hex}: No such file or directory$"):
        store.content(digest)
    (store.objects / digest.hex).write_bytes(b"Content")
    with pytest.raises(
        RecordError, match=r" does not match the digest in its name: it was changed after it was written$"
    ):
        store.content(digest)


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (ALL, ["0000-000001", "0000-000002", "0000-000003", "0001-000000-00000005", "0001-000001"]),
        (LAST, ["0000-000003", "0001-000000-00000005", "0001-000001"]),
        ("every:2", ["0000-000002", "0000-000003", "0001-000000-00000005", "0001-000001"]),
    ],
)
def test_pruning_removes_checkpoints_and_their_objects(store: CheckpointStore, keep: str, left: list[str]) -> None:
    positions = [Position(phase=0, epoch=epoch) for epoch in (1, 2, 3)]
    positions += [Position(phase=1, epoch=0, step=5), Position(phase=1, epoch=1)]
    for position in positions:
        _write(store, position, b"same", position.name.encode())
    store.prune(RetentionPolicy(keep=keep))
    assert [position.name for position in store.positions()] == left
    used = {Digest.parse(text).hex for position in store.positions() for text in store.read(position).objects}
    assert {path.name for path in store.objects.iterdir()} == used
    assert len(used) == len(left) + 1


def test_the_last_but_one_is_kept_also_in_an_earlier_phase(store: CheckpointStore) -> None:
    """From it, a resumed run begins; the last one it must reproduce."""
    for phase, epoch in ((0, 1), (0, 2), (1, 1)):
        _write(store, Position(phase=phase, epoch=epoch))
        store.prune(RetentionPolicy())
    assert [position.name for position in store.positions()] == ["0000-000002", "0001-000001"]


def test_more_than_two_stay_for_several_workers(store: CheckpointStore) -> None:
    for epoch in range(1, 6):
        _write(store, Position(phase=0, epoch=epoch))
        store.prune(RetentionPolicy(), least=3)
    assert [position.epoch for position in store.positions()] == [3, 4, 5]


def test_checkpoints_needed_to_resume(store: CheckpointStore) -> None:
    for position in (
        _POSITIONS[0],
        _POSITIONS[2],
        Position(phase=1, epoch=1),
        Position(phase=1, epoch=2),
        Position(phase=2, epoch=1),
    ):
        _write(store, position)
    assert store.needed(Position(phase=1, epoch=1)) == [_POSITIONS[2], Position(phase=1, epoch=1)]
    assert store.needed(Position(phase=2, epoch=1)) == [
        _POSITIONS[2],
        Position(phase=1, epoch=2),
        Position(phase=2, epoch=1),
    ]
    assert store.needed(_POSITIONS[0]) == [_POSITIONS[0]]


@pytest.mark.parametrize("can_clone", [True, False])
def test_sharing(store: CheckpointStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_clone: bool) -> None:
    """As copies with blocks in common where the file system can; never as hard links, which change together."""
    if not can_clone:
        monkeypatch.setattr(fcntl, "ioctl", lambda *_: (_ for _ in ()).throw(OSError("no clones")))
    first, second = (
        _write(store, position, b"same", position.name.encode()) for position in (_POSITIONS[0], _POSITIONS[2])
    )
    other = CheckpointStore(tmp_path / "other" / "checkpoints")
    for _ in range(2):  # once more changes nothing
        copy_checkpoints(store, [first.position], other)
    assert other.positions() == [first.position]
    assert other.read(first.position) == first
    assert len(list(other.objects.iterdir())) == 2
    assert {path.stat().st_nlink for path in (*other.objects.iterdir(), other.path(first.position))} == {1}
    assert not other.path(first.position).samefile(store.path(first.position))
    store.prune(RetentionPolicy(keep=LAST))
    assert other.content(Digest.of_bytes(b"same")) == b"same", "what one removes stays here"
    copy_checkpoints(store, [second.position], other)
    assert len(list(other.objects.iterdir())) == 3


def test_refusals(store: CheckpointStore) -> None:
    store.refuse(["a generator was given", "workers share one"])
    assert store.refused() == ("a generator was given", "workers share one")
    assert store.positions() == []
    for content in (b"", b"[]", b'{"reasons": [1]}', b"\xff"):
        store.refusal.unlink()
        store.refusal.write_bytes(content)
        with pytest.raises(RecordError, match=r"refused\.json( is not JSON)?: "):
            store.refused()


def test_read_only_folders(open_folder: Path) -> None:
    store = CheckpointStore(open_folder / "checkpoints")
    source = CheckpointStore(open_folder / "source")
    _write(source, _POSITIONS[0], b"content")
    open_folder.chmod(0o555)
    message = r"Permission denied; choose a folder that you may write to$"
    with unprivileged():
        with pytest.raises(StorageError, match=message):
            _write(store, _POSITIONS[0])
        with pytest.raises(StorageError, match=message):
            store.refuse(["no"])
        with pytest.raises(StorageError, match=message):
            copy_checkpoints(source, [_POSITIONS[0]], store)


def test_a_full_disk_leaves_no_checkpoint(tmp_path: Path) -> None:
    """The new objects do not fit; the previous checkpoint is still complete."""
    code = """
from pathlib import Path
from samebits.core.checkpoint_store import Checkpoint, CheckpointStore, Position
from samebits.core.digest import Digest
from samebits.core.errors import StorageError
store = CheckpointStore(Path("checkpoints"))
for epoch, size in ((1, 10_000), (2, 100_000)):
    content = bytes([epoch]) * size
    digest = Digest.of_bytes(content)
    found = Checkpoint(position=Position(phase=0, epoch=epoch), recipe=digest, lines=0, last=digest, state={},
                       objects=(str(digest),))
    try:
        store.write(found, {str(digest): content})
    except StorageError as error:
        print(error)
print([position.name for position in store.positions()], [len(list(store.objects.iterdir()))])
print(len(store.content(Digest.parse(store.read(Position(phase=0, epoch=1)).objects[0]))))
"""
    lines = on_small_disk(code, tmp_path)
    assert lines[0].startswith("the disk is full: cannot write checkpoints/objects/")
    assert lines[1:] == ["['0000-000001'] [1]", "10000"]


def test_from_dict_is_the_inverse_of_to_dict() -> None:
    found = Checkpoint(position=_POSITIONS[1], recipe=_RECIPE, lines=0, last=_RECIPE, state={"a": [1, "ü"]})
    value = json.loads(canonical_json(found.to_dict()))
    assert Checkpoint.from_dict(value) == found
    assert Checkpoint.from_dict(replace(found, lines=9).to_dict()).lines == 9
