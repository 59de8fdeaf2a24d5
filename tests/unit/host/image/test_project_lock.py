"""A project's lock: found, held against its requirements, and divided into TensorFlow's layer and the project's own."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from samebits.core.determinism_profile import PORTABLE_PACKAGES
from samebits.core.errors import InputError
from samebits.core.project import CodeLayout
from samebits.core.run_config import RunConfig
from samebits.host.image.base_image import default_base
from samebits.host.image.build_context import CPU, GPU, NO_PROJECT, ImageKind, context_file, write_context
from samebits.host.image.lockfile import Pin, read_lock, text_of
from samebits.host.image.project_lock import find_lock, mark, project_kind
from samebits.host.image.requirements import read_requirements
from samebits.host.image.wheelhouse import Target
from support.command import ROOT

_OWN = context_file(CPU.lock).read_text()
_EXAMPLE = ROOT / "examples" / "packages"
_PANDAS = f"pandas==3.1.1 \\\n    --hash=sha256:{'a' * 64}\n"


@pytest.fixture
def spec(tmp_path: Path) -> RunConfig:
    return RunConfig(script=tmp_path / "train.py")


def _pinned(name: str, version: str, lock: str = _OWN) -> str:
    return re.sub(rf"^{name}==\S+", f"{name}=={version}", lock, flags=re.MULTILINE)


def test_a_project_without_a_lock_has_the_default_image(spec: RunConfig) -> None:
    (spec.script.parent / "requirements.txt").write_text("pandas\n")
    assert find_lock(spec) is None
    assert project_kind(spec) == CPU
    assert (CPU.tag, CPU.packages_digest, list(CPU.digests)) == ("samebits:cpu", None, ["lock"])


def test_only_packages_above_tensorflow_have_a_lock_of_their_own(spec: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text(_PANDAS + _OWN)
    kind = project_kind(spec)
    assert (kind.project.base, kind.project.packages) == (None, _PANDAS)
    assert kind.lock_digest == CPU.lock_digest
    assert re.fullmatch(r"samebits:cpu-[0-9a-f]{12}", kind.tag)


def test_the_lock_of_samebits_itself_is_no_project(spec: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text(_OWN)
    assert project_kind(spec) == CPU


def test_wheels_alone_are_samebits_own_pins_too(spec: RunConfig, tmp_path: Path) -> None:
    """Most tools leave out the hashes of source distributions."""
    fewer = [Pin(name=pin.name, version=pin.version, hashes=frozenset(sorted(pin.hashes, key=str)[1:] or pin.hashes),
                 marker=pin.marker, line=0) for pin in read_lock(_OWN)]  # fmt: skip
    (tmp_path / "requirements.lock").write_text(text_of(fewer))
    assert project_kind(spec) == CPU


@pytest.mark.parametrize(("gpus", "own"), [(None, CPU), ("1", GPU)])
def test_a_lock_of_an_older_samebits_shares_the_layer_of_tensorflow(
    tmp_path: Path, gpus: str | None, own: ImageKind
) -> None:
    """It lacks what was added since. With a layer of its own, one more package would build all others again."""
    older = text_of(pin for pin in read_lock(_OWN) if pin.name != "xxhash")
    (tmp_path / "requirements.lock").write_text(_PANDAS + older)
    kind = project_kind(RunConfig(script=tmp_path / "train.py", gpus=gpus))
    assert (kind.project.base, kind.project.packages, kind.lock_digest) == (None, _PANDAS, own.lock_digest)


def test_the_text_of_a_lock_does_not_depend_on_its_form(spec: RunConfig, tmp_path: Path) -> None:
    tags = set()
    for text in (_PANDAS + _OWN, _OWN + "\n# a comment\n" + _PANDAS.replace("\\\n   ", "")):
        (tmp_path / "requirements.lock").write_text(text)
        tags.add(project_kind(spec).tag)
    assert len(tags) == 1


def test_a_tensorflow_of_the_projects_own_wins(spec: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text(_PANDAS + _pinned("tensorflow-cpu", "2.20.0"))
    kind = project_kind(spec)
    assert kind.project.packages == _PANDAS
    assert "tensorflow-cpu==2.20.0" in kind.lock_text.decode()
    assert kind.lock_digest != CPU.lock_digest


def test_gpus_have_samebits_own_tensorflow(tmp_path: Path) -> None:
    spec = RunConfig(script=tmp_path / "train.py", gpus="1")
    (tmp_path / "requirements.lock").write_text(_PANDAS + _OWN)
    kind = project_kind(spec)
    assert (kind.device, kind.project.packages, kind.lock_digest) == ("gpu", _PANDAS, GPU.lock_digest)
    (tmp_path / "requirements.lock").write_text(_PANDAS + _pinned("tensorflow-cpu", "2.20.0"))
    with pytest.raises(InputError, match="pins a TensorFlow of its own"):
        project_kind(spec)


def test_the_image_for_gpus_holds_the_packages_of_the_same_lock(tmp_path: Path) -> None:
    """Above samebits's TensorFlow for GPUs, and in the same layers."""
    kinds = [project_kind(RunConfig(script=_EXAMPLE / "train.py", gpus=gpus)) for gpus in (None, "all")]
    for kind in kinds:
        context = tmp_path / kind.device
        context.mkdir()
        write_context(kind, context, b"{}")
    cpu, gpu = (kind.tag for kind in kinds)
    assert re.fullmatch(r"samebits:cpu-[0-9a-f]{12} samebits:gpu-[0-9a-f]{12}", f"{cpu} {gpu}")
    packages = "packages/requirements.lock"
    assert (tmp_path / "gpu" / packages).read_bytes() == (tmp_path / "cpu" / packages).read_bytes()
    assert (tmp_path / "gpu" / "lock" / "requirements.lock").read_bytes() == context_file(GPU.lock).read_bytes()
    assert (tmp_path / "gpu" / "cuda" / "requirements.lock").exists()
    assert "\nFROM tensorflow AS packages\n" in (tmp_path / "gpu" / "Dockerfile").read_text()


