"""The cache sizes that Eigen and oneDNN keep inside TensorFlow's libraries; tested with TensorFlow 2.21.0.

Both ask the CPU once, and cut sums into blocks by the answer. No function of TensorFlow changes it. But the symbol
tables of its libraries name the variables, so other sizes can be written there. oneDNN's own function reads them back.
"""

import ctypes
import functools
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from samebits.core.errors import SettingError
from samebits.runner.compat.self_test import installed_versions

CACHES = (32 << 10, 1 << 20, 32 << 20)
"""The bytes of the first, second and third cache of every CPU, in the portable profile: those of an AMD EPYC."""
SHARING = (1, 1, 16)
"""How many cores share each of them."""

TESTED = "2.21.0"
_LIBRARIES = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")
_EIGEN = "_ZZN5Eigen8internal20manage_caching_sizesENS_6ActionEPlS2_S2_E12m_cacheSizes"
_EIGEN_IS_SET = _EIGEN.replace("_ZZ", "_ZGVZ")
_CONVOLUTIONS = "_ZN10tensorflowL11cache_sizesE"  # one in each of three files of TensorFlow's own kernels
_CONVOLUTION_FILES = 3
_CPU = "_ZN4dnnl4impl3cpu3x643cpuEv"  # returns oneDNN's description of the CPU, which it makes in its first call
_CPU_DATA = "_ZZN4dnnl4impl3cpu3x643cpuEvE4cpu_"
_CACHE_OF_A_CORE = "_ZN4dnnl4impl3cpu8platform23get_per_core_cache_sizeEi"
_NAMES = (_EIGEN, _EIGEN_IS_SET, _CONVOLUTIONS, _CPU, _CPU_DATA, _CACHE_OF_A_CORE)
_SIZES, _CORES, _LEVELS, _CPU_BYTES = 0x1C, 0x44, 0x6C, 0x90  # within that description: xbyak_util.h, class Cpu
_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym: name, info, other, section, value, size
_SECTION = struct.Struct("<IIQQQQIIQQ")  # Elf64_Shdr: name, type, flags, address, offset, size, link, …
_SYMBOLS = 2  # SHT_SYMTAB


def pin_caches() -> None:
    """Have Eigen and oneDNN cut by CACHES. Call it after TensorFlow is imported, before anything is computed.

    Raises SettingError where a library has no such variables.
    """
    for library in _libraries():
        for address in library.all_of(_EIGEN):
            (ctypes.c_int64 * 3).from_address(address)[:] = list(CACHES)
        for address in library.all_of(_EIGEN_IS_SET):
            ctypes.c_uint8.from_address(address).value = 1
        for address in library.all_of(_CONVOLUTIONS):
            (ctypes.c_int64 * 3).from_address(address)[:] = list(CACHES)
    library = _onednn()
    # The first call asks the CPU, and would overwrite what is written before it.
    cpu = ctypes.CFUNCTYPE(ctypes.c_void_p)(library.one(_CPU))()
    if cpu != library.one(_CPU_DATA, size=_CPU_BYTES):
        raise _unknown(library, _CPU)
    (ctypes.c_uint32 * 3).from_address(cpu + _SIZES)[:] = list(CACHES)
    (ctypes.c_uint32 * 3).from_address(cpu + _CORES)[:] = list(SHARING)
    ctypes.c_uint32.from_address(cpu + _LEVELS).value = len(CACHES)


def pinned_caches() -> str:
    """The sizes as found: `32 1024 32768 KiB`, or those of each place where they are others."""
    others = [f"{_in_kib(sizes)} in {place}" for place, sizes in _found() if sizes != CACHES]
    return ", ".join(others) or asked_caches()


def asked_caches() -> str:
    """What `pinned_caches` returns after `pin_caches`."""
    return _in_kib(CACHES)


def _in_kib(sizes: tuple[int, ...]) -> str:
    return f"{' '.join(str(size >> 10) for size in sizes)} KiB"


