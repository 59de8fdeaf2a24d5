"""Canonical JSON, exact floats, typed reading, atomic writes."""

import json
import math
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.core.errors import RecordError, StorageError
from samebits.core.jsonio import (
    Fields,
    canonical_json,
    check_version,
    exact_float,
    parse_digits,
    parse_json,
    readable_json,
    write_all,
    write_atomically,
)
from support.machine import on_small_disk, unprivileged

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_JSON = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": {"d": None, "c": True}}, b'{"a":{"c":true,"d":null},"b":1}'),
        ({"z": 1, "é": 2, "B": 3}, '{"B":3,"z":1,"é":2}'.encode()),
        ('\u2028\x00"\\', b'"\xe2\x80\xa8\\u0000\\"\\\\"'),
        ([1, 1.0, -0.0, 1e100, 0.1], b"[1,1.0,-0.0,1e+100,0.1]"),
        ((), b"[]"),
    ],
)
def test_canonical_json(value: object, text: bytes) -> None:
    assert canonical_json(value) == text


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": -math.inf}])
def test_nan_and_infinity_are_refused(value: object) -> None:
    for write in (canonical_json, readable_json):
        with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
            write(value)


@settings(deadline=None)
@given(_JSON)
def test_json_round_trip(value: object) -> None:
    assert json.loads(canonical_json(value)) == value
    assert canonical_json(json.loads(readable_json(value))) == canonical_json(value)


@settings(deadline=None)
@given(st.dictionaries(st.text(), _SCALARS))
def test_insertion_order_does_not_count(values: dict[str, object]) -> None:
    assert canonical_json(dict(reversed(values.items()))) == canonical_json(values)


def test_readable_json() -> None:
    assert readable_json({"b": [1], "a": "ü"}) == '{\n "a": "ü",\n "b": [\n  1\n ]\n}\n'.encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0x1.999999999999ap-4"),
        (-0.0, "-0x0.0p+0"),
        (5e-324, "0x0.0000000000001p-1022"),
        (3, "0x1.8000000000000p+1"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_exact_float(value: float, text: str) -> None:
    assert exact_float(value) == text


@settings(deadline=None)
@given(st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, math.inf]))
def test_no_bit_of_a_float_is_lost(value: float) -> None:
    assert struct.pack("<d", float.fromhex(exact_float(value))) == struct.pack("<d", value)


@settings(deadline=None)
@given(st.floats(allow_subnormal=True, min_value=-2.3e-308, max_value=2.3e-308))
def test_no_bit_of_a_tiny_float_is_lost(value: float) -> None:
    assert struct.pack("<d", float.fromhex(exact_float(value))) == struct.pack("<d", value)


@settings(deadline=None)
@given(st.integers(1, 2**52 - 1), st.booleans())
def test_nan_round_trips(payload: int, negative: bool) -> None:
    """The payload is lost: every NaN is written `nan`."""
    value = struct.unpack("<d", struct.pack("<Q", (int(negative) << 63) | (0x7FF << 52) | payload))[0]
    assert exact_float(value) == "nan"
    assert math.isnan(float.fromhex(exact_float(value)))


@settings(deadline=None)
@given(_JSON)
def test_canonical_json_is_unique(value: object) -> None:
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text
    assert b"\n" not in text  # a line of a ledger is one line


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ({}, int, "missing value in 'run.x'"),
        ({"x": None}, str, "missing value in 'run.x'"),
        ({"x": "1"}, int, "'run.x' must be int, not '1'"),
        ({"x": True}, int, "'run.x' must be int, not True"),
        ({"x": False}, float, "'run.x' must be float, not False"),
        ({"x": 1.0}, int, "'run.x' must be int, not 1.0"),
        ({"x": 1}, str, "'run.x' must be str, not 1"),
        ({"x": 1}, bool, "'run.x' must be bool, not 1"),
        ({"x": [1]}, dict, "'run.x' must be dict, not [1]"),
    ],
)
def test_fields_of_the_wrong_type(value: object, kind: type, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        Fields(value, "run").get("x", kind)
    assert str(caught.value) == message


def test_fields_of_the_right_type() -> None:
    fields = Fields({"i": 1, "f": 2, "b": False, "s": "", "l": ["a", "b"], "o": {"p": {"q": 1}}, "n": None})
    assert fields.names() == set("ifbslon")
    assert (fields.get("i", int), fields.get("b", bool), fields.get("s", str)) == (1, False, "")
    assert type(fields.get("f", float)) is float
    assert fields.optional("n", str) is None
    assert fields.texts("l") == ("a", "b")
    assert fields.texts("absent") == ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"o": {"p": {"q": "1"}}}, "'o.p.q' must be int, not '1'"),
        ({"o": {"p": {}}}, "missing value in 'o.p.q'"),
        ({"o": {"p": 1}}, "'o.p' must be dict, not 1"),
        ({"o": {}}, "missing value in 'o.p'"),
        ([], "the file must hold an object, not list"),
    ],
)
def test_errors_name_the_path(value: object, message: str) -> None:
    with pytest.raises(RecordError) as caught:
        Fields(value).inner("o").inner("p").get("q", int)
    assert str(caught.value) == message