def test_a_package_that_names_tensorflow_finds_it_in_the_image_for_gpus(tmp_path: Path) -> None:
    """Its name is tensorflow there, and so in the lock of a project with keras-hub."""
    spec = RunConfig(script=tmp_path / "train.py", gpus="1")
    pins = {pin.name: pin for pin in read_lock(_OWN) if pin.name != "tensorflow-cpu"}
    gpu = {pin.name: pin for pin in read_lock(context_file(GPU.lock))}
    listed = text_of({**pins, "tensorflow": gpu["tensorflow"]}.values())
    (tmp_path / "requirements.lock").write_text(_PANDAS + listed)
    kind = project_kind(spec)
    assert (kind.project.base, kind.project.packages, kind.lock_digest) == (None, _PANDAS, GPU.lock_digest)
    assert project_kind(replace(spec, gpus=None)).project.base is not None
    (tmp_path / "requirements.lock").write_text(_pinned("keras", "3.11.3", listed))
    with pytest.raises(InputError, match="pins a TensorFlow of its own"):
        project_kind(spec)


def test_the_portable_profile_is_proven_for_samebits_versions(tmp_path: Path) -> None:
    """What computes may not have another version; anything else may."""
    spec = RunConfig(script=tmp_path / "train.py", profile="portable")
    (tmp_path / "requirements.lock").write_text(_PANDAS + _pinned("wrapt", "1.17.0"))
    assert project_kind(spec).project.packages == _PANDAS
    for name in ("tensorflow-cpu", "optree"):
        (tmp_path / "requirements.lock").write_text(_pinned(name, "0.1"))
        with pytest.raises(InputError, match=rf"pins {name}==0\.1 \(samebits: .*; drop these, or --profile portable"):
            project_kind(spec)


def test_the_table_of_the_portable_profile_holds_for_the_committed_lock() -> None:
    versions = json.loads((ROOT / "src/samebits/runner/determinism/proven.json").read_bytes())["versions"]
    assert sorted(versions) == sorted(PORTABLE_PACKAGES)
    pins = {pin.name.removesuffix("-cpu"): pin.version for pin in read_lock(_OWN)}
    assert versions == {name: pins[name] for name in PORTABLE_PACKAGES}


