"""The description of the CPU, compared with the C library and the kernel."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from samebits.core import cpu_info as cpu
from samebits.core.cpu_info import Cpu, describe_cpu, instruction_set
from samebits.core.jsonio import Fields

_LOADER = Path("/lib64/ld-linux-x86-64.so.2")


@pytest.mark.skipif(not _LOADER.exists(), reason="only the C library of x86-64 knows its levels")
def test_the_c_library_finds_the_same_level() -> None:
    said = subprocess.run([_LOADER, "--help"], capture_output=True, text=True, check=True).stdout
    levels = re.findall(r"^  (x86-64-v\d) \(supported", said, re.MULTILINE)
    if "x86-64-v" not in said:
        pytest.skip("this C library does not tell the levels")
    assert instruction_set() == max(levels, default="x86-64")


_V2 = {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}
_V3 = _V2 | {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        (set(), "x86-64"),
        (_V2, "x86-64-v2"),
        (_V2 - {"popcnt"}, "x86-64"),
        (_V3, "x86-64-v3"),
        (_V3 - {"fma"}, "x86-64-v2"),
        (_V4, "x86-64-v4"),
        (_V4 - {"avx512vl"}, "x86-64-v3"),
        (_V4 - {"sse4_1"}, "x86-64"),
    ],
)
def test_levels(monkeypatch: pytest.MonkeyPatch, flags: set[str], level: str) -> None:
    """The flags of other CPUs are simulated."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(cpu, "_cpuinfo", lambda: {"flags": " ".join(sorted(flags))})
    assert instruction_set() == level


def test_other_architectures_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert instruction_set() == "aarch64"


def test_description() -> None:
    found = describe_cpu()
    assert Cpu.from_fields(Fields(json.loads(json.dumps(found.to_dict())))) == found
    assert found.instruction_set == instruction_set()
    assert found.cores == os.cpu_count()
    assert found.cores_usable == len(os.sched_getaffinity(0))
    text = Path("/proc/cpuinfo").read_text()
    assert found.model in text
    assert found.vendor in text
    assert list(found.flags) == sorted(re.findall(r"^flags\s*: (.*)$", text, re.MULTILINE)[0].split())
    assert all(
        re.fullmatch(r"[1-4] (Data|Instruction|Unified) \d+[KM]", f"{cache.level} {cache.type} {cache.size}")
        for cache in found.caches
    )


def test_only_the_usable_cores_count() -> None:
    core = min(os.sched_getaffinity(0))
    code = "from samebits.core.cpu_info import describe_cpu; print(describe_cpu().cores_usable)"
    done = subprocess.run(
        ["taskset", "--cpu-list", str(core), sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
