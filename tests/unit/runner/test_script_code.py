"""What the code of a script's modules uses, also where a module has no source that Python can compile."""

import sys
import types
import warnings
from pathlib import Path

import pytest

from samebits.runner.checkpoint.process_state import script_code
from samebits.runner.checkpoint.process_state.open_descriptors import LISTED
from samebits.runner.checkpoint.process_state.script_code import names_used, text_used

_NAMES = frozenset({"nice"})


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the only module of the script besides `__main__`."""
    monkeypatch.setitem(sys.modules, "__main__", _module(tmp_path / "train"))
    (tmp_path / "train").write_text("x = 1\n")
    return tmp_path


def _module(path: Path) -> types.ModuleType:
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    return module


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("own.py", b"x = 1\n", False),
        ("own.py", b"def f(os):\n    return lambda: os.nice(1)\n", True),
        ("own.py", b"x = '\\d'\n", False),
        ("own.py", b"x = '\0'\n", True),
        ("own.py", b"x = (\n", True),
        ("own.so", b"\x7fELF\0", True),
        ("own.pyc", b"\0", True),
        ("own.py", None, True),
    ],
)
def test_a_module_that_cannot_be_read_may_use_every_name(
    script: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None, expected: bool
) -> None:
    monkeypatch.setitem(sys.modules, "own", _module(script / name))
    if content is not None:
        (script / name).write_bytes(content)
    with warnings.catch_warnings(action="error"):
        assert names_used(_NAMES, str(script)) == (_NAMES if expected else frozenset())


def test_a_module_is_compiled_once(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "own", _module(script / "own.py"))
    (script / "own.py").write_text("x = 1\n")
    before = script_code._compiled.cache_info().misses
    for _ in range(3):
        assert not names_used(_NAMES, str(script))
    assert script_code._compiled.cache_info().misses == before + 2
    (script / "own.py").write_text("import os\nos.nice(1)\n")
    assert names_used(_NAMES | {"other"}, str(script)) == _NAMES


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"def f(os):\n    return lambda: os.listdir('/proc/self/fd')\n", True),
        (b"x = f'/proc/{1}/fd'\n", True),
        (b"x = 'fd', 1, None\n", False),
        (b"x = 'data/fd_train.csv'\n", False),
        (b"x = '\0'\n", True),
    ],
)
def test_a_text_of_the_script_is_found(
    content: bytes, expected: bool, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "own", _module(script / "own.py"))
    (script / "own.py").write_bytes(content)
    assert text_used(LISTED, str(script)) == expected
