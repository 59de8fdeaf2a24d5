"""Pack the locked GPU packages into parts that are small enough to carry: `python -m tools.gpu.pack FOLDER`.

FOLDER gets `wheels/` (downloaded by pip, each checked against the lock), `parts/NAME.part` and `parts/manifest.json`.
It takes about 8 GB of disk, and a second call goes on where an interrupted one stopped. See tools/gpu/README.md.
"""

import argparse
import hashlib
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tools.gpu import fatbin, left_out

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements-gpu.lock"
FORMAT, VERSION = "samebits-gpu-kit", "1.0"
CHUNK = 32 << 20  # bytes that are compressed by themselves, so that parts unpack in parallel and in any order
PART = 60 << 20  # the usual size of a part
_PRESET = 3  # 6 saves 7 % of the size, and takes four times as long
_TAGS = ("2_28", "2_27", "2_24", "2_17", "2_12", "2_5")


@dataclass(slots=True)
class Contents:
    """What was packed: files and bytes; what was left out, by reason; what was blanked in libraries, by kind."""

    files: int = 0
    size: int = 0
    left_out: dict[str, list[int]] = field(default_factory=dict)
    blanked: dict[str, dict[str, int]] = field(default_factory=dict)
    changed: dict[str, dict[str, str]] = field(default_factory=dict)


def main() -> int:
    """Download, prune and compress; print what there is to carry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="3.12", metavar="VERSION", help="the other machine's Python")
    parser.add_argument("--architecture", type=int, default=90, help="of the GPU: 90 for 9.0 (H100, H200); 0 keeps all")
    parser.add_argument("--lock", type=Path, default=LOCK)
    parser.add_argument("--part-size", type=int, default=PART, help="the most bytes of a part (default: %(default)s)")
    options = parser.parse_args()
    wheels = download(options.lock, options.folder / "wheels", options.python)
    manifest = pack(wheels, options.folder / "parts", options.architecture, options.part_size, options.lock)
    manifest["python"] = options.python
    (options.folder / "parts" / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True))
    parts = manifest["parts"]
    print(f"{len(parts)} parts, {sum(part['size'] for part in parts) / 1e6:.0f} MB, in {options.folder / 'parts'}")
    return 0


def download(lock: Path, folder: Path, python: str) -> list[Path]:
    """The wheels of a lock for that Python; pip checks every hash."""
    platforms = [f"manylinux_{tag}_x86_64" for tag in _TAGS] + ["manylinux2014_x86_64", "manylinux2010_x86_64"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
    ]
    command += ["--disable-pip-version-check", "--python-version", python, "--implementation", "cp"]
    command += [word for platform in [*platforms, "manylinux1_x86_64"] for word in ("--platform", platform)]
    subprocess.run([*command, "--dest", str(folder), "-r", str(lock)], check=True)
    return sorted(folder.glob("*.whl"))


def pack(wheels: list[Path], folder: Path, architecture: int, part_size: int, lock: Path) -> dict[str, Any]:
    """Write the parts, and return what the manifest has to say."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "site.tar"
    contents = Contents()
    with whole.open("wb") as file:
        write_tar(wheels, file, architecture, contents)
    chunks = compress(whole, folder)
    parts = write_parts(chunks, folder, part_size)
    size = whole.stat().st_size
    whole.unlink()
    return {
        "format": FORMAT,
        "version": VERSION,
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest(),
        "architecture": architecture,
        "size": size,
        "files": contents.files,
        "left_out": {why: {"files": files, "bytes": bytes_} for why, (files, bytes_) in contents.left_out.items()},
        "blanked": contents.blanked,
        "changed": contents.changed,
        "parts": parts,
    }


