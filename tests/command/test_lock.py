"""`samebits lock` by pip-tools itself, with a folder of made wheels as the index."""

import hashlib
import io
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from samebits.host.image.build_context import CPU, context_file
from samebits.host.image.lockfile import read_lock
from support.command import Done, call

pytestmark = pytest.mark.slow

_OWN = {pin.name: pin.version for pin in read_lock(context_file(CPU.lock))}
_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
_NEEDS = {
    ("tensorflow-cpu", _OWN["tensorflow-cpu"]): ["numpy>=1.26", "keras>=3.12", "ml-dtypes<1,>=0.5.1"],
    ("tensorflow-cpu", "2.18.1"): ["numpy<2.1,>=1.26", "keras>=3.5", "ml-dtypes<1,>=0.4"],
    ("ml-dtypes", _OWN["ml-dtypes"]): ["numpy>=2.1"],
    ("ml-dtypes", "0.5.4"): ["numpy>=1.21"],
    ("oldmath", "1.0"): ["numpy<2"],
    ("oldmath", "2.0"): ["numpy>=1"],
}
_OTHERS = [("numpy", "1.26.4"), ("numpy", "2.0.2"), ("oldmath", "1.0"), ("oldmath", "2.0"), *_NEEDS]


@dataclass(frozen=True)
class Index:
    """A folder as pip reads an index."""

    folder: Path

    def wheel(self, name: str, version: str, needs: list[str], tag: str = "py3-none-any") -> None:
        """A wheel without code."""
        base = f"{name.replace('-', '_')}-{version}"
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {item}" for item in needs)]
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr(f"{base}.dist-info/METADATA", "\n".join(["Metadata-Version: 2.1", *lines]) + "\n")
            archive.writestr(f"{base}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        self._add(name, f"{base}-{tag}.whl", content.getvalue())

    def source(self, name: str, version: str) -> None:
        """A source distribution; nothing here looks into it."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz"):
            pass
        self._add(name, f"{name}-{version}.tar.gz", content.getvalue())

    def _add(self, name: str, file: str, content: bytes) -> None:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / file).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        with open(folder / "index.html", "a") as page:
            page.write(f'<a href="{file}#sha256={digest}">{file}</a>\n')


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """All that samebits pins, and some other versions."""
    index = Index(tmp_path_factory.mktemp("index"))
    for name, version in dict.fromkeys([*_OWN.items(), *_OTHERS]):
        index.wheel(name, version, _NEEDS.get((name, version), []))
    index.source("sourceonly", "1.0")
    index.wheel("oldpython", "1.0", [], "cp35-cp35m-manylinux2010_x86_64")
    return index


@dataclass(frozen=True)
class Locking:
    """A project whose packages come from an index."""

    folder: Path
    settings: Mapping[str, str]

    def lock(self, *requirements: str, **settings: str) -> Done:
        """`samebits lock` with these requirements."""
        self.source.write_text("\n".join(requirements))
        return call("--quiet", "lock", folder=self.folder, **{**self.settings, **settings})

    @property
    def source(self) -> Path:
        return self.folder / "requirements.in"

    @property
    def pins(self) -> dict[str, str]:
        return {pin.name: pin.version for pin in read_lock(self.folder / "requirements.lock")}


@pytest.fixture
def locking(index: Index, tmp_path: Path) -> Locking:
    # Nothing of this machine's own settings: the index is all there is.
    own = {"PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": index.folder.as_uri()}
    return Locking(tmp_path, own)


@pytest.mark.parametrize(
    ("asked", "locked"),
    [
        # Neither names ml-dtypes, whose pin does not go with this NumPy.
        (["numpy<2"], {"numpy": "1.26.4", "ml-dtypes": "0.5.4", "tensorflow-cpu": _OWN["tensorflow-cpu"]}),
        (["tensorflow==2.18.1"], {"numpy": "2.0.2", "ml-dtypes": "0.5.4", "tensorflow-cpu": "2.18.1"}),
        (["oldmath"], {**_OWN, "oldmath": "2.0"}),
    ],
)
def test_the_projects_choice_wins(locking: Locking, asked: list[str], locked: dict[str, str]) -> None:
    """Also over a lock that is there, whose pins contradict it."""
    for _ in range(2):
        done = locking.lock(*asked)
        assert done.status == 0, done.err
        assert locking.pins.items() >= locked.items()
        assert {"nvidia-ml-py", "xxhash"} <= locking.pins.keys()
        assert locking.lock("oldmath").status == 0


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (
            ["oldmath==1.0"],
            f"""oldmath 1.0 needs numpy<2, and samebits pins numpy=={_OWN["numpy"]};
            oldmath==2.0 would agree, or require numpy in requirements.in, to have another than samebits's""",
        ),
        (
            ["tensorflow==2.18.1", "numpy>=2.2"],
            f"""no versions agree: the project needs numpy>=2.2, tensorflow-cpu 2.18.1 needs numpy<2.1,>=1.26;
            numpy==2.0.2 or tensorflow-cpu=={_OWN["tensorflow-cpu"]} would agree; change {{file}}""",
        ),
        (
            ["sourceonly"],
            f"""cannot lock {{file}}: sourceonly has no wheel for Python {_PYTHON}, only its source; require a version
            that has one, or build its wheel once with `samebits lock --build sourceonly`, which runs its code on this
            machine""",
        ),
        (
            ["oldpython"],
            f"""cannot lock {{file}}: oldpython has no wheel for Python {_PYTHON}, only for 3.5; choose one with python
            in samebits.toml""",
        ),
        (
            ["oldmath==3.0"],
            f"""cannot lock {{file}}: no index has a wheel of oldmath==3.0 for Python {_PYTHON}; there are versions 2.0,
            1.0""",
        ),
        (["misspelt"], "cannot lock {file}: no index has misspelt; check its name on https://pypi.org"),
    ],
)
def test_what_cannot_be_locked(locking: Locking, asked: list[str], complaint: str) -> None:
    """One line, and the lock that was there stays."""
    lock = locking.folder / "requirements.lock"
    lock.write_text("# kept\n")
    done = locking.lock(*asked)
    assert (done.status, done.complaint) == (2, " ".join(complaint.split()).format(file=locking.source))
    assert lock.read_text() == "# kept\n"


def test_an_index_that_does_not_answer(locking: Locking) -> None:
    done = locking.lock("oldmath", PIP_INDEX_URL="http://127.0.0.1:9/simple")
    assert done.status == 2
    assert done.complaint == (
        f"cannot lock {locking.source}: an index does not answer; check the network, and the indexes in pip's settings"
    )


def test_no_index_is_in_the_lock(locking: Locking, index: Index) -> None:
    """Whoever clones the project has other indexes."""
    assert locking.lock("oldmath").status == 0
    assert str(index.folder) not in (locking.folder / "requirements.lock").read_text()
