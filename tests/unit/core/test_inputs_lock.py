"""The lock of inputs: what it may hold, what its digest covers, and one line for what is wrong in it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.code_tree import hash_code
from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError
from samebits.core.file_tree import hash_tree
from samebits.core.inputs_lock import InputsLock, PinnedFile, parse_lock, read_lock
from samebits.core.recipe import ImageIdentity
from samebits.core.run_config import make_config
from samebits.core.run_setup import RunSetup, plan_run, publish

_ONE = Digest.of_bytes(b"one")
_FILE = PinnedFile(path="home/.keras/datasets/a.npz", digest=_ONE, size=3, url="https://example.com/a.npz")
_LOCK = InputsLock.of([_FILE, PinnedFile(path="home/.cache/ü", digest=Digest.of_bytes(b""), size=0)])
_SETUP = RunSetup(image=ImageIdentity(lock=_ONE, source=_ONE))


def test_it_comes_back_sorted_and_with_one_line_for_each_file() -> None:
    assert parse_lock(_LOCK.content, "inputs.lock") == _LOCK
    assert [file.path for file in _LOCK.files] == ["home/.cache/ü", "home/.keras/datasets/a.npz"]
    lines = _LOCK.content.decode().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[0]) == {"format": "samebits.inputs", "version": "1.0"}
    assert json.loads(lines[2]) == {"path": _FILE.path, "sha256": _ONE.hex, "size": 3, "url": _FILE.url}


@pytest.mark.parametrize(
    ("changed", "counts"),
    [
        ({"path": "home/.keras/datasets/b.npz"}, True),
        ({"digest": Digest.of_bytes(b"two")}, True),
        ({"size": 4}, True),
        ({"url": "https://mirror.example.org/a.npz"}, False),
        ({"url": None}, False),
    ],
)
def test_the_digest_covers_paths_sizes_and_contents(changed: dict[str, object], counts: bool) -> None:
    other = InputsLock.of([replace(_FILE, **changed)])  # type: ignore[arg-type]
    assert (other.digest != InputsLock.of([_FILE]).digest) == counts


def test_the_digest_is_that_of_the_folder_with_the_files(tmp_path: Path) -> None:
    for file, content in zip(_LOCK.files, (b"", b"one"), strict=True):
        path = tmp_path / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert hash_tree(tmp_path, "inputs").digest == _LOCK.digest


@pytest.mark.parametrize(
    "path",
    ["", "home", "home/", "/home/a", "a", "work/../a", "work/./a", "work//a", "home/a\nb", "home/a\0", "other/a"],
)
def test_paths_stay_in_the_two_folders(path: str) -> None:
    line = json.dumps({"path": path, "sha256": _ONE.hex, "size": 3})
    content = _LOCK.content.splitlines()[0] + b"\n" + line.encode()
    with pytest.raises(InputError, match=r"^inputs\.lock, line 2: 'path': [^\n]*$"):
        parse_lock(content, "inputs.lock")


_HEAD = '{"format": "samebits.inputs", "version": "1.0"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: not JSON: it is empty"),
        ("no JSON\n", "line 1: not JSON: column 1 cannot be read"),
        ('{"format": "x", "version": "1.0"}\n', "line 1: 'format' is 'x'"),
        ('{"format": "samebits.inputs", "version": "2.0"}\n', "line 1: inputs version 2.0 is newer"),
        (_HEAD + '{"path": "home/a", "sha256": "12", "size": 3}\n', "line 2: 'sha256': not a digest"),
        (_HEAD + f'{{"path": "home/a", "sha256": "{_ONE.hex}"}}\n', "line 2: missing value in 'size'"),
        (_HEAD + f'{{"path": "home/a", "sha256": "{_ONE.hex}", "size": -1}}\n', "line 2: 'size' must not be negative"),
        (
            _HEAD + f'{{"path": "home/a", "sha256": "{_ONE.hex}", "size": 1, "url": "file:///etc/passwd"}}\n',
            "line 2: 'url' must begin with http",
        ),
        (
            _HEAD + f'{{"path": "home/a", "sha256": "{_ONE.hex}", "size": 1, "url": "https://me:secret@a.org/"}}\n',
            "line 2: 'url' must begin with http",
        ),
        (_HEAD + 2 * f'{{"path": "home/a", "sha256": "{_ONE.hex}", "size": 1}}\n', ": two files have the path"),
        (
            _HEAD + "".join(f'{{"path": "home/{name}", "sha256": "{_ONE.hex}", "size": 1}}\n' for name in ("a", "a/b")),
            ": 'home/a' is a file, and the folder of",
        ),
    ],
)
def test_what_is_wrong_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "inputs.lock"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        read_lock(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "inputs.lock")
    with pytest.raises(InputError, match="it is a pipe; remove it"):
        read_lock(tmp_path / "inputs.lock")


def _project(folder: Path) -> Path:
    script = folder / "code" / "train.py"
    script.parent.mkdir()
    script.write_text("pass\n")
    return script


def test_the_lock_is_part_of_the_recipe_and_not_of_the_code(tmp_path: Path) -> None:
    script = _project(tmp_path)
    options = {"script": script, "runs": tmp_path / "runs"}
    without = plan_run(make_config(options), _SETUP)
    (script.parent / "data").mkdir()
    (script.parent / "data" / "b.csv").write_text("1\n")
    lock = InputsLock.of([_FILE, PinnedFile(path="work/data/b.csv", digest=_ONE, size=2)])
    lock.write(script.parent / "inputs.lock")
    planned = plan_run(make_config(options), _SETUP)
    assert [entry.path for entry in planned.code.entries] == ["train.py"]
    assert (without.recipe.inputs, planned.recipe.inputs) == (None, lock.digest)
    folder, _ = publish(planned)
    assert read_lock(folder.inputs) == lock


def test_an_empty_lock_is_none(tmp_path: Path) -> None:
    script = _project(tmp_path)
    InputsLock.of([]).write(script.parent / "inputs.lock")
    assert make_config({"script": script}).inputs is None


@pytest.mark.parametrize(("declared", "path"), [("data/a.csv", "work/data/a.csv"), ("~/.keras/a", "home/.keras/a")])
def test_declared_inputs_must_be_in_the_lock(declared: str, path: str, tmp_path: Path) -> None:
    script = _project(tmp_path)
    (script.parent / "samebits.toml").write_text(
        f'[[inputs]]\nurl = "https://example.com/a"\nsha256 = "{_ONE.hex}"\npath = "{declared}"\n'
    )
    with pytest.raises(InputError, match=r"declares the input .*; run `samebits fetch`$"):
        make_config({"script": script})
    InputsLock.of([PinnedFile(path=path, digest=Digest.of_bytes(b"two"), size=3)]).write(script.parent / "inputs.lock")
    with pytest.raises(InputError, match=r"does not hold with that sha256"):
        make_config({"script": script})
    InputsLock.of([PinnedFile(path=path, digest=_ONE, size=3)]).write(script.parent / "inputs.lock")
    assert make_config({"script": script}).inputs == script.parent / "inputs.lock"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('url = "https://a.org/"\nsha256 = "12"\npath = "a"', "not a digest"),
        (f'sha256 = "{_ONE.hex}"\npath = "a"', "missing value in 'inputs[0].url'"),
        (f'url = "https://a.org/"\nsha256 = "{_ONE.hex}"\npath = "../a"', "a path is home"),
        (f'url = "https://a.org/"\nsha256 = "{_ONE.hex}"\npath = "a"\nmd5 = "1"', "unknown key 'inputs[0].md5'"),
    ],
)
def test_declared_inputs_are_checked(table: str, message: str, tmp_path: Path) -> None:
    script = _project(tmp_path)
    (script.parent / "samebits.toml").write_text(f"[[inputs]]\n{table}\n")
    with pytest.raises(InputError) as error:
        make_config({"script": script})
    assert message in str(error.value)


def test_a_lock_in_a_folder_below_is_code(tmp_path: Path) -> None:
    script = _project(tmp_path)
    (script.parent / "other").mkdir()
    for folder in (script.parent, script.parent / "other"):
        _LOCK.write(folder / "inputs.lock")
    tree = hash_code(make_config({"script": script}))
    assert [entry.path for entry in tree.entries] == ["other/inputs.lock", "train.py"]


def test_two_locks_of_one_path_are_refused() -> None:
    with pytest.raises(RecordError, match="two files"):
        InputsLock.of([_FILE, _FILE])
