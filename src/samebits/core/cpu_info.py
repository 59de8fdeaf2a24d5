"""The CPU, as /proc/cpuinfo and /sys describe it: model, flags, caches and x86-64 level."""

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samebits.core.jsonio import Fields

# The micro-architecture levels of the x86-64 psABI, by the flag names of /proc/cpuinfo.
_LEVELS = (
    ("x86-64-v2", {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    ("x86-64-v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("x86-64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)


def instruction_set() -> str:
    """The highest x86-64 level whose flags the CPU has; on other machines their name, such as `aarch64`."""
    machine = platform.machine()
    if machine != "x86_64":
        return machine
    flags = set(_cpuinfo().get("flags", "").split())
    level = "x86-64"
    for name, needed in _LEVELS:
        # Levels are cumulative, so the first missing one ends the search.
        if not needed <= flags:
            break
        level = name
    return level


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """One cache of a core in the kernel's words, as `level` 1, `type` Data, `size` 48K."""

    level: str
    type: str
    size: str

    def to_dict(self) -> dict[str, str]:
        """As the record holds it."""
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: Fields) -> "Cache":
        """Read what `to_dict` wrote."""
        level, kind, size = (fields.get(name, str) for name in ("level", "type", "size"))
        return cls(level=level, type=kind, size=size)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cpu:
    """Model, vendor, family, flags, caches, and the cores there are and that this process may use."""

    model: str
    vendor: str
    family_model_stepping: str
    instruction_set: str
    flags: tuple[str, ...]
    caches: tuple[Cache, ...]
    cores: int
    cores_usable: int

    def to_dict(self) -> dict[str, Any]:
        """As the record holds it."""
        return {
            "model": self.model,
            "vendor": self.vendor,
            "family_model_stepping": self.family_model_stepping,
            "instruction_set": self.instruction_set,
            "flags": list(self.flags),
            "caches": [cache.to_dict() for cache in self.caches],
            "cores": self.cores,
            "cores_usable": self.cores_usable,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "Cpu":
        """Read what `to_dict` wrote."""
        return cls(
            model=fields.get("model", str),
            vendor=fields.get("vendor", str),
            family_model_stepping=fields.get("family_model_stepping", str),
            instruction_set=fields.get("instruction_set", str),
            flags=fields.texts("flags"),
            caches=tuple(map(Cache.from_fields, fields.objects("caches"))),
            cores=fields.get("cores", int),
            cores_usable=fields.get("cores_usable", int),
        )


def describe_cpu() -> Cpu:
    """The CPU of this machine."""
    info = _cpuinfo()
    return Cpu(
        model=info.get("model name", platform.processor() or "unknown"),
        vendor=info.get("vendor_id", "unknown"),
        family_model_stepping="/".join(info.get(key, "?") for key in ("cpu family", "model", "stepping")),
        instruction_set=instruction_set(),
        flags=tuple(sorted(info.get("flags", "").split())),
        caches=_caches(),
        cores=os.cpu_count() or 0,
        # A container or taskset may allow fewer cores than the machine has.
        cores_usable=len(os.sched_getaffinity(0)),
    )


def microcode() -> str:
    """The revision of the first processor's microcode; empty where the kernel does not show it."""
    return _cpuinfo().get("microcode", "")


def _cpuinfo() -> dict[str, str]:
    """The first processor's block of /proc/cpuinfo; all cores are assumed alike."""
    found: dict[str, str] = {}
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            # An empty line ends the block of the first processor.
            if not line.strip():
                break
            key, _, value = line.partition(":")
            found[key.strip()] = value.strip()
    return found


def _caches() -> tuple[Cache, ...]:
    """The caches of the first core, as the kernel describes them; empty if it does not."""
    folders = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    names = ("level", "type", "size")
    return tuple(Cache(**{name: _read_text(folder / name) for name in names}) for folder in folders)


def _read_text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return "unknown"
