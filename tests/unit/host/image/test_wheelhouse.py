"""The wheelhouse: real fetches through pip, from a folder of small wheels in place of an index."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from samebits.core.errors import ImageError, InputError, ToolError
from samebits.host.image.wheelhouse import IMAGE_TARGET, Target, prepare_wheelhouse

_TAG = "cp313-cp313-manylinux_2_28_x86_64"


@dataclass(frozen=True)
class Bench:
    """An index of wheels, locks beside it, and the cache that is to be filled."""

    folder: Path

    @property
    def index(self) -> Path:
        return self.folder / "index"

    @property
    def store(self) -> Path:
        return self.folder / "cache" / "wheels"

    def wheel(self, name: str, version: str = "1.0", tag: str = "py3-none-any", *, content: str = "") -> str:
        """Put a wheel into the index; its sha256."""
        info = f"{name}-{version}.dist-info"
        files = {
            f"{name}.py": content or f"tag = {tag!r}\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: {tag}\n",
        }
        record = "".join(f"{path},sha256={_record_hash(text)},{len(text)}\n" for path, text in files.items())
        path = self.index / f"{name}-{version}-{tag}.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for inner, text in (files | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
                archive.writestr(zipfile.ZipInfo(inner), text)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def lock(self, pins: dict[str, list[str]], name: str = "some.lock") -> Path:
        """A lock of `requirement: hashes`."""
        path = self.folder / name
        entries = (" \\\n    --hash=sha256:".join([pin, *hashes]) for pin, hashes in pins.items())
        path.write_text("# a lock\n" + "\n".join(entries) + "\n")
        return path

    def two(self) -> Path:
        """A lock of two wheels."""
        return self.lock({"alpha==1.0": [self.wheel("alpha")], "beta==1.0": [self.wheel("beta", tag=_TAG)]})

    def stored(self, name: str) -> Path:
        """The one wheel of a package in the store."""
        (path,) = self.store.glob(f"*/{name}-*.whl")
        return path

    def disconnect(self) -> None:
        """From now on nothing can be fetched."""
        shutil.rmtree(self.index)


def _record_hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _flip(path: Path) -> None:
    """Change one bit in the middle of a file, in place."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path)
    made.index.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.index))
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path / "cache"))
    return made


def _fails(lock: Path, *, offline: bool = False) -> str:
    with pytest.raises(ImageError) as caught:
        prepare_wheelhouse(lock, offline=offline)
    return str(caught.value)


def test_fill_then_use_again(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    lock = bench.two()
    bench.wheel("gamma")
    folder = prepare_wheelhouse(lock)
    wheels = ["alpha-1.0-py3-none-any.whl", f"beta-1.0-{_TAG}.whl"]
    assert _names(folder) == wheels
    for name in wheels:
        content = (folder / name).read_bytes()
        assert content == (bench.index / name).read_bytes()
        assert (folder / name).samefile(bench.store / hashlib.sha256(content).hexdigest() / name)
    assert capsys.readouterr().err == "samebits: downloading 2 wheels\n"
    bench.disconnect()
    assert prepare_wheelhouse(lock) == prepare_wheelhouse(lock, offline=True) == folder
    assert _names(folder) == wheels
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("wheel", ["store", "folder"])
def test_a_flipped_bit_is_found_and_fetched_again(wheel: str, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    lock = bench.two()
    folder = prepare_wheelhouse(lock)
    name = "alpha-1.0-py3-none-any.whl"
    _flip(bench.stored("alpha") if wheel == "store" else folder / name)
    capsys.readouterr()
    assert prepare_wheelhouse(lock) == folder
    assert (folder / name).read_bytes() == (bench.index / name).read_bytes()
    assert capsys.readouterr().err.splitlines() == [
        f"samebits: the wheel {name} in the wheelhouse was corrupted; downloading it again",
        "samebits: downloading 1 wheel",
    ]


def test_a_corrupted_wheel_is_not_replaced_by_a_lesser_one(bench: Bench) -> None:
    lesser = bench.wheel("alpha")
    prepare_wheelhouse(bench.lock({"alpha==1.0": [lesser]}, "lesser.lock"))
    lock = bench.lock({"alpha==1.0": [lesser, bench.wheel("alpha", tag=_TAG)]})
    folder = prepare_wheelhouse(lock)
    _flip(folder / f"alpha-1.0-{_TAG}.whl")
    kept = bench.index.rename(bench.folder / "kept")
    for _ in range(2):
        assert _fails(lock).startswith(f"no index has a wheel of alpha==1.0 (some.lock:2) for {IMAGE_TARGET};")
    kept.rename(bench.index)
    assert _names(prepare_wheelhouse(lock)) == [f"alpha-1.0-{_TAG}.whl"]


def test_corrupted_offline(bench: Bench) -> None:
    lock = bench.two()
    prepare_wheelhouse(lock)
    _flip(bench.stored("beta"))
    wanted = f"the wheel beta-1.0-{_TAG}.whl in the wheelhouse is corrupted; run once online to download it again"
    assert _fails(lock, offline=True) == wanted


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ("a", "1 of the wheels of some.lock are missing: a==1.0; run once online"),
        ("abcd", "4 of the wheels of some.lock are missing: a==1.0, b==1.0, c==1.0, …; run once online"),
    ],
)
def test_missing_offline(names: str, complaint: str, bench: Bench) -> None:
    pins = {f"{name}==1.0": [bench.wheel(name)] for name in names}
    assert _fails(bench.lock(pins), offline=True) == complaint
    assert not list(bench.store.rglob("*.whl"))


