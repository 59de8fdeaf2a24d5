"""What a script reads that no recipe names, seen by the audit hook: in a process of its own, as a hook stays."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_WATCH = """
import json, os, sys
from pathlib import Path
from samebits.core.errors import SettingError
from samebits.core.record import FAILED, Outcome
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism import unpinned
from samebits.runner.determinism.unpinned import UnpinnedMonitor

code, allowed, files, strict = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "files", sys.argv[4] == "strict"
def stop(message):
    raise SettingError(message)
monitor = UnpinnedMonitor(code, (allowed, None), files=files, stop=stop if strict else None)
unpinned.watch_library_reads = lambda note, patches: None
outcome = Outcome(state="finished")
with Patches() as patches:
    monitor.install(patches)
    os.chdir(code)
    path = code / "train.py"
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), {"__name__": "__main__"})
    except OSError as error:
        outcome = Outcome(state=FAILED, message=str(error), exit_status=1)
    except SettingError as error:
        outcome = Outcome(state=FAILED, message=f"strict: {error}")
    explained = monitor.explained(outcome, lambda _: "run `samebits fetch train.py` once", {"key": "battery"})
    Path(sys.argv[2], "..", "outside", "late.txt").read_text()
Path(sys.argv[2], "..", "outside", "late.txt").read_text()
uses = [use.to_dict() for use in monitor.found() or ()]
print(json.dumps([uses, explained.message, dict(monitor.written()), sorted(monitor.descriptors())]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("code", "allowed", "outside"):
        (tmp_path / name).mkdir()
    for name in ("a.csv", "b.csv", "late.txt"):
        (tmp_path / "outside" / name).write_text("1")
    (tmp_path / "allowed" / "c.csv").write_text("2")
    return tmp_path


def _watched(
    folder: Path, script: str, files: str = "files", strict: str = ""
) -> tuple[list[dict[str, Any]], str, str]:
    uses, message, *_, printed = _all_watched(folder, script, files, strict)
    return uses, message, printed


def _all_watched(
    folder: Path, script: str, files: str = "files", strict: str = ""
) -> tuple[list[dict[str, Any]], str, dict[str, int], list[str], str]:
    (folder / "code" / "train.py").write_text(script.format(outside=folder / "outside", allowed=folder / "allowed"))
    command = [sys.executable, "-c", _WATCH, str(folder / "code"), str(folder / "allowed"), files, strict]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return *json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_what_is_written_elsewhere_is_counted(folder: Path) -> None:
    """Each opening for writing, also for updates; not in the script's own folders."""
    script = """
for mode in ("w", "a", "r+", "r"):
    open("{outside}/new.txt", mode).close()
open("{allowed}/mine.txt", "w").close()
open("beside.txt", "w").close()
"""
    assert _all_watched(folder, script)[2] == {str(folder / "outside" / "new.txt"): 3}


@pytest.mark.parametrize("files", ["files", ""])
def test_descriptors_are_those_of_others(files: str, folder: Path) -> None:
    """Neither those of Python's own files, nor those of samebits; of many, only those that are open."""
    script = """
import os
from pathlib import Path
from samebits.core.run_files import open_plain
open("{allowed}/c.csv").close()
kept = os.open("{outside}/b.csv", os.O_RDONLY)
for number in range(1000):
    with open(f"{allowed}/{{number}}", "w", opener=os.open): pass
open_plain(Path("{allowed}/c.csv")).close()
last = os.open("{outside}/a.csv", os.O_RDONLY)
"""
    found = _all_watched(folder, script, files)[3]
    assert found[-2:] == [str(folder / "outside" / name) for name in ("a.csv", "b.csv")]
    assert len(found) < 10
    assert not any(path.endswith("c.csv") for path in found)


def _short(uses: list[dict[str, Any]], folder: Path) -> list[tuple[int, str, str, int]]:
    prefix = f"{folder}/"
    return [(use["line"], use["kind"], use["what"].removeprefix(prefix), use["times"]) for use in uses]


def test_files_and_folders_outside_are_named_with_their_place(folder: Path) -> None:
    script = """import os, pathlib, sqlite3
for name in ("a.csv", "b.csv"):
    open("{outside}/" + name).read()
pathlib.Path("{outside}/a.csv").read_bytes()
os.close(os.open("{outside}/a.csv", os.O_RDONLY))
os.listdir("{outside}")
list(os.scandir(b"{outside}"))
os.symlink("{outside}/a.csv", "link.csv")
open("link.csv").read()
open("{allowed}/../outside/a.csv").read()
"""
    uses, _, err = _watched(folder, script)
    assert _short(uses, folder) == [
        (3, "file", "outside/a.csv", 2),
        (4, "file", "outside/a.csv", 1),
        (5, "file", "outside/a.csv", 1),
        (6, "folder", "outside", 1),
        (7, "folder", "outside", 1),
        (9, "file", "code/link.csv", 1),
        (10, "file", "outside/a.csv", 1),
    ]
    assert uses[0]["call"].startswith('open("')
    assert err.count("which no recipe names") == 7


def test_what_belongs_to_the_run_or_the_system_is_not_named(folder: Path) -> None:
    script = """import json, os, sys, tempfile, email.mime.text
open("{allowed}/c.csv").read()
open("train.py").read()
open("made.txt", "w").write("x")
open("made.txt").read()
os.listdir(".")
os.listdir()
open("{outside}/own.txt", "w").write("x")
open("{outside}/own.txt").read()
os.makedirs("{outside}/mine/deep")
os.listdir("{outside}/mine/deep")
open("/etc/hosts").read()
open("/proc/self/status").read()
os.listdir(sys.prefix)
try:
    open("{outside}/nothing.txt")
except FileNotFoundError:
    pass
"""
    assert _watched(folder, script)[0] == []


def test_connections_are_named_by_their_host(folder: Path) -> None:
    script = """import socket, urllib.request
for port in (9, 9):
    try:
        socket.create_connection(("127.0.0.1", port), 1)
    except OSError:
        pass
try:
    socket.socket().connect(("127.0.0.1", 8))
except OSError:
    pass
socket.getaddrinfo("localhost", None)
left, right = socket.socketpair()
"""
    uses, _, _ = _watched(folder, script)
    assert _short(uses, folder) == [(4, "connection", "127.0.0.1:9", 2), (8, "connection", "127.0.0.1:8", 1)]


@pytest.mark.parametrize(
    "call", ['open("{outside}/a.csv")', 'os.listdir("{outside}")', 'socket.create_connection(("127.0.0.1", 9), 1)']
)
def test_strict_makes_each_an_error(call: str, folder: Path) -> None:
    _, message, _ = _watched(folder, f"import os, socket\n{call}\nopen('done.txt', 'w')\n", strict="strict")
    assert message.startswith("strict: train.py:2: ")
    assert "and the run is strict" in message
    assert not (folder / "code" / "done.txt").exists()


def test_a_container_names_what_the_script_asks_the_network_for(folder: Path) -> None:
    script = """import urllib.request
open("{outside}/a.csv").read()
urllib.request.urlopen("http://127.0.0.1:9/data.csv")
"""
    uses, message, err = _watched(folder, script, files="")
    assert uses == []
    assert message == (
        'train.py:3: urllib.request.urlopen("http://127.0.0.1:9/data.csv") asks the network for'
        " http://127.0.0.1:9/data.csv, and a run has none; run `samebits fetch train.py` once"
    )
    assert err.splitlines() == [f"samebits: {message}"]


def test_a_redacted_value_in_a_url_is_not_named(folder: Path) -> None:
    script = """import urllib.request
key = "-".join(("bat" + "tery", "1"))
urllib.request.urlopen("http://127.0.0.1:9/data.csv?key=" + key)
"""
    _, message, err = _watched(folder, script, files="")
    assert " asks the network for http://127.0.0.1:9/data.csv?key=[redacted]-1, and a run has none;" in message
    assert "battery" not in message + err


def test_another_error_in_a_container_stays(folder: Path) -> None:
    _, message, _ = _watched(folder, "open('nothing')\n", files="")
    assert "No such file" in message


def test_a_working_folder_that_is_gone_is_the_scripts_own_matter(folder: Path) -> None:
    script = """import os, shutil
os.mkdir("{allowed}/gone")
os.chdir("{allowed}/gone")
os.rmdir("{allowed}/gone")
descriptor = os.open("{allowed}", os.O_RDONLY)
os.close(os.open("c.csv", os.O_RDONLY, dir_fd=descriptor))
try:
    open("nothing\\0")
except ValueError:
    pass
os.chdir("/")
"""
    uses, message, _ = _watched(folder, script)
    assert uses == []
    assert not message