def _found() -> Iterator[tuple[str, tuple[int, ...]]]:
    for library in _libraries():
        is_set = all(ctypes.c_uint8.from_address(address).value for address in library.all_of(_EIGEN_IS_SET))
        for name in (_EIGEN, _CONVOLUTIONS):
            for address in library.all_of(name):
                sizes = tuple((ctypes.c_int64 * 3).from_address(address)) if is_set else (0, 0, 0)
                yield f"{library.path.name} {name}", sizes
    share = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_int)(_onednn().one(_CACHE_OF_A_CORE))
    yield "oneDNN", tuple(share(level + 1) * cores for level, cores in enumerate(SHARING))


@dataclass(frozen=True)
class _Library:
    """A shared library in this process, and where its first byte is."""

    path: Path
    base: int

    def one(self, name: str, size: int | None = None) -> int:
        """The address of a symbol that must be there, once, and of this size."""
        found = self._table.get(name, [])
        if len(found) != 1 or size not in (None, found[0][1]):
            raise _unknown(self, name)
        return self.base + found[0][0]

    def all_of(self, name: str) -> list[int]:
        """The addresses of all symbols of a name."""
        return [self.base + value for value, _ in self._table.get(name, [])]

    @property
    def _table(self) -> dict[str, list[tuple[int, int]]]:
        return _symbols(self.path)


@functools.cache
def _libraries() -> tuple[_Library, ...]:
    """TensorFlow's two libraries. Raises SettingError where one is not loaded, or does not name Eigen's variable."""
    bases: dict[str, int] = {}
    # A name may hold a carriage return; a line break is written there as \\012.
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        for line in file:
            addresses, _, offset, _, _, *path = line.rstrip("\n").split(maxsplit=5)
            if path and path[0].endswith(_LIBRARIES) and int(offset, 16) == 0:
                bases.setdefault(path[0], int(addresses.partition("-")[0], 16))
    found = tuple(_Library(Path(path), base) for path, base in sorted(bases.items()))
    # Checked before anything is written: another version may have something else at these places.
    known = installed_versions()["tensorflow"] == TESTED and all(library.path.is_file() for library in found)
    if not known or tuple(library.path.name for library in found) != _LIBRARIES:
        raise SettingError("TensorFlow's libraries are not those that the portable profile knows; use the locked one")
    for library in found:
        library.one(_EIGEN, size=24)
        library.one(_EIGEN_IS_SET)
    if sum(len(library.all_of(_CONVOLUTIONS)) for library in found) != _CONVOLUTION_FILES:
        raise _unknown(found[0], _CONVOLUTIONS)
    return found


def _onednn() -> _Library:
    return _libraries()[0]


@functools.cache
def _symbols(path: Path) -> dict[str, list[tuple[int, int]]]:
    """Value and size of each symbol in _NAMES. It takes a quarter of a second."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        (start,), (size, number) = struct.unpack_from("<Q", content, 40), struct.unpack_from("<HH", content, 58)
        sections = [_SECTION.unpack_from(content, start + size * place) for place in range(number)]
        tables = [section for section in sections if section[1] == _SYMBOLS]
        # A library without a table, a stripped one, has none of them.
        return {name: entry for table in tables for name, entry in _entries(content, table, sections[table[6]])}


def _entries(
    content: mmap.mmap, table: tuple[int, ...], names: tuple[int, ...]
) -> Iterator[tuple[str, list[tuple[int, int]]]]:
    """The same, of a table of symbols and the section that holds their names."""
    import numpy as np

    (offset, length), (start, size) = table[4:6], names[4:6]
    kind = np.dtype({"names": ["name"], "formats": ["<u4"], "itemsize": _SYMBOL.size})
    written = np.frombuffer(content[offset : offset + length], dtype=kind)["name"]
    for name in _NAMES:
        # A name may be written several times: each file that was linked has its own variables.
        wanted, place, found = b"\0" + name.encode() + b"\0", start - 1, []
        while (place := content.find(wanted, place + 1, start + size)) >= 0:
            found += np.flatnonzero(written == place + 1 - start).tolist()
        yield name, [_SYMBOL.unpack_from(content, offset + _SYMBOL.size * number)[4:] for number in found]


def _unknown(library: _Library, name: str) -> SettingError:
    return SettingError(
        f"{library.path.name} has no variable {name} of the known form, so its cache sizes cannot be pinned; use the"
        " locked TensorFlow, or the native profile"
    )
