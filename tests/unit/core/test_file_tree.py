"""Trees: what counts, what does not, and what is refused because another machine could not reproduce it."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError
from samebits.core.file_tree import Tree, TreeEntry, differing_paths, hash_tree, read_manifest
from samebits.core.tree_walk import TreeFilter, list_tree
from support.machine import unprivileged


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder `data` with two files."""
    data = tmp_path / "data"
    (data / "cats").mkdir(parents=True)
    (data / "cats" / "1.txt").write_text("one")
    (data / "labels.csv").write_text("1,cat\n")
    return data


def _paths(root: Path, leave_out: TreeFilter | None = None) -> list[str]:
    return [relative for relative, _, _ in list_tree(root, "data", leave_out)]


def test_manifest(root: Path, tmp_path: Path) -> None:
    (root / "dogs").mkdir()
    tree = hash_tree(root, "data")
    assert tree.manifest.decode() == (
        f'{{"digest":"{Digest.of_bytes(b"one")}","path":"cats/1.txt","size":3}}\n'
        '{"path":"dogs/"}\n'
        f'{{"digest":"{Digest.of_file(root / "labels.csv")}","path":"labels.csv","size":6}}\n'
    )
    assert tree.size == 9
    written = tmp_path / "data.jsonl"
    tree.write(written)
    said = subprocess.run(["sha256sum", written], capture_output=True, text=True, check=True).stdout.split()[0]
    assert str(tree.digest) == f"sha256:{said}"
    assert read_manifest(written) == tree


def test_order_is_that_of_the_paths_bytes(tmp_path: Path) -> None:
    expected = ["B", "a b", "a-b", "a.b", "a/b", "a/b.c", "a0", "a\u2028\r\n", "é", "\uff5e", "\U0001f600"]
    for name in reversed(expected):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    tree = hash_tree(tmp_path, "data")
    assert [entry.path for entry in tree.entries] == expected
    assert expected == sorted(expected, key=str.encode)
    tree.write(tmp_path / "manifest")
    assert read_manifest(tmp_path / "manifest") == tree


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[^/\0.]+(/[^/\0.]+)*", fullmatch=True), st.integers(0, 2**63), st.binary() | st.none()
        )
    )
)
def test_entry_round_trip(values: list[tuple[str, int, bytes | None]]) -> None:
    for path, size, content in values:
        digest = None if content is None else Digest.of_bytes(content)
        entry = TreeEntry(path=path, size=0 if digest is None else size, digest=digest)
        assert TreeEntry.from_dict(json.loads(json.dumps(entry.to_dict()))) == entry


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "the file must hold an object, not list"),
        ({"size": 1}, "missing value in 'path'"),
        ({"path": "a", "size": "1"}, "'size' must be int, not '1'"),
        ({"path": "a", "digest": "x"}, "not a digest: 'x'; a digest is sha256: followed by 64 hex digits"),
    ],
)
def test_invalid_manifest_lines(value: object, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        TreeEntry.from_dict(value)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "labels.csv").write_text("1,car\n"),
        lambda root: (root / "labels.csv").write_text("1,cat\n\n"),
        lambda root: (root / "labels.csv").write_text(""),
        lambda root: (root / "labels.csv").rename(root / "labels.CSV"),
        lambda root: (root / "labels.csv").rename(root / "cats" / "labels.csv"),
        lambda root: (root / "labels.csv").unlink(),
        lambda root: (root / "empty").touch(),
        lambda root: (root / "empty").mkdir(),
        lambda root: (root / ".hidden").touch(),
    ],
    ids=["byte", "size", "emptied", "name", "moved", "removed", "file", "folder", "hidden"],
)
def test_content_counts(root: Path, change: Callable[[Path], object]) -> None:
    before = hash_tree(root, "data").digest
    change(root)
    assert hash_tree(root, "data").digest != before


def test_times_modes_locations_and_a_linked_root_do_not_count(root: Path, tmp_path: Path) -> None:
    before = hash_tree(root, "data")
    os.utime(root / "labels.csv", (0, 0))
    (root / "labels.csv").chmod(0o755)
    assert hash_tree(root, "data") == before
    assert hash_tree(Path(shutil.copytree(root, tmp_path / "copy")), "data") == before
    (tmp_path / "link").symlink_to(root)
    assert hash_tree(tmp_path / "link", "data") == before


