"""The locks: made from their .in files, every pin by hash, and complete for the Pythons that we promise."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from samebits.host.image import wheelhouse
from support.command import ROOT

_LOCKS = sorted(ROOT.glob("requirements*.lock"))
_PLATFORMS = [word for flag, word in pairwise(wheelhouse._download_command(ROOT)) if flag == "--platform"]
_PLACE = re.compile(r"\w+://| @ |-r \S*/|--(?!hash=sha256:)")


@dataclass
class Pin:
    """One package of a lock, its hashes, and what it was asked for by."""

    version: str
    hashes: set[str] = field(default_factory=set)
    via: set[str] = field(default_factory=set)


def _pins(lock: str) -> dict[str, Pin]:
    """A lock's pins by name; fails for a line that is neither pin, hash nor comment."""
    pins: dict[str, Pin] = {}
    last = Pin("")
    for line in lock.splitlines():
        if match := re.fullmatch(r"([a-z0-9-]+)==(\S+) \\", line):
            last = pins[match[1]] = Pin(match[2])
        elif match := re.fullmatch(r"    --hash=sha256:([0-9a-f]{64})(?: \\)?", line):
            last.hashes.add(match[1])
        elif match := re.fullmatch(r"    #(?: via|  ) +(\S.*)", line):
            last.via.add(match[1])
        else:
            assert line.strip() in ("", "# via") or line.startswith("#"), f"what is {line!r}?"
    return pins


def disagreements(asked: str, lock: str, name: str) -> list[str]:
    """How a lock differs from the .in file `name` that it was made from."""
    pins = _pins(lock)
    wanted = [Requirement(line) for line in (line.partition("#")[0].strip() for line in asked.splitlines()) if line]
    found = []
    for requirement in wanted:
        pin = pins.get(canonicalize_name(requirement.name))
        if pin is None:
            found.append(f"{requirement.name} is not locked")
        elif not requirement.specifier.contains(pin.version):
            found.append(f"{requirement} is locked as {pin.version}")
    named = {package for package, pin in pins.items() if f"-r {name}" in pin.via}
    names = {canonicalize_name(requirement.name) for requirement in wanted}
    return found + [f"{package} is locked, and not asked for" for package in sorted(named - names)]


def test_there_are_locks() -> None:
    names = {path.stem for path in ROOT.glob("requirements*.in")}
    assert {"requirements", "requirements-dev", "requirements-gpu"} <= names == {path.stem for path in _LOCKS}


@pytest.mark.parametrize("path", _LOCKS, ids=lambda path: path.name)
class TestLock:
    def test_agrees_with_what_was_asked_for(self, path: Path) -> None:
        asked = path.with_suffix(".in")
        assert disagreements(asked.read_text(), path.read_text(), asked.name) == []

    def test_every_pin_has_hashes(self, path: Path) -> None:
        pins = _pins(path.read_text())
        assert len(pins) > 20
        assert [name for name, pin in pins.items() if not pin.hashes] == []

    def test_says_how_it_is_made(self, path: Path) -> None:
        header = path.read_text().partition("\n\n")[0].splitlines()[:6]
        assert "#    make lock" in header
        assert re.search(r"^lock:", (ROOT / "Makefile").read_text(), re.MULTILINE)

    def test_names_no_place(self, path: Path) -> None:
        """Neither an index nor a file of the machine that made it."""
        assert _PLACE.findall(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://example.org/simple",
        "--extra-index-url=x",
        "--find-links wheels",
        "--trusted-host x",
        "six @ file:///wheels/six.whl",
        "    # via -r /home/ada/requirements.in",
        "    --hash=md5:00",
    ],
)
def test_a_place_is_found(line: str) -> None:
    assert _PLACE.search(f"six==1.17.0 \\\n{line}\n")


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ("tensorflow-cpu==2.20.0", "tensorflow-cpu==2.20.0 is locked as 2.21.0"),
        ("numpy<2", "numpy<2 is locked as 2.4.6"),
        ("made-up", "made-up is not locked"),
        ("", "keras is locked, and not asked for"),
    ],
)
def test_a_changed_in_file_is_found(asked: str, complaint: str) -> None:
    lines = (ROOT / "requirements.in").read_text().splitlines()
    name = re.split("[<=]", asked)[0] or "keras"
    changed = "\n".join([*(line for line in lines if not line.startswith(name)), asked])
    assert disagreements(changed, (ROOT / "requirements.lock").read_text(), "requirements.in") == [complaint]


def _resolve(lock: str, python: str, folder: Path) -> list[str]:
    """What is wrong with the wheels that pip finds for a lock; it reads what the index says, and downloads none.

    With hashes in its input pip would download every wheel; so it is given bare pins, and what it chose is compared.
    """
    pins = _pins(lock)
    bare = folder / "bare.txt"
    bare.write_text("".join(f"{name}=={pin.version}\n" for name, pin in pins.items()))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"),
            *("--disable-pip-version-check", "--only-binary", ":all:", "--implementation", "cp"),
            *("--python-version", python, "--abi", f"cp{python}", "--abi", "abi3", "--abi", "none"),
            *(word for name in _PLATFORMS for word in ("--platform", name)),
            *("--target", str(folder / "target"), "--report", "-", "-r", str(bare)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")][-1:]
    chosen = {item["metadata"]["name"]: item["download_info"] for item in json.loads(done.stdout)["install"]}
    assert len(chosen) == len(pins)
    return [
        f"{name} {info['url'].rpartition('/')[2]} is not in the lock"
        for name, info in chosen.items()
        if info["archive_info"]["hashes"]["sha256"] not in pins[canonicalize_name(name)].hashes
    ]


@pytest.mark.parametrize(
    ("names", "python"),
    [(["requirements.lock"], "311"), (["requirements.lock", "requirements-gpu.lock"], "313")],  # the GPU's: image only
    ids=["311", "313"],
)
def test_every_pin_has_a_wheel(names: list[str], python: str, tmp_path: Path) -> None:
    assert _resolve("\n".join((ROOT / name).read_text() for name in names), python, tmp_path) == []


def test_both_images_differ_in_tensorflow_and_cuda_only() -> None:
    """What a script sees besides is the same on both."""
    cpu, gpu = (
        {name: pin.version for name, pin in _pins((ROOT / lock).read_text()).items()}
        for lock in ("requirements.lock", "requirements-gpu.lock")
    )
    assert cpu.pop("tensorflow-cpu") == gpu.pop("tensorflow") == "2.21.0"
    assert {name: version for name, version in gpu.items() if not re.fullmatch(r"nvidia-.*-cu12", name)} == cpu


def test_a_made_up_pin_is_found(tmp_path: Path) -> None:
    lock = f"six==99.0 \\\n    --hash=sha256:{'0' * 64}\n"
    assert _resolve(lock, "313", tmp_path) == ["No matching distribution found for six==99.0"]


def test_a_made_up_hash_is_found(tmp_path: Path) -> None:
    version = _pins((ROOT / "requirements.lock").read_text())["six"].version
    lock = f"six=={version} \\\n    --hash=sha256:{'0' * 64}\n"
    assert _resolve(lock, "313", tmp_path) == [f"six six-{version}-py2.py3-none-any.whl is not in the lock"]
