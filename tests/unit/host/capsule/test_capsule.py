"""Capsules: the same bytes for the same run, and no byte of a received one that is not checked."""

import functools
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from samebits.core.digest import Digest, with_checksum
from samebits.core.errors import RecordError
from samebits.core.jsonio import canonical_json
from samebits.core.run_dir import RunDir
from samebits.host.capsule.archive import Archive, header, padding
from samebits.host.capsule.contents import NAME, Member, order, read_contents
from support.fake_runner import Played, played

__all__ = ["played"]


_TEMPLATE: list[bytes] = []


@dataclass
class Packed:
    """A capsule, and the project of its run: without the run itself where it was only received."""

    path: Path
    played: Played

    @property
    def run(self) -> RunDir:
        return RunDir(min(self.played.project.runs.glob("*/record.json")).parent)

    def unpack(self, capsule: Path | None = None) -> str:
        """Why it is refused; nothing is left of it."""
        done = self.played.call("unpack", str(capsule or self.path), "-o", "unpacked")
        assert (done.status, done.out) == (2, "")
        assert not Path("unpacked").exists()
        assert not list(Path().glob(".samebits-*"))
        return done.complaint


@pytest.fixture
def packed(played: Played) -> Packed:
    run = played.train()
    done = played.call("pack", run.path.name, "-o", "a.tar")
    assert done.status == 0, done.err
    _TEMPLATE[:] = [Path("a.tar").read_bytes()]
    return Packed(Path("a.tar"), played)


@pytest.fixture
def received(played: Played, request: pytest.FixtureRequest) -> Packed:
    """Trained and packed once for all tests."""
    if not _TEMPLATE:
        request.getfixturevalue("packed")
    Path("a.tar").write_bytes(_TEMPLATE[0])
    return Packed(Path("a.tar"), played)


def read_through(content: bytes | bytearray) -> None:
    """Read all of a capsule, as unpacking does."""
    with open(os.memfd_create("capsule"), "w+b") as file:
        file.write(content)
        file.seek(0)
        for _, blocks in Archive(file, "it").files():
            for _ in blocks:
                pass


def test_the_same_bytes_again(packed: Packed) -> None:
    done = packed.played.call("pack", packed.run.path.name, "-o", "b.tar")
    assert done.status == 0, done.err
    assert Path("b.tar").read_bytes() == packed.path.read_bytes()


def test_any_tar_reads_it(received: Packed) -> None:
    with tarfile.open(received.path) as file:
        names = file.getnames()
        assert names[:3] == [NAME, "README.txt", "report.html"]
        assert {"run/record.json", "run/ledger.jsonl", "run/code/train.py", "data/numbers.csv"} <= set(names)
        contents = read_contents(file.extractfile(NAME).read())  # type: ignore[union-attr]
    assert received.played.call("unpack", "a.tar").line("digest") == str(contents.digest)


def test_back_again(packed: Packed) -> None:
    done = packed.played.call("unpack", "a.tar")
    assert (done.status, done.line("run")) == (0, "a/run")
    assert packed.played.call("audit", "a/run").out.splitlines()[-1] == "as recorded"
    for path in packed.run.path.rglob("*"):
        copy = Path("a/run") / path.relative_to(packed.run.path)
        assert copy.is_dir() if path.is_dir() else copy.read_bytes() == path.read_bytes()
    assert Path("a/data/numbers.csv").read_bytes() == packed.played.project.data.joinpath("numbers.csv").read_bytes()
    assert packed.played.call("unpack", "a.tar").complaint.startswith("a exists already")
    shutil.copy("a.tar", "capsule")
    assert packed.played.call("unpack", "capsule").complaint == "capsule is the file to unpack; name a folder with -o"


def test_verified(packed: Packed) -> None:
    """With its own data; what was unpacked is gone afterwards, and the new run stays."""
    packed.played.project.data.rename("elsewhere")
    done = packed.played.call("verify", "a.tar")
    assert done.out.splitlines()[-1] == "identical: 1 model", done.err
    assert packed.played.runs() == 2
    assert not list(packed.played.project.runs.glob(".samebits-capsule*"))