def test_a_lock_without_tensorflow_must_agree(spec: RunConfig, tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    numpy = text_of(pin for pin in read_lock(_OWN) if pin.name == "numpy")
    lock.write_text(_PANDAS + numpy)
    assert project_kind(spec).project.packages == _PANDAS
    lock.write_text(_PANDAS + _pinned("numpy", "1.26.4", numpy))
    with pytest.raises(
        InputError, match=r"pins other versions than samebits does.*numpy==1\.26\.4 \(samebits: numpy==2"
    ):
        project_kind(spec)


def test_two_tensorflows_are_refused(spec: RunConfig, tmp_path: Path) -> None:
    other = f"tensorflow==2.21.0 --hash=sha256:{'b' * 64}\n"
    (tmp_path / "requirements.lock").write_text(_OWN + other)
    with pytest.raises(InputError, match="both tensorflow and tensorflow-cpu"):
        project_kind(spec)


def test_a_lock_older_than_its_requirements_is_refused(spec: RunConfig, tmp_path: Path) -> None:
    source, lock = tmp_path / "requirements.in", tmp_path / "requirements.lock"
    source.write_text("pandas\n")
    lock.write_text(mark(read_requirements(source), (3, 11)) + _PANDAS + _OWN)
    source.write_text("# a comment changes nothing\npandas  # neither here\n")
    assert project_kind(spec).project.packages == _PANDAS
    source.write_text("pandas\ntqdm\n")
    with pytest.raises(
        InputError, match=r"requirements\.in changed after requirements\.lock was made; run `samebits lock`"
    ):
        project_kind(spec)


def test_a_missing_hash_is_named(spec: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("pandas==3.1.1\n")
    with pytest.raises(InputError, match=r"requirements\.lock:1: pandas has no hash"):
        project_kind(spec)


def test_a_lock_that_the_configuration_names(tmp_path: Path) -> None:
    (tmp_path / "gpu.lock").write_text(_PANDAS + _OWN)
    spec = RunConfig(script=tmp_path / "train.py", lock=tmp_path / "gpu.lock")
    assert project_kind(spec).project.packages == _PANDAS
    with pytest.raises(InputError, match=r"the lock .*no\.lock does not exist"):
        project_kind(RunConfig(script=tmp_path / "train.py", lock=tmp_path / "no.lock"))


def test_the_nearest_lock_up_to_the_projects_folder_counts(tmp_path: Path) -> None:
    script = tmp_path / "project" / "scripts" / "train.py"
    script.parent.mkdir(parents=True)
    layout = CodeLayout(folder=tmp_path / "project", entry="scripts/train.py", workdir="scripts")
    spec = RunConfig(script=script, layout=layout)
    (tmp_path / "requirements.lock").touch()
    assert find_lock(spec) is None
    for folder in (tmp_path / "project", script.parent):
        (folder / "requirements.lock").touch()
        assert find_lock(spec) == folder / "requirements.lock"


def test_hashed_requirements_are_a_lock(spec: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(_PANDAS)
    assert project_kind(spec).project.packages == _PANDAS


_PYLOCK = """\
lock-version = "1.0"
created-by = "another tool"
[[packages]]
name = "pandas"
version = "3.1.1"
wheels = [{{name = "pandas-3.1.1-cp{python}-cp{python}-manylinux_2_17_x86_64.whl", url = "y", hashes = {{{hash}}}}}]
[[packages]]
name = "colorama"
version = "0.4"
marker = "sys_platform == 'win32'"
wheels = [{{name = "colorama-0.4-py3-none-any.whl", url = "https://x/z.whl", hashes = {{sha256 = "{b}"}}}}]
"""


def _pylock(folder: Path, python: str = "313", digest: str = f'sha256 = "{"a" * 64}"') -> None:
    (folder / "pylock.toml").write_text(_PYLOCK.format(python=python, hash=digest, b="b" * 64))


def test_a_pylock_holds_what_a_python_needs(spec: RunConfig, tmp_path: Path) -> None:
    _pylock(tmp_path)
    assert project_kind(spec).project.packages == _PANDAS
    with pytest.raises(InputError, match=r"pylock\.toml cannot be used for Python 3\.11: No wheel found"):
        project_kind(spec, Target(python=(3, 11)))


def test_a_pylock_without_sha256_is_refused(spec: RunConfig, tmp_path: Path) -> None:
    _pylock(tmp_path, digest='md5 = "0"')
    with pytest.raises(InputError, match="a file of pandas has no sha256"):
        project_kind(spec)


@pytest.mark.parametrize(
    "text", ["", "lock-version = '9'", "[[[", "lock-version = '1.0'\ncreated-by = 'x'\npackages = 3"]
)
def test_no_pylock(text: str, spec: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "pylock.toml").write_text(text)
    with pytest.raises(InputError, match=r"pylock\.toml cannot be used"):
        project_kind(spec)


def test_equal_kinds_are_equal() -> None:
    assert ImageKind(device="cpu", dockerfile="Dockerfile", lock="requirements.lock", project=NO_PROJECT) == CPU


def test_a_lock_for_another_python_than_the_project_asks_for(spec: RunConfig, tmp_path: Path) -> None:
    source, lock = tmp_path / "requirements.in", tmp_path / "requirements.lock"
    source.write_text("pandas\n")
    lock.write_text(mark(read_requirements(source), (3, 11)) + _PANDAS + _OWN)
    assert project_kind(replace(spec, python="3.11")).python == (3, 11)
    assert project_kind(spec).python == (3, 13), "without a choice, the image's Python"
    with pytest.raises(InputError, match=r"was made with Python 3\.11, and the project asks for 3\.12; run `samebits"):
        project_kind(replace(spec, python="3.12"))


def test_an_image_with_another_python_has_another_name_and_base(
    spec: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAMEBITS_BASE", raising=False)
    monkeypatch.setenv("SAMEBITS_BASE_3_11", "mine:3.11")
    kinds = {python: project_kind(replace(spec, python=python)) for python in (None, "3.11", "3.12")}
    assert [kind.tag for kind in kinds.values()] == ["samebits:cpu", "samebits:cpu-py311", "samebits:cpu-py312"]
    bases = [default_base(kind.python) for kind in kinds.values()]
    assert bases[1] == "mine:3.11"
    for at, minor in ((0, 13), (2, 12)):
        assert re.fullmatch(rf"python:3\.{minor}\.\d+-slim-trixie@sha256:[0-9a-f]{{64}}", bases[at])


@pytest.mark.parametrize("python", ["3.10", "3.14", "3", "python3.12"])
def test_a_python_that_no_lock_has_wheels_for(python: str) -> None:
    with pytest.raises(InputError, match=r"^python must be one of 3\.11, 3\.12, 3\.13, not"):
        RunConfig(script=Path("train.py"), python=python)