def test_links_inside_the_folder_count_as_their_targets(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    (root / "file").symlink_to("cats/1.txt")
    (root / "cats" / "up").symlink_to("../labels.csv")
    (root / "felines").symlink_to("cats")
    shutil.copy(copy / "cats" / "1.txt", copy / "file")
    shutil.copy(copy / "labels.csv", copy / "cats" / "up")
    shutil.copytree(copy / "cats", copy / "felines")
    assert hash_tree(root, "data") == hash_tree(copy, "data")


_ELSEWHERE = "; put the file itself there, or a relative link within the folder"


@pytest.mark.parametrize(
    ("link", "target", "message"),
    [
        ("l", "{root}/labels.csv", "holds a link that leaves it: {root}/l -> {root}/labels.csv" + _ELSEWHERE),
        ("l", "{root}/cats", "holds a link that leaves it: {root}/l -> {root}/cats" + _ELSEWHERE),
        ("l", "/etc/hostname", "holds a link that leaves it: {root}/l -> /etc/hostname" + _ELSEWHERE),
        ("l", "../data-2/x", "holds a link that leaves it: {root}/l -> ../data-2/x" + _ELSEWHERE),
        ("cats/l", "../..", "holds a link that leaves it: {root}/cats/l -> ../.." + _ELSEWHERE),
        ("l", "nothing", "holds a link to nothing: {root}/l; remove or repair the link"),
        ("l", "l", "holds a link that loops: {root}/l; remove the link"),
        ("l", ".", "holds a link that loops: {root}/l; remove the link"),
        ("cats/l", "..", "holds a link that loops: {root}/cats/l; remove the link"),
    ],
)
def test_links_that_are_refused(root: Path, link: str, target: str, message: str) -> None:
    (root.parent / "data-2").mkdir()
    (root.parent / "data-2" / "x").touch()
    (root / link).symlink_to(target.format(root=root))
    with pytest.raises(InputError) as caught:
        list_tree(root, "data")
    assert str(caught.value) == "the data folder " + message.format(root=root)


def test_a_link_that_comes_back_under_the_folders_own_name(root: Path) -> None:
    """In a container the folder has another name, so the link would be broken."""
    (root / "l").symlink_to("../data/labels.csv")
    with pytest.raises(InputError) as caught:
        list_tree(root, "data")
    assert str(caught.value) == (
        f"the data folder holds a link that leaves it: {root}/l -> ../data/labels.csv" + _ELSEWHERE
    )


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("l", "../data"),
        ("l", "./../data/cats"),
        ("cats/l", "../../data/labels.csv"),
        ("cats/l", "..//./../data/labels.csv"),
        ("same/l", "../../data/labels.csv"),  # through a folder that is a link
    ],
)
def test_links_that_come_back_under_the_folders_own_name(root: Path, link: str, target: str) -> None:
    (root / "same").symlink_to("cats")
    (root / link).symlink_to(target)
    with pytest.raises(InputError) as caught:
        list_tree(root, "data")
    assert f"-> {target}{_ELSEWHERE}" in str(caught.value)
    assert str(caught.value).startswith(f"the data folder holds a link that leaves it: {root}/")


def test_a_link_that_comes_back_through_another_link(root: Path) -> None:
    (root / "deep").mkdir()
    (root / "deep" / "l").symlink_to("../cats")
    (root / "x").symlink_to("deep/l/../../data/labels.csv")  # cats, the root, out, and in again
    with pytest.raises(InputError):
        list_tree(root, "data")


def test_a_link_that_stays_inside_through_another_link(root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "l").symlink_to("a/b")
    (root / "x").symlink_to("l/../../labels.csv")  # a/b, a, the root
    assert (root / "x").read_text() == "1,cat\n"
    assert "x" in _paths(root)


