"""Where a project begins, and how its script starts."""

from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.jsonio import Fields
from samebits.core.project import CodeLayout, find_root
from samebits.core.recipe import Code
from samebits.core.run_config import RunConfig, make_config

_TREE = Digest.of_bytes(b"tree")


def _make(folder: Path, *files: str) -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def _config(script: Path | None, **options: object) -> RunConfig:
    return make_config({"script": script} | options, {})


@pytest.mark.parametrize("marker", ["pyproject.toml", "samebits.toml", ".git"])
def test_the_nearest_folder_with_a_marker(tmp_path: Path, marker: str) -> None:
    _make(tmp_path, ".git", f"project/{marker}", "project/scripts/deep/train.py")
    assert find_root(tmp_path / "project" / "scripts" / "deep") == tmp_path / "project"
    spec = _config(tmp_path / "project" / "scripts" / "deep" / "train.py")
    assert spec.code == CodeLayout(
        folder=tmp_path / "project", entry="scripts/deep/train.py", workdir="scripts/deep", pythonpath=()
    )


def test_a_script_without_a_project_is_alone(tmp_path: Path) -> None:
    script = _make(tmp_path, "train.py") / "train.py"
    assert _config(script).code == CodeLayout(folder=tmp_path, entry="train.py", workdir=".")


def test_neither_the_home_folder_nor_a_shared_one_is_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home folder under version control would be the code of every script; anyone may write to a shared one."""
    _make(tmp_path, "pyproject.toml", "home/.git", "home/a/train.py", "shared/samebits.toml", "shared/a/train.py")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert find_root(tmp_path / "home" / "a") == tmp_path / "home" / "a"
    (tmp_path / "shared").chmod(0o1777)
    (tmp_path / "pyproject.toml").unlink()
    assert find_root(tmp_path / "shared" / "a") == tmp_path / "shared" / "a"


def test_settings_come_from_the_projects_file(tmp_path: Path) -> None:
    _make(tmp_path, "scripts/train.py", "lib/own.py")
    (tmp_path / "samebits.toml").write_text('seed = 5\nworkdir = "."\npythonpath = ["lib", "."]\n')
    spec = _config(tmp_path / "scripts" / "train.py")
    assert (spec.seed, spec.code.workdir, spec.code.pythonpath) == (5, ".", ("lib", "."))
    assert _config(tmp_path / "scripts" / "train.py", pythonpath=[tmp_path / "lib"]).code.pythonpath == ("lib",)


@pytest.mark.parametrize(
    ("project", "files", "expected"),
    [
        ("[project]\nname = 'a'\n", ["src/pkg/__init__.py"], ("src",)),
        ("[project]\nname = 'a'\n", ["pkg/__init__.py"], (".",)),
        ("[tool.poetry]\nname = 'a'\n", ["src/pkg/__init__.py"], ("src",)),
        ("[build-system]\nrequires = []\n", ["src/pkg/__init__.py", "setup.cfg"], ("src",)),
        # Only a formatter's settings: nobody installs it.
        ("[tool.ruff]\n", ["src/pkg/__init__.py"], ()),
        ("[tool.ruff]\n", ["src/pkg/__init__.py", "setup.py"], ("src",)),
        ("[project]\nname = 'a'\n", ["src/notes.txt"], ()),
    ],
)
def test_an_editable_installation(tmp_path: Path, project: str, files: list[str], expected: tuple[str, ...]) -> None:
    _make(tmp_path, "scripts/train.py", *files)
    (tmp_path / "pyproject.toml").write_text(project)
    assert _config(tmp_path / "scripts" / "train.py").code.pythonpath == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not = = toml", "it is not TOML: "),
        (b"\xff", "it is not UTF-8"),
        (b"a = '" + b"x" * 10_000 + b"'", "line 1 is longer than 10,000 characters; fix or remove the file"),
        (None, "it is a link that leads out of the project; fix or remove the file"),
    ],
)
def test_a_project_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """It may say that the project's packages are to be imported."""
    folder = _make(tmp_path, "one/train.py", "one/src/pkg/__init__.py", "other.toml") / "one"
    file = folder / "pyproject.toml"
    if content is None:
        file.symlink_to(tmp_path / "other.toml")
    else:
        file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        _config(folder / "train.py")
    assert str(caught.value).startswith(f"cannot read {file}: {reason}")


def test_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `python -m` would: from the current folder, then from the import path."""
    _make(tmp_path, "pyproject.toml", "pkg/train.py", "pkg/tool/__main__.py", "lib/other.py")
    monkeypatch.chdir(tmp_path)
    assert _config(None, module="pkg.train").code == CodeLayout(
        folder=Path(), entry="pkg/train.py", workdir=".", module="pkg.train"
    )
    assert _config(None, module="pkg.tool").code.module == "pkg.tool.__main__"
    assert _config(None, module="other", pythonpath=[Path("lib")]).code.entry == "lib/other.py"
    monkeypatch.chdir(tmp_path / "pkg")
    found = _config(None, module="train").code
    assert (found.folder, found.entry, found.workdir) == (tmp_path, "pkg/train.py", "pkg")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"script": None}, "name a script, or a module with -m"),
        ({"script": Path("train.py"), "module": "pkg.train"}, "name a script, or a module with -m, not both"),
        ({"module": "pkg/train.py"}, "'pkg/train.py' is not a module's name; write it as in samebits train -m"),
        ({"module": "absent"}, "there is no module absent in "),
        ({"script": Path("train.py"), "code": Path("pkg")}, "the script train.py is not in the code's folder pkg;"),
        ({"script": Path("train.py"), "code": Path("absent")}, "the code's folder absent is not a folder;"),
        ({"script": Path("train.py"), "workdir": Path("..")}, "the working folder .. is not in the code's folder"),
        ({"script": Path("train.py"), "workdir": Path("absent")}, "the working folder absent is not a folder;"),
        ({"script": Path("train.py"), "pythonpath": [Path("/usr/lib")]}, "pythonpath /usr/lib is not in the code's"),
    ],
)
def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], complaint: str) -> None:
    _make(tmp_path, "train.py", "pkg/__init__.py")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        make_config({"script": None} | options, {})
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize(
    ("layout", "stored"),
    [
        # What Python does anyway is left out: recipes of runs from before keep their digests.
        (CodeLayout(folder=Path("a"), entry="train.py", workdir="."), {}),
        (CodeLayout(folder=Path("a"), entry="scripts/train.py", workdir="scripts"), {}),
        (CodeLayout(folder=Path("a"), entry="scripts/train.py", workdir="."), {"workdir": "."}),
        (CodeLayout(folder=Path("a"), entry="train.py", workdir=".", pythonpath=("src",)), {"pythonpath": ["src"]}),
        (CodeLayout(folder=Path("a"), entry="p/t.py", workdir=".", module="p.t"), {"module": "p.t"}),
        (CodeLayout(folder=Path("a"), entry="p/t.py", workdir="p", module="t"), {"module": "t", "workdir": "p"}),
    ],
)
def test_the_recipe_has_what_matters(layout: CodeLayout, stored: dict[str, object]) -> None:
    code = layout.describe(_TREE, ("x",), modes=True)
    known = {"tree": str(_TREE), "entry": layout.entry, "arguments": ["x"], "modes": True}
    assert code.to_dict() == known | stored
    assert Code.from_fields(Fields(code.to_dict())) == code
    assert CodeLayout.of_recorded(Path("a"), code) == layout
