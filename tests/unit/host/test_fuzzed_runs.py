"""Runs whose files hold anything at all: one line, no traceback, no control character, whatever is in them."""

import copy
import functools
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samebits.core.digest import Digest, with_checksum
from samebits.core.run_dir import RunDir
from support.fake_runner import Played, played

__all__ = ["played"]

COMMANDS = ("list", "show {}", "show {} --json", "audit {}", "diff {} {}", "preflight {}")
_LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True)
    | st.text(max_size=12)
    | st.sampled_from(
        ["../x", "/etc/passwd", "\x1b[2J", "\u202e", "\ud800", "9999-12-31", "sha256:" + "0" * 64, "0x1p+0"]
    )
)
VALUES = st.recursive(
    _LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
_FUZZ = settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
_SLOW = settings(_FUZZ, max_examples=100)
FILES = ("ledger.jsonl", "code.jsonl", "files.jsonl", "checkpoints/0000-000004.json", "image/image.json")


@pytest.fixture
def run(played: Played, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A whole run; `restore` brings it back."""
    trained = played.train("--keep", "all")
    shutil.copytree(trained.path, tmp_path_factory.mktemp("kept") / "run")
    return trained


def paths_of(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there are values in JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, inner in items for path in paths_of(inner, (*here, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    value = copy.deepcopy(value)
    here = value
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = new
    return value


def write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def text_of(value: Any) -> bytes:
    return json.dumps(value).encode()


def sealed(values: Any) -> bytes:
    """With right checksums, where there are any."""
    try:
        values["recipe_digest"] = str(Digest.of_json(values["recipe"]))
        result = values.get("result")
        values["result_digest"] = None if result is None else str(Digest.of_json(result))
        return text_of(with_checksum({name: item for name, item in values.items() if name != "seal"}))
    except (TypeError, ValueError, KeyError, AttributeError):
        return text_of(values)


def check_commands(played: Played, run: RunDir, what: object) -> None:
    for command in COMMANDS:
        done = played.call(*command.replace("{}", run.path.name).split())
        said = f"{command} of {what!r}: {done.status}\n{done.out}\n{done.err}"
        assert done.status in {0, 1, 2, 3}, said
        assert "Traceback" not in done.err, said
        assert "defect of samebits" not in done.err, said
        assert all(letter.isprintable() or letter == "\n" for letter in done.out + done.err), said


def _fuzz_record(played: Played, run: RunDir, data: st.DataObject, original: Any) -> None:
    path = data.draw(st.sampled_from(paths_of(original)))
    new = data.draw(VALUES)
    write(run.record, sealed(changed(original, path, new)))
    check_commands(played, run, (path, new))


@pytest.mark.parametrize("examples", [_FUZZ, pytest.param(_SLOW, marks=pytest.mark.slow)], ids=["few", "many"])
def test_records(played: Played, run: RunDir, examples: settings) -> None:
    original = json.loads(run.record.read_text())
    examples(given(st.data())(lambda data: _fuzz_record(played, run, data, original)))()


def _fuzz_file(played: Played, run: RunDir, name: str, data: st.DataObject, original: bytes) -> None:
    lines = original.splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 1))
    try:
        value = json.loads(lines[at])
        path = data.draw(st.sampled_from(paths_of(value)))
        lines[at] = text_of(changed(value, path, data.draw(VALUES))) + b"\n"
    except ValueError:
        lines[at] = data.draw(st.binary(max_size=20)) + b"\n"
    content = b"".join(lines)
    # The record names some of them, as its sender would have it do.
    values = json.loads(run.record.read_text())
    if name == "files.jsonl":
        values["files"] = str(Digest.of_bytes(content))
    if name == "code.jsonl":
        values["recipe"]["code"]["tree"] = str(Digest.of_bytes(content))
    write(run.record, sealed(values))
    write(run.path / name, content)
    check_commands(played, run, content)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("examples", [_FUZZ, pytest.param(_SLOW, marks=pytest.mark.slow)], ids=["few", "many"])
def test_files(played: Played, run: RunDir, name: str, examples: settings) -> None:
    original = (run.path / name).read_bytes()
    examples(given(st.data())(lambda data: _fuzz_file(played, run, name, data, original)))()


@pytest.mark.slow
def test_for_twenty_minutes(played: Played, run: RunDir) -> None:
    """All of it in turn, with other examples each time."""
    deadline = time.monotonic() + float(os.environ.get("SAMEBITS_FUZZ_SECONDS", "1200"))
    record = run.record.read_bytes()
    originals = {name: (run.path / name).read_bytes() for name in FILES}
    some = settings(_FUZZ, max_examples=25, database=None)
    for name in itertools.cycle(("record.json", *FILES)):
        if time.monotonic() > deadline:
            return
        restore(run, record, originals)
        if name == "record.json":
            fuzz = functools.partial(_fuzz_record, played, run, original=json.loads(record))
        else:
            fuzz = functools.partial(_fuzz_file, played, run, name, original=originals[name])
        some(given(st.data())(_called(fuzz)))()


def _called(fuzz: Callable[..., None]) -> Callable[[st.DataObject], None]:
    return lambda data: fuzz(data=data)


def restore(run: RunDir, record: bytes, originals: dict[str, bytes]) -> None:
    write(run.record, record)
    for name, content in originals.items():
        write(run.path / name, content)


@_FUZZ
@given(content=st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace")))
def test_projects(played: Played, content: bytes) -> None:
    """A `samebits.toml` of anything."""
    (played.project.folder / "samebits.toml").write_bytes(content)
    for words in (("list",), ("train", "train.py", "--data", "nowhere")):
        done = played.call(*words)
        assert done.status in {0, 2}
        assert "Traceback" not in done.err, done.err
        assert all(letter.isprintable() or letter == "\n" for letter in done.out + done.err), done.err
