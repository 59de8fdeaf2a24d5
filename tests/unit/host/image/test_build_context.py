"""What images are made of: the recipe's folder, its digests, and the Dockerfile for GPUs, which is made."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import ImageError
from samebits.core.recipe import ImageIdentity
from samebits.core.source_digest import context_source_digest
from samebits.host.image.build_context import (
    CPU,
    GPU,
    ImageKind,
    check_kept,
    context_file,
    cuda_lock,
    source_digest,
    source_files,
    staged_context,
    write_context,
)
from support.command import ROOT

_MANIFEST = b'{"mine": 1}\n'


def test_the_kinds() -> None:
    assert (CPU.device, CPU.tag) == ("cpu", "samebits:cpu")
    assert (GPU.device, GPU.tag) == ("gpu", "samebits:gpu")
    for kind, lock, dockerfile in (
        (CPU, "requirements.lock", "Dockerfile"),
        (GPU, "requirements-gpu.lock", "Dockerfile.gpu"),
    ):
        assert context_file(kind.lock) == ROOT / lock
        assert context_file(kind.dockerfile) == ROOT / dockerfile
        assert kind.lock_digest == Digest.of_file(ROOT / lock)
    assert source_digest(CPU) != source_digest(GPU)


@pytest.mark.parametrize("kind", [CPU, GPU], ids=["cpu", "gpu"])
def test_the_recipes_folder(kind: ImageKind, tmp_path: Path) -> None:
    target = tmp_path / "recipe"
    target.mkdir(mode=0o700)
    write_context(kind, target, _MANIFEST)
    files = {str(path.relative_to(target)): path for path in target.rglob("*") if path.is_file()}
    package = ROOT / "src" / "samebits"
    ours = {f"source/samebits/{path.name}": path for path in package.glob("*.py") if path.name != "__main__.py"}
    for half in ("core", "runner"):
        paths = (path for path in (package / half).rglob("*") if path.suffix in (".py", ".json"))
        ours |= {f"source/samebits/{path.relative_to(package)}": path for path in paths}
    ours |= {"Dockerfile": ROOT / kind.dockerfile, "lock/requirements.lock": ROOT / kind.lock}
    made = {"image.json"} | ({"cuda/requirements.lock"} if kind is GPU else set())
    assert files.keys() == ours.keys() | made
    assert {name: files[name].read_bytes() for name in ours} == {name: path.read_bytes() for name, path in ours.items()}
    assert files["image.json"].read_bytes() == _MANIFEST
    assert {path.stat().st_mode & 0o7777 for path in files.values()} == {0o644}
    assert {path.stat().st_mode & 0o7777 for path in (target, *target.rglob("*")) if path.is_dir()} == {0o755}
    assert context_source_digest(target) == source_digest(kind)
    assert source_files(kind).keys() == files.keys() - made - {"lock/requirements.lock"}


@pytest.mark.parametrize(
    "change",
    [
        lambda recipe: (recipe / "Dockerfile").write_bytes((recipe / "Dockerfile").read_bytes() + b"\n"),
        lambda recipe: (recipe / "source" / "samebits" / "runner" / "trace" / "new.py").touch(),
        lambda recipe: (recipe / "source" / "samebits" / "core" / "digest.py").unlink(),
        lambda recipe: (recipe / "source" / "samebits" / "core" / "digest.py").rename(recipe / "source" / "digest.py"),
    ],
)
def test_the_source_digest_follows_every_file(change: object, tmp_path: Path) -> None:
    write_context(CPU, tmp_path, _MANIFEST)
    assert callable(change)
    change(tmp_path)
    assert context_source_digest(tmp_path) != source_digest(CPU)


def test_cuda_has_exactly_nvidias_pins() -> None:
    lock = (ROOT / "requirements-gpu.lock").read_text()
    part = cuda_lock(lock)
    names = re.findall(r"^(\S+)==", part, re.MULTILINE)
    asked = re.findall(r"^(nvidia-\S+-cu12)==", (ROOT / "requirements-gpu.in").read_text(), re.MULTILINE)
    assert names == sorted(re.findall(r"^(nvidia-[a-z-]+-cu12)==", lock, re.MULTILINE))
    assert set(asked) <= set(names)
    assert len(names) == len(set(names)) >= 12
    assert "nvidia-ml-py" in lock
    assert "nvidia-ml-py" not in part
    blocks = dict(re.findall(r"^(\S+==\S+) \\\n((?:    .*\n)+)", lock, re.MULTILINE))
    found = dict(re.findall(r"^(\S+==\S+) \\\n((?:    .*\n)+)", part, re.MULTILINE))
    assert found == {pin: block for pin, block in blocks.items() if re.match(r"nvidia-.*-cu12==", pin)}
    assert all("--hash=sha256:" in block for block in found.values())
    assert part.count("\n") == sum(block.count("\n") + 1 for block in found.values())
    assert cuda_lock((ROOT / "requirements.lock").read_text()) == ""


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dockerfile_gpu", ROOT / "tools" / "dockerfile_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_dockerfile_for_gpus_is_the_made_one() -> None:
    made = _tool().gpu_dockerfile((ROOT / "Dockerfile").read_text())
    assert made == (ROOT / "Dockerfile.gpu").read_text()
    assert "source=cuda" in made


@pytest.mark.parametrize("lost", ["MARKER", "HEADING"])
def test_a_dockerfile_that_lost_what_the_tool_needs(lost: str) -> None:
    tool = _tool()
    dockerfile = (ROOT / "Dockerfile").read_text().replace(getattr(tool, lost), "")
    with pytest.raises(ValueError, match=r"^Dockerfile has lost its heading, or the line where CUDA goes$"):
        tool.gpu_dockerfile(dockerfile)


def test_a_manifest_is_kept_as_it_is(tmp_path: Path) -> None:
    write_context(GPU, tmp_path, _MANIFEST)
    assert json.loads((tmp_path / "image.json").read_bytes()) == {"mine": 1}
    assert (tmp_path / "cuda" / "requirements.lock").read_text() == cuda_lock(
        (ROOT / "requirements-gpu.lock").read_text()
    )


@pytest.mark.parametrize("name", ["lock/requirements.lock", "source/samebits/runner/session.py", "Dockerfile"])
def test_a_kept_recipe_must_be_the_recorded_one(name: str, tmp_path: Path) -> None:
    """The packages, the source, and the Dockerfile that puts both in place."""
    write_context(CPU, tmp_path, _MANIFEST)
    recorded = ImageIdentity(lock=CPU.lock_digest, source=source_digest(CPU))
    check_kept(tmp_path, recorded)
    path = tmp_path / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ImageError, match="is not the recorded one"):
        check_kept(tmp_path, recorded)
    path.unlink()
    with pytest.raises(ImageError):
        check_kept(tmp_path, recorded)


@pytest.mark.parametrize("what", ["source", "compiled file", "extra file"])
def test_a_staged_context_that_was_changed_is_made_anew(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python would run a compiled file whatever its source says."""
    monkeypatch.setenv("SAMEBITS_CACHE", str(tmp_path))
    target = staged_context()
    assert staged_context() == target
    assert capsys.readouterr().err == ""
    folder = target / "source" / "samebits"
    (compiled,) = (folder / "__pycache__").glob("loop.*.pyc")
    path = {"source": folder / "loop.py", "compiled file": compiled, "extra file": folder / "json.py"}[what]
    attacked = (path.read_bytes() if path.exists() else b"") + b"\n"
    path.write_bytes(attacked)
    assert staged_context() == target
    assert capsys.readouterr().err == f"samebits: {target} was changed; making it again\n"
    assert context_source_digest(target, compiled=False) == source_digest(CPU)
    assert not path.exists() or path.read_bytes() != attacked