def test_a_lock_without_a_hash(bench: Bench) -> None:
    bench.wheel("alpha")
    with pytest.raises(InputError, match=r"some\.lock:2: alpha has no hash;"):
        prepare_wheelhouse(bench.lock({"alpha==1.0": []}))


@pytest.mark.parametrize("there", [["1.0"], []])
def test_a_version_that_no_index_has(there: list[str], bench: Bench) -> None:
    hashes = [bench.wheel("alpha", version) for version in there] or ["0" * 64]
    assert _fails(bench.lock({"Alpha==9.9": hashes})) == (
        "no index has a wheel of alpha==9.9 (some.lock:2) for cp313-manylinux_2_28_x86_64; check the lock and the index"
    )


def test_an_index_that_does_not_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert _fails(bench.lock({"alpha==1.0": ["0" * 64]})).endswith("x86_64; check your network")


@pytest.mark.parametrize("count", [1, 5])
def test_a_hash_of_no_file(count: int, bench: Bench) -> None:
    bench.wheel("alpha")
    assert _fails(bench.lock({"alpha==1.0": [f"{number:064}" for number in range(count)]})) == (
        "the index's alpha-1.0-py3-none-any.whl has none of the hashes of alpha==1.0 (some.lock:2);"
        " trust neither until you know why"
    )
    assert not list(bench.store.rglob("*.whl"))


