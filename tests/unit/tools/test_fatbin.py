"""Blanking GPU code in libraries: what one architecture loads stays, byte by byte, and nothing moves."""

import struct

import pytest

from support.gpu_kit import fatbin

PTX, CUBIN, OTHER = 1, 2, 8


def _container(*entries: tuple[int, int, bytes]) -> bytes:
    """A fat binary with entries of kind, architecture and body."""
    content = b""
    for kind, architecture, body in entries:
        header = struct.pack("<HHIQIIHHI", kind, 0x101, 64, len(body), 0, 0, 0, 0, architecture)
        content += header.ljust(64, b"\x11") + body
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(content)) + content


def _kept(library: bytes, architecture: int, *bodies: bytes) -> list[bool]:
    data = bytearray(library)
    fatbin.blank(data, architecture)
    assert len(data) == len(library)
    return [body in data for body in bodies]


OLD, NEW, CODE, LTO = b"sm_80" * 9, b"sm_90" * 9, b"ptx90" * 9, b"lto50" * 9


@pytest.mark.parametrize(
    ("architecture", "kept"),
    [
        (90, [False, True, False, True]),
        # Machine code of 8.0 also runs on 8.6. PTX of a later architecture cannot be compiled for it.
        (86, [True, False, False, True]),
        # Nothing fits, so the driver compiles the PTX.
        (100, [False, False, True, True]),
    ],
)
def test_what_an_architecture_loads_stays(architecture: int, kept: list[bool]) -> None:
    library = b"code" * 5 + _container((CUBIN, 80, OLD), (CUBIN, 90, NEW), (PTX, 90, CODE), (OTHER, 50, LTO)) + b"end"
    assert _kept(library, architecture, OLD, NEW, CODE, LTO) == kept


def test_ptx_stays_where_no_machine_code_fits() -> None:
    """TensorFlow's own kernels on 9.0: the container has machine code for others, and PTX."""
    assert _kept(_container((CUBIN, 80, OLD), (PTX, 90, CODE)), 90, OLD, CODE) == [False, True]


def test_each_container_is_judged_by_itself() -> None:
    library = _container((CUBIN, 90, NEW), (PTX, 90, CODE)) + bytes(7) + _container((CUBIN, 80, OLD), (PTX, 80, LTO))
    assert _kept(library, 90, NEW, CODE, OLD, LTO) == [True, False, False, True]


def test_nothing_but_bodies_changes() -> None:
    library = _container((CUBIN, 80, OLD), (CUBIN, 90, NEW))
    data = bytearray(library)
    assert fatbin.blank(data, 90) == {"sm_80": len(OLD)}
    assert bytes(data) == library.replace(OLD, bytes(len(OLD)))
    assert fatbin.architectures(data) == {"sm_80": 1, "sm_90": 1}


@pytest.mark.parametrize("cut", [1, 20, 70])
def test_what_does_not_add_up_is_left_alone(cut: int) -> None:
    library = _container((CUBIN, 80, OLD))[:-cut]
    data = bytearray(library)
    assert fatbin.blank(data, 90) == {}
    assert bytes(data) == library


def test_a_magic_number_by_chance_hides_no_container() -> None:
    library = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 1 << 40) + _container((CUBIN, 80, OLD))
    assert _kept(library, 90, OLD) == [False]
