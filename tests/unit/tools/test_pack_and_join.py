"""The kit's way across: packing small wheels into parts, and putting the parts together, whatever arrives when."""

import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support.gpu_kit import join, left_out, pack

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
_RANDOM = os.urandom(200_000)


@pytest.fixture
def wheels(tmp_path: Path) -> list[Path]:
    one, other = tmp_path / "one-1-py3-none-any.whl", tmp_path / "other-1-py3-none-any.whl"
    with zipfile.ZipFile(one, "w") as file:
        file.writestr("one/__init__.py", "VALUE = 1\n")
        file.writestr("one/data.bin", _RANDOM)
        file.writestr("one-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: one\nVersion: 1\n")
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("other-1.data/platlib/other.py", "import one\n")
        file.writestr("nvidia/nccl/lib/libnccl.so.2", b"collectives")
        file.writestr("tensorflow/include/a.h", b"// header")
    return [one, other]


@pytest.fixture
def parts(wheels: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three parts or more, with their manifest."""
    monkeypatch.setattr(pack, "CHUNK", 50_000)
    folder = tmp_path / "parts"
    manifest = pack.pack(wheels, folder, 90, 90_000, pack.LOCK)
    (folder / "manifest.json").write_text(json.dumps(manifest | {"python": PYTHON}))
    return folder


def _manifest(parts: Path) -> dict[str, Any]:
    return dict(json.loads((parts / "manifest.json").read_text()))


def test_parts_are_small_and_named_by_their_digests(parts: Path) -> None:
    manifest = _manifest(parts)
    assert len(manifest["parts"]) >= 3
    names = {part["name"] for part in manifest["parts"]} | {"manifest.json"}
    assert {path.name for path in parts.iterdir()} == names
    for part in manifest["parts"]:
        content = (parts / part["name"]).read_bytes()
        assert len(content) == part["size"] <= 90_000
        assert hashlib.sha256(content).hexdigest() == part["sha256"]
        assert part["name"] == f"{part['sha256'][:16]}.part"


def test_the_manifest_says_what_was_left_out(parts: Path) -> None:
    assert sorted(_manifest(parts)["left_out"].values(), key=str) == [
        {"bytes": 11, "files": 1},
        {"bytes": 9, "files": 1},
    ]


def test_parts_are_joined_to_an_environment(parts: Path, tmp_path: Path) -> None:
    into = tmp_path / "kit"
    assert join.main([str(parts), "--into", str(into)]) == join.COMPLETE
    python = into / "venv" / "bin" / "python"
    command = [str(python), "-c", "import other; print(other.one.VALUE)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"
    site = into / "venv" / "lib" / f"python{PYTHON}" / "site-packages"
    assert (site / "one" / "data.bin").read_bytes() == _RANDOM
    assert not (site / "tensorflow").exists()
    assert json.loads((into / "complete").read_text())["lock"] == hashlib.sha256(pack.LOCK.read_bytes()).hexdigest()


def test_parts_that_arrive_one_by_one(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into, arrived = tmp_path / "kit", tmp_path / "arrived"
    arrived.mkdir()
    names = [part["name"] for part in _manifest(parts)["parts"]]
    (arrived / "manifest.json").write_bytes((parts / "manifest.json").read_bytes())
    for name in reversed(names):
        assert join.main([str(arrived), "--into", str(into)]) == join.MISSING
        # Only this part is there now: an earlier one is not needed again.
        for path in arrived.glob("*.part"):
            path.unlink()
        (arrived / name).write_bytes((parts / name).read_bytes())
    assert f"1 of {len(names)} parts are missing: {names[0]}" in capsys.readouterr().out
    assert join.main([str(arrived), "--into", str(into)]) == join.COMPLETE
    assert (into / "complete").exists()


def test_a_damaged_part_is_refused_and_can_be_carried_again(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = parts / _manifest(parts)["parts"][1]["name"]
    good = damaged.read_bytes()
    damaged.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    into = tmp_path / "kit"
    assert join.main([str(parts), "--into", str(into)]) == join.WRONG
    assert f"join: {damaged} is damaged: it has" in capsys.readouterr().err
    assert not (into / "complete").exists()
    damaged.write_bytes(good)
    assert join.main([str(parts), "--into", str(into)]) == join.COMPLETE


def test_in_the_background_while_parts_are_taken_away(parts: Path, tmp_path: Path) -> None:
    into = tmp_path / "kit"
    assert join.main([str(parts), "--into", str(into), "--background"]) == join.COMPLETE
    for path in parts.iterdir():
        path.unlink()
    deadline = time.monotonic() + 120
    while not (into / "complete").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (into / "complete").exists(), (into / "join.log").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ('{"format": "other", "version": "1.0"}', "is of other 1.0, not of samebits-gpu-kit"),
        ('{"format": "samebits-gpu-kit", "version": "2.0"}', "use the `join` beside its `pack`"),
    ],
)
def test_a_wrong_manifest(content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.json").write_text(content)
    assert join.main([str(tmp_path), "--into", str(tmp_path / "kit")]) == join.WRONG
    assert message in capsys.readouterr().err


def test_another_python_is_named(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (parts / "manifest.json").write_text(json.dumps(_manifest(parts) | {"python": "3.99"}))
    assert join.main([str(parts), "--into", str(tmp_path / "kit")]) == join.WRONG
    assert f"is Python {PYTHON}, and the parts are for 3.99; name that with --python" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "travels"),
    [
        ("nvidia/cudnn/lib/libcudnn_engines_precompiled.so.9", True),
        ("nvidia/cuda_nvcc/bin/ptxas", True),
        ("nvidia/cuda_nvcc/nvvm/libdevice/libdevice.10.bc", True),
        ("nvidia/cublas/lib/libcublasLt.so.12", True),
        ("tensorflow/python/profiler/internal/_pywrap_profiler_plugin.so", True),
        ("nvidia/cusolver/lib/libcusolverMg.so.11", False),
        ("tensorflow/include/tensorflow/core/x.h", False),
        ("clang/native/libclang.so", False),
    ],
)
def test_what_may_be_loaded_travels(path: str, *, travels: bool) -> None:
    assert (left_out.reason(path) is None) == travels
