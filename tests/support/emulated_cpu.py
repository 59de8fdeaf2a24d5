"""Another CPU's caches, number of cores, vendor and instructions, at this CPU's speed.

Eigen, oneDNN and OpenBLAS ask for them by the instruction `cpuid`, which not every machine lets a process catch. So an
opcode that no CPU has takes its place, in copies of the libraries. `emulated_cpuid.c` answers when it is met.
"""

import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

PACKAGES = ("tensorflow", "numpy", "numpy.libs")
"""What computes, and asks what CPU it is on."""

_CPUID, _ILLEGAL = b"\x0f\xa2", b"\x0f\x04"
_LOAD, _FRAMES, _EXECUTABLE = 1, 0x6474E550, 1  # PT_LOAD, PT_GNU_EH_FRAME and PF_X of elf.h
_LONGEST = 15  # bytes of an instruction


@dataclass(frozen=True, kw_only=True)
class Caches:
    """Sizes of the caches in KiB, how many cores share the third one, and whether the CPU is Intel's or AMD's."""

    l1: int
    l2: int
    l3: int
    cores: int
    intel: bool
    avx512: bool = False

    def __str__(self) -> str:
        return " ".join(f"{name}={int(value)}" for name, value in vars(self).items())


class EmulatedCpu:
    """Copies of libraries without `cpuid`, in a folder, and the variables with which Python uses them."""

    def __init__(self, python: Path, folder: Path) -> None:
        """`python` is a virtual environment's, which stays as it is."""
        self.python = python
        (packages,) = python.parents[1].glob("lib/python*/site-packages")
        self._folder = folder
        self._library = folder / "emulated_cpuid.so"
        source = Path(__file__).with_name("emulated_cpuid.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", self._library, source, "-ldl"], check=True)
        self.replaced = {name: count for name in PACKAGES for name, count in _copy(packages, folder / "packages", name)}

    def variables(self, caches: Caches, log: Path | None = None) -> dict[str, str]:
        """What a process needs in its environment, PYTHONPATH excepted; `log` gets a line for each answer."""
        logged = {} if log is None else {"EMULATED_CPU_LOG": str(log)}
        return {"EMULATED_CPU": str(caches), "LD_PRELOAD": str(self._library)} | logged

    @property
    def packages(self) -> Path:
        """The folder that comes first on the path."""
        return self._folder / "packages"


def _copy(packages: Path, into: Path, name: str) -> Iterator[tuple[str, int]]:
    """Link to every file of a package, but for libraries that ask; yields their names and how often they do."""
    for folder, _, files in os.walk(packages / name):
        here = into / Path(folder).relative_to(packages)
        here.mkdir(parents=True)
        for file in files:
            original = Path(folder, file)
            places = Library(original.read_bytes()).questions() if ".so" in file else []
            if not places:
                (here / file).symlink_to(original)
                continue
            shutil.copy(original, here / file)
            with open(here / file, "r+b") as copy:
                for place in places:
                    copy.seek(place)
                    copy.write(_ILLEGAL)
            yield file, len(places)


@dataclass(frozen=True)
class Library:
    """A shared library for x86-64."""

    content: bytes

    def questions(self) -> list[int]:
        """Where in the file `cpuid` is an instruction. The same two bytes within others are left out."""
        functions: dict[int, list[int]] = {}
        for offset, address, size in self._code:
            for place in _all_places(self.content, _CPUID, offset, offset + size):
                before = np.searchsorted(self._functions, place - offset + address, side="right")
                start = max(int(self._functions[before - 1]) if before else 0, address)
                functions.setdefault(start - address + offset, []).append(place)
        if not functions:
            return []
        # One disassembly for all: each function up to the last candidate, and what brings it back into step.
        code, where = b"", dict[int, int]()
        for start, places in functions.items():
            where |= {len(code) + place - start: place for place in places}
            code += self.content[start : places[-1] + _LONGEST] + b"\x90" * 2 * _LONGEST
        return [where[place] for place in _disassembled(code) if place in where]

    @cached_property
    def _segments(self) -> list[tuple[int, int, int, int, int]]:
        """Type, flags, offset, address and size of each."""
        (start,) = struct.unpack_from("<Q", self.content, 32)
        size, number = struct.unpack_from("<HH", self.content, 54)
        headers = (struct.unpack_from("<IIQQQQ", self.content, start + size * place) for place in range(number))
        return [(kind, flags, offset, address, length) for kind, flags, offset, address, _, length in headers]

    @property
    def _code(self) -> list[tuple[int, int, int]]:
        return [place[2:] for place in self._segments if place[0] == _LOAD and place[1] & _EXECUTABLE]

    @cached_property
    def _functions(self) -> np.ndarray:
        """The address where each begins, in order: .eh_frame_hdr has a table of them."""
        for kind, _, offset, address, _ in self._segments:
            if kind == _FRAMES:
                assert self.content[offset : offset + 4] == b"\x01\x1b\x03\x3b"
                (number,) = struct.unpack_from("<I", self.content, offset + 8)
                table = np.frombuffer(self.content, dtype="<i4", count=2 * number, offset=offset + 12)
                return table[::2].astype("int64") + address
        return np.array([], dtype="int64")


def _all_places(content: bytes, wanted: bytes, start: int, end: int) -> Iterator[int]:
    place = content.find(wanted, start, end)
    while place >= 0:
        yield place
        place = content.find(wanted, place + 1, end)


def _disassembled(code: bytes) -> Iterator[int]:
    """Where in this machine code the instruction `cpuid` is."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(code)
        file.flush()
        command = ["objdump", "-D", "-b", "binary", "-m", "i386:x86-64", file.name]
        printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in printed.splitlines():
        address, _, instruction = line.partition(":\t")
        if instruction.rstrip().endswith("\tcpuid"):
            yield int(address, 16)