def test_an_unpacked_run_is_verified_with_the_data_beside_it(packed: Packed) -> None:
    packed.played.project.data.rename("elsewhere")
    assert packed.played.call("unpack", "a.tar").status == 0
    done = packed.played.call("verify", "a/run")
    assert done.out.splitlines()[-1] == "identical: 1 model", done.out + done.err
    Path("a/data/numbers.csv").write_text("others")
    done = packed.played.call("verify", "a/run")
    assert done.out.splitlines()[-1] == "not comparable", "it counts for its digest alone"


def test_two_hundred_changed_bits(received: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samebits.host.capsule.archive.header", functools.cache(header))  # of 200 equal lists
    content = bytearray(received.path.read_bytes())
    read_through(content)
    drawn = random.Random(19)
    # Half of them in what is not content: the first block, headers, padding, the end.
    places = [drawn.randrange(8 * len(content)) for _ in range(150)]
    places += [drawn.randrange(8 * 1024) for _ in range(25)]
    places += [8 * len(content) - 1 - drawn.randrange(8 * 2048) for _ in range(25)]
    for place in places:
        content[place // 8] ^= 1 << place % 8
        with pytest.raises(RecordError, match=r"^it (was changed after it was packed|is no capsule): "):
            read_through(content)
        content[place // 8] ^= 1 << place % 8


@pytest.mark.parametrize("place", [0, 600, 200_000, -700])
def test_a_changed_bit_on_the_command_line(received: Packed, place: int) -> None:
    content = bytearray(received.path.read_bytes())
    content[place] ^= 1
    received.path.write_bytes(content)
    trained = len(received.played.player.trained)
    assert "a.tar" in received.unpack()
    done = received.played.call("verify", "a.tar")
    assert (done.status, len(received.played.player.trained)) == (2, trained)
    assert "a.tar" in done.complaint


# Archives that someone else has made.


def _edited(content: bytes, edit: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes] | None]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as old, tarfile.open(fileobj=made, mode="w") as new:
        for info in old:
            file = old.extractfile(info)
            found = edit(info, b"" if file is None else file.read())
            if found is not None:
                new.addfile(found[0], io.BytesIO(found[1]))
    # Without tarfile's padding to a record, so that the length is not what is found.
    return made.getvalue()


def _as(kind: bytes, link: str = "") -> Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]:
    def edit(info: tarfile.TarInfo, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if info.name != "run/code/train.py":
            return info, content
        info.type, info.linkname, info.size = kind, link, 0
        return info, b""

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_as(tarfile.SYMTYPE, "/etc/passwd"), "run/code/train.py is a link in the archive"),
        (_as(tarfile.LNKTYPE, "run/record.json"), "run/code/train.py is a link in the archive"),
        (_as(tarfile.FIFOTYPE), "run/code/train.py is a pipe in the archive"),
        (_as(tarfile.CHRTYPE), "run/code/train.py is a device in the archive"),
        (_as(tarfile.DIRTYPE), "run/code/train.py is a folder in the archive"),
        (_as(tarfile.GNUTYPE_SPARSE), "run/code/train.py is a sparse file in the archive"),
    ],
)
def test_another_kind_of_file(received: Packed, edit: Callable[..., None], said: str) -> None:
    original = received.path.read_bytes()
    content = _edited(original, edit)[: len(original)]
    received.path.write_bytes(content.ljust(len(original), b"\0"))
    assert said in received.unpack()