def test_a_list_with_other_values_than_strings() -> None:
    with pytest.raises(RecordError, match=r"^'o\.l\[1\]' must be str, not 2$"):
        Fields({"l": ["a", 2]}, "o").texts("l")


@pytest.mark.parametrize("mode", [0o644, 0o444, 0o600])
def test_a_written_file(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o400)
    umask = os.umask(0o077)
    try:
        write_atomically(path, b"new\0", mode=mode)
    finally:
        os.umask(umask)
    assert path.read_bytes() == b"new\0"
    assert path.stat().st_mode & 0o7777 == mode
    assert os.listdir(tmp_path) == ["file"]


def test_readers_keep_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"new")
        assert reader.read() == b"old"


@pytest.mark.parametrize(
    ("name", "reason"), [("absent/file", "No such file or directory"), ("folder", "Is a directory")]
)
def test_a_file_that_cannot_be_written(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    with pytest.raises(StorageError) as caught:
        write_atomically(path, b"new")
    assert str(caught.value) == f"cannot write {path}: {reason}; choose a folder that you may write to"
    assert os.listdir(tmp_path) == ["folder"]


def test_a_read_only_folder(open_folder: Path) -> None:
    path = open_folder / "file"
    path.write_bytes(b"old")
    open_folder.chmod(0o555)
    with unprivileged(), pytest.raises(StorageError) as caught:
        write_atomically(path, b"new")
    assert str(caught.value) == f"cannot write {path}: Permission denied; choose a folder that you may write to"
    open_folder.chmod(0o755)
    assert path.read_bytes() == b"old"
    assert os.listdir(open_folder) == ["file"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    code = """
import os
from pathlib import Path
from samebits.core.jsonio import write_atomically
from samebits.core.errors import StorageError
for size in (20_000, 100_000):
    try:
        write_atomically(Path("file"), bytes(size))
    except StorageError as error:
        print(error)
    print(Path("file").read_bytes() == bytes(20_000), os.listdir())
"""
    assert on_small_disk(code, tmp_path) == [
        "True ['file']",
        "the disk is full: cannot write file; free some space and run again",
        "True ['file']",
    ]


_SIZES = (0, 1, 4097, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (4 << 20) + 4095, (9 << 20) + 5)


@pytest.mark.parametrize("folder", [None, Path("/dev/shm")], ids=["disk", "memory"])
def test_direct_writes(tmp_path: Path, folder: Path | None) -> None:
    """Also on a file system without O_DIRECT."""
    with tempfile.TemporaryDirectory(dir=folder or tmp_path) as place:
        contents = {Path(place) / str(size): os.urandom(size) for size in _SIZES}
        write_all(contents)
        assert {path: path.read_bytes() for path in Path(place).iterdir()} == contents
        assert {path.stat().st_mode & 0o777 for path in contents} == {0o444}


_TOO_LARGE = """
import resource, sys
from pathlib import Path
from samebits.core.jsonio import write_all
resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
folder = Path(sys.argv[1])
write_all({folder / "small": b"1", folder / "large": bytes(3 << 20)})
"""


def test_a_large_file_on_a_full_disk(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TOO_LARGE, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert "StorageError: cannot write " in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("12", 12), ("9" * 18, 10**18 - 1), ("9" * 5000, None), ("\u0661", None), ("", None)]
)
def test_digits_of_any_number(text: str, number: int | None) -> None:
    assert parse_digits(text) == number


@pytest.mark.parametrize("version", ["9" * 5000 + ".0", "1." + "9" * 5000, "\u0661.\u0668", "1.2.3", "1", ""])
def test_no_version(version: str) -> None:
    with pytest.raises(RecordError) as error:
        check_version(Fields({"format": "samebits.run", "version": version}), "samebits.run", "1.8")
    assert len(str(error.value)) < 100


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b" \n\n", "it is empty"),
        (b"\xff", "it is not UTF-8"),
        (b'{"a": ', "it ends too early"),
        (b'{"a": "b\n', "it ends too early"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b"9" * 5000, "a number has too many digits"),
        (b'{"a": 1} x', "column 10 cannot be read"),
        (b'{\n "a" 1\n}', "line 2, column 6 cannot be read"),
        (b'[{"a": 1, "b": {"a": 1}, "a": 1}]', "the key 'a' is there twice"),
    ],
)
def test_broken_json_is_reported_in_our_words(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^not JSON: {reason}$"):
        parse_json(content)
