"""The requirements of a project are read strictly: what no hash of an index covers is refused, with its line."""

from pathlib import Path

import pytest

from samebits.core.errors import InputError
from samebits.core.run_config import RunConfig
from samebits.host.image.project_lock import find_requirements
from samebits.host.image.requirements import read_requirements


def test_names_and_versions(tmp_path: Path) -> None:
    source = tmp_path / "requirements.in"
    source.write_text("# mine\nPandas>=2  # tables\n\nscikit-learn[plots] ; python_version >= '3.11'\n")
    found = read_requirements(source)
    assert found.names == {"pandas", "scikit-learn"}
    source.write_text("scikit-learn[plots] ; python_version >= '3.11'\nPandas>=2\n")
    assert read_requirements(source).digest == found.digest
    source.write_text("scikit-learn[plots] ; python_version >= '3.11'\nPandas>=3\n")
    assert read_requirements(source).digest != found.digest


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--index-url https://x/simple", "--index-url is an option; an index belongs to pip's own settings"),
        ("-e .", "-e is an option; a lock holds published packages"),
        ("-r other.in", "-r is an option; write its requirements here"),
        ("--hash=sha256:0", "--hash is an option; list packages only"),
        ("git+https://example.org/x.git", "is a path or URL, which no hash of an index covers"),
        ("x @ git+https://example.org/x.git@abc", "x comes from a repository without a commit"),
        ("./wheels/x.whl", "is a path or URL"),
        ("two words", "'two words' is no requirement"),
        ("pandas=3", "'pandas=3' is no requirement"),
    ],
)
def test_what_cannot_be_locked(line: str, message: str, tmp_path: Path) -> None:
    source = tmp_path / "requirements.in"
    source.write_text(f"pandas\n{line}\n")
    with pytest.raises(InputError) as raised:
        read_requirements(source)
    assert f"{source}:2: " in str(raised.value)
    assert message in str(raised.value)


def test_dependencies_of_a_project(tmp_path: Path) -> None:
    source = tmp_path / "pyproject.toml"
    spec = RunConfig(script=tmp_path / "train.py")
    source.write_text("[tool.ruff]\nline-length = 9\n")
    assert find_requirements(spec) is None
    source.write_text("[project]\nname = 'x'\ndependencies = ['pandas', 'tqdm>=4']\n")
    assert find_requirements(spec) == source
    assert read_requirements(source).names == {"pandas", "tqdm"}
    (tmp_path / "requirements.in").write_text("")
    assert find_requirements(spec) == tmp_path / "requirements.in"


@pytest.mark.parametrize(
    "text", ["[project\n", "[project]\ndependencies = 'pandas'\n", "[project]\ndependencies = [1]\n"]
)
def test_no_project(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(InputError, match=r"pyproject\.toml"):
        read_requirements(tmp_path / "pyproject.toml")