def rewritten(content: bytes, edit: Callable[[dict[str, object]], object]) -> bytes:
    """A capsule with another `capsule.json`, whose checksum is right, and nothing else changed."""
    size = tarfile.TarInfo.frombuf(content[:512], "utf-8", "strict").size
    values = json.loads(content[512 : 512 + size])
    edit(values)
    new = canonical_json(with_checksum({name: item for name, item in values.items() if name != "seal"})) + b"\n"
    rest = content[512 + size + len(padding(size)) :]
    return header(Member(path=NAME, size=len(new))) + new + padding(len(new)) + rest


def _path(path: str) -> Callable[[dict[str, object]], object]:
    return lambda values: values["members"][-1].update(path=path)  # type: ignore[index]


def _first(**new: object) -> Callable[[dict[str, object]], object]:
    return lambda values: values["members"][0].update(new)  # type: ignore[index]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_path("run/../../x"), "'run/../../x' is no path beneath a run's folder"),
        (_path("/etc/passwd"), "'/etc/passwd' is no path"),
        (_path("elsewhere/x"), "'elsewhere/x' is no path of a capsule"),
        (_path("run/" + "x" * 300), "is longer or deeper than any path of a run"),
        (_path("run/" + "x/" * 80 + "y"), "is longer or deeper than any path of a run"),
        (_path("run/code/train.py"), "it names 'run/code/train.py' twice"),
        (_path("run/ledger.jsonl/x"), "'run/ledger.jsonl' is no folder, and holds 'run/ledger.jsonl/x'"),
        (_path("run/a"), "its files are not sorted"),
        (_first(size=-1), "'size' of 'README.txt' must not be negative"),
        (_first(size=1 << 60), "its files need 1152921504"),
        (_first(digest=f"sha256:{'0' * 64}"), "README.txt has another digest than capsule.json names"),
        (_first(executable=True), "README.txt has another header, of 'README.txt'"),
        (_first(stored=True), "bytes, and its files need"),
        (lambda values: values.update(version="2.0"), "newer than this samebits reads"),
        (lambda values: values.update(run="another"), "names another run than the run's record"),
        (lambda values: values.update(result=None), "names another result than the run's record"),
        (lambda values: values["members"].pop(), "bytes, and its files need"),
    ],
)
def test_what_its_list_may_not_name(received: Packed, edit: Callable[..., object], said: str) -> None:
    received.path.write_bytes(rewritten(received.path.read_bytes(), edit))
    assert said in received.unpack()


def test_a_run_that_is_not_as_its_record_says(received: Packed) -> None:
    """Whoever makes a capsule can make its digests right. The run's own still count."""
    content = received.path.read_bytes()
    at = content.index(b"import", content.index(b"run/code/train.py\0"))
    forged = content[:at] + b"IMPORT" + content[at + 6 :]
    with tarfile.open(fileobj=io.BytesIO(forged)) as file:
        digest = Digest.of_bytes(file.extractfile("run/code/train.py").read())  # type: ignore[union-attr]

    def edit(values: dict[str, list[dict[str, object]]]) -> None:
        next(item for item in values["members"] if item["path"] == "run/code/train.py")["digest"] = str(digest)

    received.path.write_bytes(rewritten(forged, edit))  # type: ignore[arg-type]
    assert "not as its record says: code/train.py was changed" in received.unpack()


def test_no_capsule(received: Packed) -> None:
    Path("text").write_text("hello")
    assert received.unpack(Path("text")) == "text is no capsule: it does not begin with capsule.json"
    os.mkfifo("pipe")
    assert received.unpack(Path("pipe")) == "cannot read pipe: it is a pipe"
    Path("link").symlink_to("a.tar")
    assert "link" in received.unpack(Path("link"))
    with Path("sparse").open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    assert "no capsule" in received.unpack(Path("sparse"))


