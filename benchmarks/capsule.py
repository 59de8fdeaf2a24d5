#!/usr/bin/env python3
"""Pack one large file into a capsule, and copy it, in turns: `python benchmarks/capsule.py [--mib 1024] [--rounds 5]`.

Both read a file from the page cache and end with fsync. Packing hashes it, too.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from samebits.core.digest import Digest
from samebits.host.capsule.archive import Source, write_archive
from samebits.host.capsule.contents import Contents, Member


def main() -> None:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
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