def test_pip_that_fails_otherwise(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_RETRIES", "many")
    with pytest.raises(ToolError, match=r"^downloading the locked wheels failed with status \d: .*retries"):
        prepare_wheelhouse(bench.two())


def test_two_locks_share_the_store(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    first = bench.two()
    second = bench.folder / "second.lock"
    gamma = bench.lock({"gamma==1.0": [bench.wheel("gamma")]}, "gamma.lock")
    second.write_text(first.read_text() + gamma.read_text())
    one, other = prepare_wheelhouse(first), prepare_wheelhouse(second)
    assert capsys.readouterr().err == "samebits: downloading 2 wheels\nsamebits: downloading 1 wheel\n"
    assert one != other
    assert len(_names(other)) == 3
    for name in _names(one):
        assert (one / name).samefile(other / name)


def test_a_wheel_for_another_python_is_not_chosen(bench: Bench) -> None:
    tags = ["cp311-cp311-manylinux_2_17_x86_64", "py3-none-any", "cp312-abi3-manylinux2014_x86_64", _TAG]
    hashes = [bench.wheel("alpha", tag=tag) for tag in tags]
    lock = bench.lock({"alpha==1.0": hashes})
    assert _names(prepare_wheelhouse(lock, Target(python=(3, 11)))) == [f"alpha-1.0-{tags[0]}.whl"]
    assert _fails(lock, offline=True).startswith("1 of the wheels")
    assert _names(prepare_wheelhouse(lock)) == [f"alpha-1.0-{_TAG}.whl"]


def test_a_fitting_wheel_of_another_python_does_not_stand_in_for_a_better_one(bench: Bench) -> None:
    lesser, better = "cp37-abi3-manylinux_2_17_x86_64", "cp312-abi3-manylinux_2_17_x86_64"
    lock = bench.lock({"alpha==1.0": [bench.wheel("alpha", tag=tag) for tag in (lesser, better)]})
    assert _names(prepare_wheelhouse(lock, Target(python=(3, 11)))) == [f"alpha-1.0-{lesser}.whl"]
    assert _names(prepare_wheelhouse(lock, offline=True)) == [f"alpha-1.0-{lesser}.whl"]
    assert _names(prepare_wheelhouse(lock)) == [f"alpha-1.0-{better}.whl"]


@pytest.mark.parametrize(
    "tags",  # of two wheels the first is the better one
    [
        (_TAG, "cp313-abi3-manylinux_2_28_x86_64"),
        ("cp313-abi3-manylinux2014_x86_64", "cp311-abi3-manylinux2014_x86_64"),
        ("cp311-abi3-manylinux2014_x86_64", "py3-none-manylinux_2_28_x86_64"),
        ("py3-none-manylinux_2_28_x86_64", "py3-none-any"),
        ("cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64", "cp313-cp313-manylinux1_x86_64"),
        ("py2.py3-none-any", "cp313-cp313-manylinux_2_29_x86_64"),
        ("py3-none-any", "cp313-cp313t-manylinux_2_28_x86_64"),
        ("py3-none-any", "cp313-cp313-musllinux_1_2_x86_64"),
        ("py3-none-any", "cp313-cp313-manylinux_2_28_aarch64"),
        ("py3-none-any", "cp314-abi3-manylinux_2_28_x86_64"),
    ],
)
@pytest.mark.parametrize("stored", [False, True])
def test_priority(tags: tuple[str, str], stored: bool, bench: Bench) -> None:
    """Pip's choice is ours, and the same from the store alone."""
    hashes = {tag: bench.wheel("alpha", tag=tag) for tag in tags}
    if stored:
        for tag, digest in hashes.items():
            (bench.store / digest).mkdir(parents=True)
            shutil.copy(bench.index / f"alpha-1.0-{tag}.whl", bench.store / digest)
        bench.disconnect()
    lock = bench.lock({"alpha==1.0": list(hashes.values())})
    assert _names(prepare_wheelhouse(lock, offline=stored)) == [f"alpha-1.0-{tags[0]}.whl"]


def test_markers_are_those_of_the_target(bench: Bench) -> None:
    wanted = [
        'python_version >= "3.13"',
        'sys_platform == "linux" and platform_machine == "x86_64"',
        'python_full_version == "3.13.0" and implementation_name == "cpython"',
        'platform_release == ""',
    ]
    unwanted = ['python_version < "3.13"', 'sys_platform == "win32"', 'extra == "x"']
    markers = dict(zip("abcdefg", wanted + unwanted, strict=True))
    lock = bench.lock({f"{name}==1.0 ; {marker}": [bench.wheel(name)] for name, marker in markers.items()})
    assert _names(prepare_wheelhouse(lock)) == [f"{name}-1.0-py3-none-any.whl" for name in "abcd"]
    assert "e-1.0-py3-none-any.whl" in _names(prepare_wheelhouse(lock, Target(python=(3, 11))))


def _add(folder: Path) -> None:
    (folder / "stray.whl").write_text("x")
    (folder / "folder").mkdir()


def _replace(folder: Path) -> None:
    (folder / "alpha-1.0-py3-none-any.whl").unlink()
    (folder / "alpha-1.0-py3-none-any.whl").write_text("x")


@pytest.mark.parametrize("spoil", [_add, _replace, lambda folder: next(folder.iterdir()).unlink(), shutil.rmtree])
def test_a_spoilt_folder_is_mended_from_the_store(spoil: Callable[[Path], None], bench: Bench) -> None:
    lock = bench.two()
    folder = prepare_wheelhouse(lock)
    bench.disconnect()
    spoil(folder)
    assert _names(prepare_wheelhouse(lock)) == ["alpha-1.0-py3-none-any.whl", f"beta-1.0-{_TAG}.whl"]
    assert (folder / "alpha-1.0-py3-none-any.whl").samefile(bench.stored("alpha"))


def test_a_copy_is_as_good_as_a_link(bench: Bench) -> None:
    lock = bench.two()
    folder = prepare_wheelhouse(lock)
    name = "alpha-1.0-py3-none-any.whl"
    (folder / name).unlink()
    shutil.copyfile(bench.stored("alpha"), folder / name)
    before = (folder / name).stat().st_ino
    prepare_wheelhouse(lock)
    assert (folder / name).stat().st_ino == before


def test_what_a_killed_process_left_is_cleared_away(bench: Bench) -> None:
    left = bench.store / ".filling-x"
    left.mkdir(parents=True)
    (left / "half.whl").touch()
    prepare_wheelhouse(bench.two())
    assert not left.exists()
    assert not list((bench.folder / "cache").rglob(".filling-*"))


def test_two_processes_at_once(bench: Bench) -> None:
    lock = bench.two()
    code = f"from pathlib import *; from {prepare_wheelhouse.__module__} import *; print(prepare_wheelhouse({lock!r}))"
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=100) for process in both]
    assert sorted(err for _, err in answers) == ["", "samebits: downloading 2 wheels\n"]
    assert {out for out, _ in answers} == {f"{prepare_wheelhouse(lock)}\n"}


def test_another_machine(bench: Bench) -> None:
    lock = bench.two()
    with pytest.raises(ImageError, match=r"^images are built for aarch64 only, and this machine is "):
        prepare_wheelhouse(lock, Target(python=(3, 13), machine="aarch64"))


def test_what_pip_brings_is_not_believed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pip that checks no hashes, or lies: the wheel is refused, and none of it reaches the store."""
    bench.wheel("alpha", content="stranger = True\n")

    def brings_it(command: list[str], **_: object) -> str:
        shutil.copy(bench.index / "alpha-1.0-py3-none-any.whl", command[command.index("--dest") + 1])
        return ""

    monkeypatch.setattr("samebits.host.image.wheelhouse.run_tool", brings_it)
    assert "has none of the hashes of alpha==1.0" in _fails(bench.lock({"alpha==1.0": ["0" * 64]}))
    assert list(bench.store.glob("*/*.whl")) == []