@pytest.mark.parametrize(("program", "back"), [("gzip", "gunzip"), ("xz", "unxz"), ("zstd", "unzstd")])
def test_a_compressed_capsule(received: Packed, program: str, back: str) -> None:
    """Nothing unpacks it but the program that the line names; the bytes are then the packed ones."""
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    packed = received.path.read_bytes()
    subprocess.run([program, "-q", "a.tar"], check=True, timeout=60)
    received.path.unlink(missing_ok=True)
    (compressed,) = Path().glob("a.tar.*")
    trained = len(received.played.player.trained)
    for words in (("unpack", "-o", "unpacked"), ("verify",)):
        complaint = received.played.call(*words, str(compressed)).complaint
        assert complaint == f"{compressed} is compressed, and a capsule is checked as it was packed; run `{back}` first"
    assert len(received.played.player.trained) == trained
    subprocess.run([back, "-q", str(compressed)], check=True, timeout=60)
    assert received.path.read_bytes() == packed


def test_a_full_disk(received: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert received.unpack().endswith("free some space")


# Packing.


def test_what_is_left_out(packed: Packed) -> None:
    call = packed.played.call
    assert call("pack", "last", "-o", "b.tar", "--without", "data,checkpoints").status == 0
    assert call("unpack", "b.tar").status == 0
    assert not Path("b/data").exists()
    assert not Path("b/run/checkpoints").exists()
    assert "Not in this capsule: image, base, data, checkpoints." in Path("b/README.txt").read_text()
    assert call("verify", "b.tar").out.splitlines()[-1] == "identical: 1 model"
    assert "--without takes" in call("pack", "last", "--without", "sense").complaint


def test_what_cannot_be_packed(packed: Packed) -> None:
    call, run = packed.played.call, packed.run.path
    assert call("pack", "last", "-o", "a.tar").complaint.startswith("a.tar exists already")
    assert "would change it" in call("pack", "last", "-o", f"{run}/x.tar").complaint
    assert "there is no folder" in call("pack", "last", "-o", "nowhere/x.tar").complaint
    data = packed.played.project.data / "numbers.csv"
    data.write_bytes(data.read_bytes()[::-1])
    assert "is not the file of the run any more" in call("pack", "last", "-o", "b.tar").complaint
    data.unlink()
    assert "cannot read" in call("pack", "last", "-o", "b.tar").complaint
    data.parent.rmdir()
    assert "name it with --data DIR, or leave it out" in call("pack", "last", "-o", "b.tar").complaint
    (run / "code" / "train.py").chmod(0o644)
    (run / "code" / "train.py").write_text("other")
    assert "code/train.py was changed" in call("pack", "last", "-o", "b.tar", "--without", "data").complaint
    assert not Path("b.tar").exists()


def test_the_wheels_of_a_virtual_environment(packed: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that pip chooses on this machine, for the recorded Python; they are where its environment is made from."""
    from samebits.core.errors import ToolError
    from samebits.host.image.received import packed_beside
    from samebits.host.image.wheelhouse import Target

    python = packed.run.read().recipe.image.python
    assert python is not None
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.33"))
    asked: list[tuple[Target, bool]] = []

    def download(_: Path, target: Target, *, offline: bool) -> Path:
        asked.append((target, offline))
        raise ToolError("no network")

    monkeypatch.setattr("samebits.host.capsule.gather.prepare_wheelhouse", download)
    done = packed.played.call("pack", "last", "-o", "b.tar")
    assert done.complaint == "no network, or leave the wheels out (--without wheels)"
    major, minor, _ = python.split(".")
    assert asked == [(Target(python=(int(major), int(minor)), glibc=33), False)]
    assert packed.played.call("pack", "last", "-o", "b.tar", "--without", "wheels").status == 0
    assert packed.played.call("unpack", "b.tar").status == 0
    assert packed_beside(Path("b/run"), "wheels") is None
    assert packed.played.call("unpack", "a.tar").status == 0
    wheels = packed_beside(Path("a/run"), "wheels")
    assert wheels is not None
    assert [path.read_bytes() for path in wheels.iterdir()] == [b"a wheel"]
    assert packed_beside(packed.run.path, "wheels") is None, "a run that was not unpacked"
    command = f"samebits verify CAPSULE --trust-its-code {packed.run.read().id}\n"
    for folder, packages in (("a", "Its packages are in wheels/."), ("b", "Its packages come from an index.")):
        text = Path(folder, "README.txt").read_text()
        assert command in text
        assert f"You need Python {python} on x86-64 Linux. {packages}" in text
        assert "Not possible: the run was not trained in a container." in text


def test_the_inputs_of_a_run(
    played: Played, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Files from the network are in the capsule, and on another machine they are taken from there."""
    from samebits.core.inputs_lock import InputsLock, PinnedFile
    from samebits.host.inputs.store import InputStore

    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path_factory.mktemp("cache")))
    store = InputStore()
    path = store.draft() / "a.bin"
    path.write_bytes(b"an input")
    lock = InputsLock.of([PinnedFile(path="home/a.bin", digest=store.adopt(path), size=8, url=None)])
    lock.write(played.project.folder / "inputs.lock")
    run = played.train()
    assert run.read().recipe.inputs == lock.digest
    allowed = ("--trust-its-code", run.path.name)
    assert played.call("pack", "last", "-o", "a.tar").status == 0
    assert played.call("pack", "last", "-o", "b.tar", "--without", "inputs").status == 0
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path_factory.mktemp("cache")))
    assert "1 input not here" in played.call("verify", "b.tar", *allowed).out
    done = played.call("verify", "a.tar", *allowed)
    assert done.out.splitlines()[-1] == "identical: 1 model", done.out + done.err
    assert played.call("unpack", "a.tar").status == 0
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path_factory.mktemp("cache")))
    assert played.call("verify", "a/run", *allowed).out.splitlines()[-1] == "identical: 1 model"