def test_a_socket_and_a_pipe_are_refused(root: Path) -> None:
    message = f"the data folder holds {root}/x, which is neither a file nor a folder (a socket, a pipe or a device)"
    with chdir(root), socket.socket(socket.AF_UNIX) as opened:
        opened.bind("x")
    with pytest.raises(InputError) as caught:
        hash_tree(root, "data")
    assert str(caught.value) == f"{message}; remove it"
    (root / "x").unlink()
    os.mkfifo(root / "x")
    with pytest.raises(InputError) as caught:
        hash_tree(root, "data")
    assert str(caught.value) == f"{message}; remove it"


def test_a_name_that_is_not_utf8_is_refused(root: Path) -> None:
    (root / "cats" / os.fsdecode(b"\xff.txt")).touch()
    with pytest.raises(InputError) as caught:
        list_tree(root, "data")
    assert str(caught.value) == r"the data folder holds a name that is not UTF-8: b'cats/\xff.txt'; rename it"


@pytest.mark.parametrize("name", ["closed.txt", "closed", "closed/inner/file"])
def test_unreadable_files_are_named(open_folder: Path, name: str) -> None:
    data = open_folder / "data"
    data.mkdir()
    path = data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch() if path.suffix or path.name == "file" else path.mkdir()
    closed = data / name.partition("/")[0]
    closed.chmod(0)
    with unprivileged(), pytest.raises(InputError) as caught:
        hash_tree(data, "data")
    assert str(caught.value) == f"cannot read {closed}: Permission denied; make it readable for you"
    closed.chmod(0o755)


