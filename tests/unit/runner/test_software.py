"""Whether the software is what the recipe names: each difference is found, by its name."""

import importlib.metadata
import os
import platform
import sys
import sysconfig
import types
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.environment import Mount
from samebits.core.errors import InputError
from samebits.core.recipe import ImageIdentity
from samebits.host.image.build_context import CPU, source_digest, write_context
from samebits.runner import software

_LOCK = "numpy==2.4.6 \\\n    --hash=sha256:0\nml-dtypes==0.6.0 \\\n    --hash=sha256:1\n"
_RECIPE = ImageIdentity(lock=CPU.lock_digest, source=source_digest(CPU), python="3.0.0")


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build context, and the packages of its lock."""
    write_context(CPU, tmp_path, b"{}")
    pins = software._PIN.findall((tmp_path / "lock" / "requirements.lock").read_text())
    monkeypatch.setattr(software, "CONTEXT", tmp_path)
    monkeypatch.setattr(software, "distributions", lambda: dict(pins))
    monkeypatch.setattr(platform, "python_version", lambda: "3.0.0")
    return tmp_path


def _complaint() -> str:
    with pytest.raises(InputError) as caught:
        software.check_software(_RECIPE)
    return str(caught.value)


def test_what_the_recipe_names(context: Path) -> None:
    assert context.exists()
    software.check_software(_RECIPE)
    software.check_software(replace(_RECIPE, python=None))


def test_another_python(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert context.exists()
    monkeypatch.setattr(platform, "python_version", lambda: "3.0.1")
    assert _complaint() == "the interpreter is Python 3.0.1, and the recipe names 3.0.0; use that one"
    # An image's Python belongs to its base.
    software.check_software(replace(_RECIPE, python=None))
    monkeypatch.setattr(sys, "implementation", types.SimpleNamespace(name="pypy"))
    assert _complaint() == "the interpreter is pypy, and every recipe means CPython; use that"


def test_another_source(context: Path) -> None:
    path = context / "source" / "samebits" / "runner" / "session.py"
    path.write_text(path.read_text() + "\n")
    assert _complaint().startswith("the source beside the running code is sha256:")


def test_compiled_files_are_the_launchers_concern(context: Path) -> None:
    folder = context / "source" / "samebits" / "__pycache__"
    folder.mkdir()
    (folder / "loop.cpython-311.pyc").touch()
    software.check_software(_RECIPE)


def test_another_lock(context: Path) -> None:
    path = context / "lock" / "requirements.lock"
    path.write_text(path.read_text() + "\n")
    assert _complaint().startswith("the lock beside the running code is sha256:")
    path.unlink()
    assert _complaint().startswith("cannot read what the runner was made from: ")


def test_another_package(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert context.exists()
    found = {**software.distributions(), "keras": "0.1", "extra": "1"}
    monkeypatch.setattr(software, "distributions", lambda: found)
    complaint = _complaint()
    assert complaint.startswith("packages are not those of the lock: extra 1 (locked: not at all), keras 0.1 (locked: ")


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        ({"numpy": "2.4.6", "ml-dtypes": "0.6.0"}, []),
        ({"numpy": "2.4.5", "ml-dtypes": "0.6.0"}, ["numpy 2.4.5 (locked: 2.4.6)"]),
        ({"numpy": "2.4.6"}, ["ml-dtypes is missing (locked: 0.6.0)"]),
        ({"numpy": "2.4.6", "ml-dtypes": "0.6.0", "new": "1"}, ["new 1 (locked: not at all)"]),
    ],
)
def test_differing_packages(installed: dict[str, str], found: list[str]) -> None:
    assert software.differing_packages(_LOCK, installed) == found


def test_a_sitecustomize(context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert context.exists()
    module = types.ModuleType("sitecustomize")
    module.__file__ = str(tmp_path / "sitecustomize.py")
    monkeypatch.setitem(sys.modules, "sitecustomize", module)
    assert _complaint() == f"{module.__file__} ran before the script and is part of no recipe; remove it"
    # Linux distributions ship one beside Python's library.
    module.__file__ = f"{os.path.dirname(os.__file__)}/sitecustomize.py"
    software.check_software(_RECIPE)


_TABLE = r"""
1 0 0:1 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/secret
2 1 0:2 / /proc rw,nosuid - proc proc rw
3 1 0:3 / /dev/shm rw - tmpfs shm rw
4 1 8:1 /docker-init /usr/sbin/docker-init ro,relatime - ext4 /dev/sda1 rw
5 1 8:1 /home/me/code /work ro,relatime - ext4 /dev/sda1 rw
6 1 8:1 /home/me/runs/x/code /runs/x/code ro,relatime - ext4 /dev/sda1 rw
7 1 8:1 /etc/hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw
8 1 8:1 /home/me/models /my\040models ro,relatime - ext4 /dev/sda1 rw
9 1 8:1 /home/me/x /opt/samebits/venv/lib rw,relatime - ext4 /dev/sda1 rw
""".strip()


def test_mounts() -> None:
    found = software.read_mounts(_TABLE)
    assert found == (
        Mount(target="/my models", kind="ext4", read_only=True),
        Mount(target="/opt/samebits/venv/lib", kind="ext4", read_only=False),
    )
    assert "/home/me" not in str([mount.to_dict() for mount in found])


@pytest.mark.parametrize(
    ("target", "cpu", "gpu"),
    [
        ("/models", True, True),
        ("/optional", True, True),
        ("/opt/samebits/venv/lib/python3.13/site-packages/keras", False, False),
        ("/opt/samebits", False, False),
        ("/usr/local/lib/libm.so.6", False, False),
        ("/usr/lib/x86_64-linux-gnu/libcuda.so.1", False, True),
        ("/lib/x86_64-linux-gnu/libm.so.6", False, True),
        ("/etc/ld.so.preload", False, False),
        ("/etc/ld.so.conf.d", False, True),
    ],
)
def test_mounts_over_software(target: str, cpu: bool, gpu: bool) -> None:
    for device, fine in (("cpu", cpu), ("gpu", gpu)):
        mounts = (Mount(target=target, kind="ext4", read_only=True),)
        if fine:
            software.check_mounts(mounts, device)
        else:
            with pytest.raises(InputError, match="is mounted over software of the image"):
                software.check_mounts(mounts, device)


def test_a_foreign_library() -> None:
    line = "7f00-7f01 r-xp 00000000 08:01 12 "
    fine = [f"{line}                  /usr/lib/x86_64-linux-gnu/libm.so.6", f"{line} /opt/samebits/venv/lib/x.so"]
    fine += [f"{line} /data/table.npy", f"{line}", "7f00-7f01 rw-p 00000000 00:00 0 [stack]"]
    software.check_libraries("\n".join(fine))
    with pytest.raises(InputError) as caught:
        software.check_libraries("\n".join([*fine, f"{line} /work/evil.so"]))
    assert str(caught.value) == "libraries are loaded that the recipe does not name: /work/evil.so; do not preload any"


def test_a_changed_file_of_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "venv" / "lib").mkdir(parents=True)
    path = tmp_path / "venv" / "lib" / "six.py"
    path.touch()
    monkeypatch.setattr(software, "CONTEXT", tmp_path / "recipe")
    for item in tmp_path.rglob("*"):
        os.utime(item, (9, 9))
    software.check_image_files(9.0)
    os.utime(path, (10, 10))
    with pytest.raises(InputError) as caught:
        software.check_image_files(9.0)
    assert str(caught.value) == f"files changed after the image was built: {path}; use an image of `samebits build`"


def test_the_packages_of_a_project_have_a_lock_of_their_own(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = context / "packages" / "requirements.lock"
    lock.parent.mkdir()
    lock.write_text("pandas==3.1.1 \\\n    --hash=sha256:0\n")
    recipe = replace(_RECIPE, packages=Digest.of_file(lock))
    # A lock that the recipe does not name is another environment.
    assert _complaint().startswith("the packages beside the running code is sha256:")
    with pytest.raises(InputError, match=r"pandas is missing \(locked: 3\.1\.1\)"):
        software.check_software(recipe)
    found = software.distributions()
    monkeypatch.setattr(software, "distributions", lambda: found | {"pandas": "3.1.1"})
    software.check_software(recipe)
    lock.write_text(lock.read_text() + "\n")
    with pytest.raises(InputError, match="the packages beside the running code is"):
        software.check_software(recipe)
    lock.unlink()
    with pytest.raises(InputError, match="the packages beside the running code is not there"):
        software.check_software(recipe)


def test_compiled_code_beside_the_base_lock_is_named(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded counts, not what is installed; a script's own modules count as well."""
    library = Path(sysconfig.get_path("stdlib"))
    site = library / "site-packages"
    loaded = {
        "numpy._core._multiarray_umath": site / "numpy" / "_core" / "_multiarray_umath.so",
        "sklearn.tree._tree": site / "sklearn" / "tree" / "_tree.so",
        "sklearn.svm": site / "sklearn" / "svm.py",
        "_json": library / "lib-dynload" / "_json.so",
        "fast": context / "work" / "fast.so",
    }
    owners = {"numpy": ["numpy"], "sklearn": ["scikit_learn"], "pandas": ["pandas"]}
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: owners)
    modules = {name: types.SimpleNamespace(__file__=str(path)) for name, path in loaded.items()}
    monkeypatch.setattr(software, "sys", types.SimpleNamespace(modules=modules))
    assert software.foreign_compiled_code() == ["fast", "scikit-learn"]