def test_links_are_left_out(played: Played) -> None:
    """A capsule holds files alone; what a script has linked is named, and nothing else is missing."""
    run = played.train()
    (run.outputs / "latest").symlink_to("/etc/passwd")
    done = played.call("pack", "last", "-o", "a.tar")
    assert done.status == 2, "it was added after the run"
    assert "outputs/latest" in done.complaint


def test_a_shared_store(received: Packed) -> None:
    """Layers lie in the store once; a capsule without its store, or with a changed one, is refused."""
    from samebits.core.errors import InputError
    from samebits.host.capsule.archive import Source, write_archive
    from samebits.host.capsule.blob_store import BlobStore
    from samebits.host.capsule.unpack import unpack

    content = b"a layer" * 100
    digest = Digest.of_bytes(content)
    layer = Member(path=f"image/blobs/sha256/{digest.hex}", size=len(content), digest=digest)
    source = BlobStore(Path("store")).take(Source(member=layer, content=content))
    with received.path.open("rb") as file:
        old = Archive(file, "a").contents
    received.played.call("unpack", "a.tar")
    sources = [Source(member=member, path=Path("a") / member.path) for member in old.members]
    sources = sorted([*sources, source], key=lambda item: order(item.member))
    contents = old.with_members(item.member for item in sources)
    contents = write_archive(Path("b.tar"), contents, sources, lambda *_: None)
    assert content not in Path("b.tar").read_bytes()
    found = unpack(Path("b.tar"), Path("b"), Path("store"))
    assert (found.folder / layer.path).read_bytes() == content
    with pytest.raises(InputError, match="keeps 1 of its files in a store; name it with --store"):
        unpack(Path("b.tar"), Path("c"))
    (stored,) = Path("store/sha256").iterdir()
    stored.write_bytes(content[::-1])
    with pytest.raises(RecordError, match="was changed; restore it"):
        unpack(Path("b.tar"), Path("c"), Path("store"))
    BlobStore(Path("store")).take(Source(member=replace(layer), content=content))
    assert stored.read_bytes() == content, "one that was damaged is written again"
    stored.unlink()
    with pytest.raises(RecordError, match="the store store lacks"):
        unpack(Path("b.tar"), Path("c"), Path("store"))
    assert not Path("c").exists()
