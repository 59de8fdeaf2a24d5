#!/usr/bin/env python3
"""Pack one large file into a capsule, and copy it, in turns: `python benchmarks/capsule.py [--mib 1024] [--rounds 5]`.

Both read a file from the page cache and end with fsync. Packing hashes it, too. With `--run DIR`, the whole command
packs that run with its image and base, without a store, and with one that has them. Then `--flips` bits of the capsule
are changed, one at a time, and each must be named.
"""

import argparse
import io
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import RecordError
from samebits.host.capsule.archive import Archive, Source, write_archive
from samebits.host.capsule.contents import Contents, Member


def main() -> None:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--run", type=Path, help="a run that was trained in a container")
    parser.add_argument("--flips", type=int, default=200)
    options = parser.parse_args()
    if options.run is not None:
        _bench_run(options.run, options.rounds, options.flips)
        return
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        folder = Path(name)
        source = _source(folder / "layer", options.mib << 20)
        taken: dict[str, list[float]] = {"copy": [], "pack": []}
        for _ in range(options.rounds):
            taken["copy"].append(_seconds(lambda: _copy(source.path, folder / "copy")))
            taken["pack"].append(_seconds(lambda: _pack(source, folder / "a.tar")))
    for what, seconds in taken.items():
        rate = options.mib / statistics.median(seconds)
        print(f"{what}: median {statistics.median(seconds):.2f} s, {rate:.0f} MiB/s, of {len(seconds)}")
    print(f"packing runs at {statistics.median(taken['copy']) / statistics.median(taken['pack']):.2f} of copying")


def _bench_run(run: Path, rounds: int, flips: int) -> None:
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        folder = Path(name)
        capsule, other, store = folder / "a.tar", folder / "b.tar", folder / "store"
        _command(run, capsule)
        _command(run, other, store)
        taken: dict[str, list[float]] = {"copy": [], "pack": [], "pack, store": []}
        for _ in range(rounds):
            taken["copy"].append(_seconds(lambda: _copy(capsule, folder / "copy")))
            capsule.unlink()
            taken["pack"].append(_seconds(lambda: _command(run, capsule)))
            other.unlink()
            taken["pack, store"].append(_seconds(lambda: _command(run, other, store)))
        print(f"a capsule of {capsule.stat().st_size / 1e6:.0f} MB; with a store, {other.stat().st_size / 1e6:.1f} MB")
        for what, seconds in taken.items():
            print(f"{what}: median {statistics.median(seconds):.1f} s, {min(seconds):.1f} to {max(seconds):.1f}")
        assert not _is_named(capsule, 8 * capsule.stat().st_size), "the capsule itself is refused"
        named = sum(_is_named(capsule, place) for place in _places(capsule.stat().st_size, flips))
        print(f"{named} of {flips} changed bits were named")


def _command(run: Path, target: Path, store: Path | None = None) -> None:
    words = ("pack", str(run), "-o", str(target), "--without", "wheels", *(("--store", str(store)) if store else ()))
    subprocess.run([sys.executable, "-m", "samebits", *words], check=True, capture_output=True)


def _places(size: int, flips: int) -> list[int]:
    drawn = random.Random(19)
    return [drawn.randrange(8 * size) for _ in range(flips)]


class _Changed(io.FileIO):
    """A file one bit of which reads as the other."""

    def __init__(self, path: Path, place: int) -> None:
        super().__init__(path)
        self._at, self._bit = place // 8, 1 << place % 8

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        begin = self.tell()
        count = super().readinto(buffer) or 0
        if begin <= self._at < begin + count:
            buffer[self._at - begin] ^= self._bit
        return count


def _is_named(capsule: Path, place: int) -> bool:
    """Whether a changed bit is found before the end, as unpacking would."""
    with io.BufferedReader(_Changed(capsule, place), 1 << 20) as file:
        try:
            for _, blocks in Archive(file, "it").files():
                for _ in blocks:
                    pass
        except RecordError as error:
            return str(error).startswith("it ")
    return False


def _source(path: Path, size: int) -> Source:
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(block)
    return Source(member=Member(path="data/layer", size=size, digest=Digest.of_file(path)), path=path)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as one, target.open("wb") as other:
        while block := one.read(1 << 20):
            other.write(block)
        other.flush()
        os.fsync(other.fileno())
    target.unlink()


def _pack(source: Source, target: Path) -> None:
    members = (source.member,)
    contents = Contents(
        run="r", record="r", recipe="r", result=None, image=None, without=(), left_out=(), members=members
    )
    write_archive(target, contents, [source], lambda *_: None)
    target.unlink()


def _seconds(work: Callable[[], object]) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


if __name__ == "__main__":
    main()
