"""What `samebits lock` asks pip-tools, and makes of its answers; tests/command/test_lock.py asks the real one."""

from pathlib import Path
from typing import Any

import pytest

from samebits.core.errors import InputError, ToolError
from samebits.host.image import lock_compiler
from samebits.host.image.build_context import CPU, context_file
from samebits.host.image.lock_compiler import Upgrades, compile_lock
from samebits.host.image.lockfile import read_lock
from samebits.host.image.requirements import read_requirements

_OWN = {pin.name: pin.version for pin in read_lock(context_file(CPU.lock))}
_FOUND = f"numpy==1.26.4 \\\n    --hash=sha256:{'a' * 64}\n"
_CONFLICT = (
    "ResolutionImpossible: [RequirementInformation(requirement=SpecifierRequirement('numpy<2'), parent=None),"
    " RequirementInformation(requirement=SpecifierRequirement('numpy>=2.1'),"
    " parent=LinkCandidate('https://host/ml_dtypes-0.6.0-cp311-cp311-linux.whl#sha256=0 (from x)'))]\n"
    "ResolutionImpossible: for help visit https://pip.pypa.io\n"
)


class PipTools:
    """Pip-tools that finds versions with as few preferences as it is told; `preferred` has those of each attempt."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.preferred: list[list[str]] = []

    def run(self, _command: object, *, folder: Path, **_: Any) -> str:
        lock = folder / "requirements.lock"
        self.preferred.append([line.partition("==")[0] for line in lock.read_text().splitlines() if "==" in line])
        if len(self.preferred[-1]) > self.most:
            raise ToolError("locking failed", _CONFLICT)
        lock.write_text(_FOUND)
        return ""


def _lock(monkeypatch: pytest.MonkeyPatch, folder: Path, asked: str, tools: PipTools, *, everything: bool) -> None:
    monkeypatch.setattr(lock_compiler, "run_tool", tools.run)
    (folder / "requirements.in").write_text(asked)
    requirements = read_requirements(folder / "requirements.in")
    compile_lock(requirements, folder / "requirements.lock", Upgrades(everything=everything))


@pytest.mark.parametrize(
    ("asked", "present", "everything", "counts"),
    [
        ("numpy<2\n", None, False, [len(_OWN), 2, 0]),
        ("numpy<2\n", "a==1\n", False, [1, 2, 0]),
        ("numpy<2\n", "a==1\n", True, [len(_OWN), 2, 0]),
        ("pandas\n", "a==1\n", False, [1, 0]),
        ("pandas\n", "a==1\n", True, [0]),
        ("pandas\n", None, False, [0]),
    ],
)
def test_a_preference_never_stands_against_the_project(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    asked: str,
    present: str | None,
    everything: bool,
    counts: list[int],
) -> None:
    if present is not None:
        (tmp_path / "requirements.lock").write_text(present)
    tools = PipTools(most=0)
    _lock(monkeypatch, tmp_path, asked, tools, everything=everything)
    assert [len(names) for names in tools.preferred] == counts
    assert _FOUND in (tmp_path / "requirements.lock").read_text()


def test_tensorflow_and_keras_are_the_last_preferences(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools = PipTools(most=2)
    _lock(monkeypatch, tmp_path, "numpy<2\n", tools, everything=False)
    assert sorted(tools.preferred[-1]) == ["keras", "tensorflow-cpu"]


def test_another_failure_is_not_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(f"{__name__}._CONFLICT", "NewConnectionError: refused")
    tools = PipTools(most=-1)
    with pytest.raises(InputError, match="an index does not answer"):
        _lock(monkeypatch, tmp_path, "numpy<2\n", tools, everything=False)
    assert len(tools.preferred) == 1


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (
            "numpy<2\n",
            "no versions agree: the project needs numpy<2, ml-dtypes 0.6.0 needs numpy>=2.1; change {source}",
        ),
        (
            "pandas\n",
            "the project needs numpy<2, and samebits pins numpy=={own}; require numpy in {source.name}, {else}",
        ),
    ],
)
def test_a_contradiction(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: str, complaint: str) -> None:
    """Both sides are named."""
    known = {"source": tmp_path / "requirements.in", "own": _OWN["numpy"], "else": "to have another than samebits's"}
    with pytest.raises(InputError) as caught:
        _lock(monkeypatch, tmp_path, asked, PipTools(most=-1), everything=False)
    assert str(caught.value) == complaint.format(**known)


def test_what_a_training_needs_is_what_samebits_locks() -> None:
    """With other versions, too: what is missing here would be missing there."""
    listed = read_requirements(Path(lock_compiler.__file__).parents[4] / "requirements.in").names
    assert set(lock_compiler._OURS) == listed
