"""What packing a run costs beside copying, and whether each changed bit of a capsule is named (a few minutes).

Both read a file from the page cache and end with fsync; packing hashes it, too. Then the whole command packs a run with
its image and base, without a store, and with one that has them.
"""

import io
import os
import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from figures import Figure
from measuring import ROOT, Options, has_engine, interleaved, ratios, samebits, scratch, seconds

from samebits.core.digest import Digest
from samebits.core.errors import RecordError
from samebits.host.capsule.archive import Archive, Source, write_archive
from samebits.host.capsule.contents import Contents, Member

FLIPS = 200
SPEED = 0.8
"""The least speed of packing, as a part of that of copying."""


def measure(options: Options) -> Iterator[Figure]:
    """One large file, then a run of a container where an engine answers."""
    with scratch() as folder:
        yield from layer(folder, 16 if options.small else 256, options.rounds_or(5))
    if has_engine():
        with scratch() as folder:
            yield from run(folder, options)


def layer(folder: Path, mib: int, rounds: int) -> Iterator[Figure]:
    """A file of random bytes, copied and packed."""
    source = _source(folder / "layer", mib << 20)
    actions = {
        "copied": lambda: seconds(lambda: _copy(source.path, folder / "copy")),
        "packed": lambda: seconds(lambda: _pack(source, folder / "a.tar")),
    }
    found = {name: tuple(values) for name, values in interleaved(actions, rounds).items()}
    for name, values in found.items():
        yield Figure(table=f"{mib} MiB", row=name, column="time", unit="s", values=values)
    speed = ratios(found["copied"], found["packed"])
    yield Figure(table=f"{mib} MiB", row="packed", column="speed, of copying", values=speed, least=SPEED)


def run(folder: Path, options: Options) -> Iterator[Figure]:
    """The example's run with its image and base."""
    shutil.copytree(ROOT / "examples" / "digits", folder / "digits")
    samebits("train", "digits/train.py", "--data", "digits/data", "--runtime", "docker", folder=folder)
    (trained,) = (folder / "runs").glob("2*")
    capsule, other, store = folder / "a.tar", folder / "b.tar", folder / "store"

    def pack(target: Path, *words: str | Path) -> float:
        target.unlink(missing_ok=True)
        return samebits("pack", trained, "--without", "wheels", "-o", target, *words).seconds

    pack(capsule)
    pack(other, "--store", store)
    actions = {
        "the capsule, copied with `fsync`": lambda: seconds(lambda: _copy(capsule, folder / "copy")),
        "`samebits pack`": lambda: pack(capsule),
        "`samebits pack --store`, with the image in the store": lambda: pack(other, "--store", store),
    }
    for name, values in interleaved(actions, options.rounds_or(3)).items():
        yield Figure(table="a run with its image", row=name, column="time", unit="s", values=tuple(values))
    size = capsule.stat().st_size
    yield Figure(table="a run with its image", row="`samebits pack`", column="size", unit="MB", values=(size / 1e6,))
    if _is_named(capsule, 8 * size):
        raise SystemExit("the capsule itself is refused")
    flips = 2 if options.small else FLIPS
    named = sum(_is_named(capsule, place) for place in _places(size, flips))
    cell = partial(Figure, table="a run with its image", row=f"changed bits that are named, of {flips}", column="count")
    yield cell(unit="bits", values=(named,), least=flips)


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