def write_tar(wheels: list[Path], file: BinaryIO, architecture: int, contents: Contents) -> None:
    """All files of the wheels as one archive of site-packages; the same bytes for the same wheels."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as opened:
                for item in sorted(opened.infolist(), key=lambda item: item.filename):
                    if not item.is_dir():
                        _add(archive, opened, item, architecture, contents)


def _add(
    archive: tarfile.TarFile, wheel: zipfile.ZipFile, item: zipfile.ZipInfo, architecture: int, contents: Contents
) -> None:
    path = installed_path(item.filename)
    if why := left_out.reason(path):
        counted = contents.left_out.setdefault(why, [0, 0])
        counted[0] += 1
        counted[1] += item.file_size
        return
    data = bytearray(wheel.read(item))
    if architecture and ".so" in path:
        before = hashlib.sha256(data).hexdigest()
        if gone := fatbin.blank(data, architecture):
            contents.blanked[path] = gone
            contents.changed[path] = {"locked": before, "packed": hashlib.sha256(data).hexdigest()}
    header = tarfile.TarInfo(path)
    header.size, header.mode = len(data), 0o755 if item.external_attr >> 16 & 0o100 else 0o644
    archive.addfile(header, io.BytesIO(data))
    contents.files += 1
    contents.size += len(data)


def installed_path(name: str) -> str:
    """Where pip puts a file of a wheel, below site-packages; `NAME.data/platlib` is site-packages itself."""
    first, *rest = PurePosixPath(name).parts
    if first.endswith(".data") and rest[:1] in (["platlib"], ["purelib"]):
        return "/".join(rest[1:])
    return name


def compress(whole: Path, folder: Path) -> list[dict[str, Any]]:
    """Compress each chunk of a file by itself, beside it; a chunk that is there already is not compressed again."""
    count = -(-whole.stat().st_size // CHUNK)
    with ProcessPoolExecutor() as pool:
        return list(pool.map(_compress, [whole] * count, range(count), [folder] * count))


def _compress(whole: Path, number: int, folder: Path) -> dict[str, Any]:
    with whole.open("rb") as file:
        file.seek(number * CHUNK)
        data = file.read(CHUNK)
    raw = hashlib.sha256(data).hexdigest()
    target = folder / f"{raw}.xz"
    if not target.exists():
        draft = target.with_suffix(f".{os.getpid()}")
        draft.write_bytes(lzma.compress(data, preset=_PRESET, check=lzma.CHECK_NONE))
        draft.rename(target)
    return {"at": number * CHUNK, "size": len(data), "sha256": raw, "packed": target.stat().st_size, "file": target}


def write_parts(chunks: list[dict[str, Any]], folder: Path, part_size: int) -> list[dict[str, Any]]:
    """Put the chunks into parts, each named by its digest; the chunks' own files are removed."""
    parts = []
    for group in groups(chunks, part_size):
        content = b"".join(chunk["file"].read_bytes() for chunk in group)
        digest = hashlib.sha256(content).hexdigest()
        (folder / f"{digest[:16]}.part").write_bytes(content)
        listed = [{name: chunk[name] for name in ("at", "size", "sha256", "packed")} for chunk in group]
        parts.append({"name": f"{digest[:16]}.part", "sha256": digest, "size": len(content), "chunks": listed})
    for path in {chunk["file"] for chunk in chunks}:
        path.unlink()
    return parts


def groups(chunks: list[dict[str, Any]], part_size: int) -> Iterator[list[Mapping[str, Any]]]:
    """Distribute the chunks over as few parts as a simple rule finds: the largest first, each where it still fits."""
    found: list[list[Mapping[str, Any]]] = []
    for chunk in sorted(chunks, key=lambda chunk: (-chunk["packed"], chunk["at"])):
        if chunk["packed"] > part_size:
            raise SystemExit(
                f"a compressed chunk has {chunk['packed']} bytes and a part {part_size}; make parts larger"
            )
        fitting = (group for group in found if sum(one["packed"] for one in group) + chunk["packed"] <= part_size)
        group = next(fitting, None)
        if group is None:
            found.append(group := [])
        group.append(chunk)
    yield from found


if __name__ == "__main__":
    sys.exit(main())