def test_a_folder_below_an_unreadable_one(open_folder: Path) -> None:
    data = open_folder / "closed" / "data"
    data.mkdir(parents=True)
    data.parent.chmod(0)
    with unprivileged(), pytest.raises(InputError) as caught:
        list_tree(data, "data")
    data.parent.chmod(0o755)
    assert str(caught.value) == f"cannot read {data}: Permission denied; make it readable for you"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "the data folder {path} does not exist; name a folder that holds the data"),
        ("labels.csv", "the data folder {path} is not a folder; name a folder that holds the data"),
    ],
)
def test_a_root_that_is_not_a_folder(root: Path, name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        list_tree(root / name, "data")
    assert str(caught.value) == message.format(path=root / name)


def test_folders_nested_deeper_than_pythons_stack(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with chdir(tmp_path / "data"):
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        Path("file").write_text("deep")
    try:
        entry = TreeEntry(path="d/" * 1500 + "file", size=4, digest=Digest.of_bytes(b"deep"))
        assert hash_tree(tmp_path / "data", "data") == Tree(entries=(entry,))
    finally:
        subprocess.run(["rm", "-r", tmp_path / "data"], check=True)  # shutil recurses, too


def test_filter_by_name(root: Path) -> None:
    for name in (".git/config", "cats/.DS_Store", "cats/2.tmp", "notes/todo.md", "cache/a", "x/cache/b"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    plain = ["cats/1.txt", "labels.csv"]
    leave_out = TreeFilter(patterns=("*.tmp", "notes/*", "cache"), hidden=True)
    assert _paths(root, leave_out) == plain
    assert set(_paths(root, TreeFilter(hidden=True))) == {"cache/a", "cats/2.tmp", "notes/todo.md", "x/cache/b", *plain}
    assert _paths(root, TreeFilter(patterns=("[!l]*",))) == ["labels.csv"]
    assert "cats/2.tmp" in _paths(root, TreeFilter(patterns=("*.TMP",)))


def test_excluded_files_are_not_checked(root: Path) -> None:
    (root / ".venv").symlink_to("/nowhere")
    os.mkfifo(root / "pipe")
    assert _paths(root, TreeFilter(patterns=("pipe",), hidden=True)) == ["cats/1.txt", "labels.csv"]


def test_filter_by_folder_identity(root: Path, tmp_path: Path) -> None:
    (root / "again").symlink_to("cats")
    (tmp_path / "other").symlink_to(root / "cats")
    for name in (root / "cats", tmp_path / "other", root / ".." / "data" / "cats"):
        assert _paths(root, TreeFilter(folders=(name,))) == ["labels.csv"]
    assert "cats/1.txt" in _paths(root, TreeFilter(folders=(tmp_path / "absent",)))


def test_filter_by_marker(root: Path) -> None:
    (root / "cats" / "pyvenv.cfg").touch()
    assert _paths(root, TreeFilter(markers=("pyvenv.cfg",))) == ["labels.csv"]
    assert _paths(root, TreeFilter(markers=("other",))) == ["cats/1.txt", "cats/pyvenv.cfg", "labels.csv"]


def test_differing_paths(root: Path) -> None:
    before = hash_tree(root, "data")
    assert differing_paths(before, before) == []
    (root / "labels.csv").write_text("2,cat\n")
    (root / "cats" / "1.txt").unlink()
    (root / "new").touch()
    assert differing_paths(before, hash_tree(root, "data")) == ["cats/", "cats/1.txt", "labels.csv", "new"]
    assert differing_paths(Tree(entries=()), before) == ["cats/1.txt", "labels.csv"]


def test_progress(root: Path) -> None:
    (root / "large").write_bytes(bytes(3_000_000))
    seen: list[tuple[int, int]] = []
    hash_tree(root, "data", progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert len(seen) >= 5  # a large file reports several times
    assert seen[-1] == (3_000_009, 3_000_009)
    assert {total for _, total in seen} == {3_000_009}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{\n", "not JSON: it ends too early"),
        (b"\xff\n", "not JSON: it is not UTF-8"),
        (b'{"path":"a"}\n\n', "not JSON: it is empty"),
        (b'{"size":1}\n', "missing value in 'path'"),
    ],
)
def test_a_broken_manifest(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordError) as caught:
        read_manifest(path)
    assert str(caught.value) == f"cannot read the manifest {path}: {reason}"


def test_an_absent_manifest(tmp_path: Path) -> None:
    path = tmp_path / "absent"
    with pytest.raises(RecordError) as caught:
        read_manifest(path)
    assert str(caught.value) == f"cannot read the manifest {path}: No such file or directory"


def test_many_small_files(tmp_path: Path) -> None:
    for folder in range(20):
        (tmp_path / f"{folder}").mkdir()
        for number in range(1000):
            (tmp_path / f"{folder}" / f"{number}.txt").write_bytes(b"%d" % number)
    started = time.monotonic()
    tree = hash_tree(tmp_path, "data")
    assert time.monotonic() - started < 120
    assert len(tree.entries) == 20_000


LARGE = 1 << 19  # bytes: files from 256 KiB on are hashed by threads


def test_large_files(tmp_path: Path) -> None:
    """Several threads give the tree of one, whatever the sizes, and each changed byte counts."""
    sizes = [LARGE * 5, 1, LARGE, 0, LARGE * 2, LARGE, 7]
    for number, size in enumerate(sizes):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * size)
    seen: list[tuple[int, int]] = []
    found = hash_tree(tmp_path, "data", progress=lambda done, total: seen.append((done, total)))
    assert [(entry.path, entry.size, entry.digest) for entry in found.entries] == [
        (f"{number}.bin", size, Digest.of_bytes(bytes([number]) * size)) for number, size in enumerate(sizes)
    ]
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (sum(sizes), sum(sizes))
    with (tmp_path / "4.bin").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    assert differing_paths(found, hash_tree(tmp_path, "data")) == ["4.bin"]


def test_an_unreadable_large_file_is_named(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (open_folder / f"{number}.bin").write_bytes(bytes(LARGE))
    (open_folder / "2.bin").chmod(0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with (
        unprivileged(),
        pytest.raises(InputError, match=r"cannot read .*2\.bin: Permission denied; make it readable for you"),
    ):
        hash_tree(open_folder, "data")


def test_an_error_waits_for_no_large_file(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends it the same way: the other threads leave their files at once."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    (open_folder / "0.bin").write_bytes(bytes(LARGE))
    (open_folder / "0.bin").chmod(0)
    with (open_folder / "1.bin").open("wb") as file:
        file.truncate(8 << 30)  # holes: seconds to hash, and no room on the disk
    done = [0]
    with unprivileged(), pytest.raises(InputError):
        hash_tree(open_folder, "data", progress=lambda count, _: done.append(count))
    assert done[-1] < 4 << 30
