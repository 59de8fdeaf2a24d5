"""A record names no home folder, and so no user."""

from pathlib import Path

import pytest

from samebits.core.home_path import recorded_path, without_home
from samebits.core.origin import Origin
from samebits.core.record import FAILED, Outcome
from samebits.core.script_uses import FILE, UnpinnedUse


@pytest.mark.parametrize(
    ("home", "path", "text"),
    [
        ("/home/ada", "/home/ada/work/train.py", "~/work/train.py"),
        ("/home/ada", "/home/ada", "~"),
        ("/home/ada", "/home/adam/train.py", "/home/adam/train.py"),
        ("/home/ada", "/srv/data", "/srv/data"),
        # A service's home.
        ("/", "/srv/data", "/srv/data"),
        ("nowhere", "/srv/nowhere/data", "/srv/nowhere/data"),
    ],
)
def test_the_home_folder(home: str, path: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    assert recorded_path(Path(path)) == text


def test_bytes_that_are_no_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert recorded_path(Path("/home/ada/\udcff")) == "~/\\xff"


@pytest.mark.parametrize(
    ("data", "folder"),
    [
        ("~/data", "/home/bob/data"),
        ("/srv/data", "/srv/data"),
        # Of no other user.
        ("~root/data", "~root/data"),
        (None, None),
    ],
)
def test_where_the_data_is(data: str | None, folder: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the home of who asks: that of who trained is recorded nowhere."""
    monkeypatch.setenv("HOME", "/home/bob")
    assert Origin(script="x", data=data).data_folder == folder


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('File "/home/ada/runs/1/work/train.py", line 1', 'File "~/runs/1/work/train.py", line 1'),
        ("/home/ada", "~"),
        ("a /home/ada/x:/home/ada/y", "a ~/x:~/y"),
        ("/home/adam/x /mnt/home/ada/x", "/home/adam/x /mnt/home/ada/x"),
        ("nothing", "nothing"),
    ],
)
def test_homes_in_a_text(text: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert without_home(text) == found


def test_what_a_record_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    outcome = Outcome(state=FAILED, message="no /home/ada/x", traceback='File "/home/ada/x"').to_dict()
    use = UnpinnedUse(path="train.py", line=1, call="open", kind=FILE, what="/home/ada/x", times=1).to_dict()
    assert "/home/ada" not in repr((outcome, use))
