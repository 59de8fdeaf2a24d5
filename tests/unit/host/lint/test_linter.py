"""The command: which files it reads, its output formats, and the effect of ignore comments."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.inputs_lock import InputsLock, PinnedFile
from samebits.core.run_config import RunConfig
from samebits.host.lint.linter import check
from support.command import Done, call, write_notebook

_BAD = "import os\nimport numpy as np\nrng = np.random.default_rng()\nfor name in os.listdir('data'): print(name)\n"
_FIRST = (
    "train.py:3:7: SB101 default_rng(): takes its seed from the operating system; pass a seed: np.random.default_rng(7)"
)
_SECOND = "train.py:4:13: SB203 os.listdir('data'): lists entries in file-system order; wrap it in sorted(…)"


@pytest.fixture
def checked(tmp_path: Path, samebits: Callable[..., Done]) -> Callable[..., Done]:
    """Write files, and check the script among them."""

    def run(*options: str, **files: str) -> Done:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        return samebits("check", "train.py", *options)

    return run


def test_text(checked: Callable[..., Done]) -> None:
    done = checked(train=_BAD)
    assert (done.status, done.err) == (1, "")
    assert done.out.splitlines() == [_FIRST, _SECOND, "2 found, 0 ignored, in 1 file"]


def test_nothing_found(checked: Callable[..., Done]) -> None:
    done = checked(train="import keras\n", model="layers = 3\n")
    assert (done.status, done.out, done.err) == (0, "0 found, 0 ignored, in 2 files\n", "")


def test_the_modules_beside_the_script(checked: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "other.py").write_text(_BAD)
    done = checked(train="import model\n", model="order = hash('a')\n")
    assert done.out.splitlines()[0].startswith("model.py:1:9: SB202 hash('a'): differs between processes; ")
    assert checked("--exclude", "model.py").status == 0


@pytest.mark.parametrize(
    ("comment", "found", "ignored"),
    [
        ("# samebits: ignore[SB101] a demonstration", 0, 1),
        ("# samebits: ignore[SB203, SB101] a demonstration", 0, 1),
        ("# samebits: ignore[SB102] the wrong rule", 1, 0),
        ("'# samebits: ignore[SB101] no comment'", 1, 0),
    ],
)
def test_ignore_comments(checked: Callable[..., Done], comment: str, found: int, ignored: int) -> None:
    """Only with a reason."""
    join = "; " if comment.startswith("'") else "  "
    done = checked(train=f"import numpy as np\nrng = np.random.default_rng(){join}{comment}\n")
    assert done.out.splitlines()[-1] == f"{found} found, {ignored} ignored, in 1 file"
    assert done.status == (1 if found else 0)


def test_at_the_end_of_a_call(checked: Callable[..., Done]) -> None:
    """Formatters put the comment there."""
    done = checked(
        train="import numpy as np\nrng = np.random.default_rng(\n)  # samebits: ignore[SB101] a demonstration\n"
    )
    assert done.out == "0 found, 1 ignored, in 1 file\n"


@pytest.mark.parametrize(
    ("comment", "why"),
    [
        ("# samebits: ignore[SB101]", "it needs the code of a rule and a reason"),
        ("# samebits: ignore it is fine", "it needs the code of a rule and a reason"),
        ("# samebits: ignore[SB999] as I say", "there is no rule SB999"),
        ("# Samebits: Ignore[sb101] as I say", "it needs the code of a rule and a reason"),
    ],
)
def test_ineffective_ignore_comments(checked: Callable[..., Done], comment: str, why: str) -> None:
    done = checked(train=f"import numpy as np\nrng = np.random.default_rng()  {comment}\n")
    assert (done.status, done.out.splitlines()[-1]) == (1, "1 found, 0 ignored, in 1 file")
    assert done.complaint == (
        f"train.py:2: this ignore comment has no effect: {why}; write: # samebits: ignore[SB203] reason"
    )


def test_json(checked: Callable[..., Done]) -> None:
    done = checked("--format", "json", train=_BAD)
    output = json.loads(done.out)
    assert (output["files"], output["ignored"]) == (1, [])
    assert [(item["code"], item["line"], item["column"]) for item in output["findings"]] == [
        ("SB101", 3, 7),
        ("SB203", 4, 13),
    ]
    assert output["findings"][1]["fix"] == "wrap it in sorted(…)"


def test_sarif(checked: Callable[..., Done]) -> None:
    done = checked("--format", "sarif", train=_BAD)
    assert done.status == 1
    output = json.loads(done.out)
    (run,) = output["runs"]
    known = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    places = [
        (result["ruleId"], result["locations"][0]["physicalLocation"]["region"]["startLine"])
        for result in run["results"]
    ]
    assert (output["version"], places) == ("2.1.0", [("SB101", 3), ("SB203", 4)])
    assert {code for code, _ in places} <= known


@pytest.mark.parametrize(
    ("files", "options", "complaint"),
    [
        ({}, (), "the script train.py does not exist; name a Python file"),
        ({"train": "x = (\n"}, (), "the script train.py is not valid Python: line 1: '(' was never closed"),
        ({"train": ""}, ("--format", "xml"), "--format is text, json or sarif, not 'xml'"),
        (
            {"train": ""},
            ("--", "3"),
            "without --run, --resume or --cost, nothing is run; remove arguments after --, or ",
        ),
        (
            {"train": ""},
            ("--steps", "3"),
            "without --run, --resume or --cost, nothing is run; remove --steps, or add ",
        ),
        ({"train": ""}, ("--rounds", "3"), "--rounds is for --cost; add it"),
        ({"train": ""}, ("--cost", "--steps", "9"), "--steps must be 10 or more, not 9"),
        ({"train": ""}, ("--run", "--steps", "0"), "--steps must be 1 or more, not 0"),
    ],
)
def test_bad_input(
    checked: Callable[..., Done], files: dict[str, str], options: tuple[str, ...], complaint: str
) -> None:
    done = checked(*options, **files)
    assert (done.status, done.out) == (2, "")
    assert complaint in done.complaint


def test_ten_thousand_lines(tmp_path: Path) -> None:
    """They take about a second of processor time; the limit leaves room for slower machines."""
    text = _BAD + "def f(a, b):\n    total = [a * b for _ in range(3)]\n    return sorted(set(total))\n" * 250
    for number in range(13):
        (tmp_path / f"part{number}.py").write_text(text)
    (tmp_path / "train.py").write_text("")
    begun = time.process_time()
    found = check(RunConfig(script=tmp_path / "train.py"))
    assert time.process_time() - begun < 3
    assert (len(found.sources), len(found.findings)) == (14, 26)


def test_another_file_that_is_not_python(checked: Callable[..., Done]) -> None:
    """It may never be imported, so the other files are checked, and it is reported."""
    done = checked(train="import os\nx = os.urandom(3)\n", model="x = (\n")
    assert (done.status, len(done.out.splitlines())) == (1, 2)
    assert done.complaint == (
        "model.py is not valid Python: line 1: '(' was never closed; fix it, or leave it out with --exclude;"
        " it was not checked"
    )


def test_a_script_by_any_name(tmp_path: Path) -> None:
    """The named file is read, whatever its name."""
    (tmp_path / "train").write_text("import os\nx = os.urandom(3)\n")
    done = call("check", "train", folder=tmp_path)
    assert (done.status, done.out.splitlines()[-1]) == (1, "1 found, 0 ignored, in 1 file")


def test_what_the_runs_settings_hide_is_not_counted(checked: Callable[..., Done]) -> None:
    """It is shown, as the script does not repeat elsewhere; under samebits it does."""
    done = checked(train="x = hash('a')\n")
    assert (done.status, len(done.out.splitlines())) == (0, 2)
    assert done.out.endswith("1 found, 0 ignored, in 1 file; 1 of them harmless under `samebits train`\n")
    done = checked("--format", "json", train="x = hash('a')\n")
    assert (done.status, json.loads(done.out)["findings"][0]["harmless"]) == (0, True)


def test_imports_that_are_not_locked(checked: Callable[..., Done]) -> None:
    """Each distribution once; neither what every run has, nor the project's own, nor what may be missing."""
    script = (
        "import os, numpy, tensorflow as tf, keras, model, absl.logging\nfrom sklearn.svm import SVC\nimport sklearn\n"
        "try:\n    import wandb\nexcept ImportError:\n    pass\n"
    )
    done = checked(train=script, model="from . import other\n")
    assert done.complaint == (
        "train.py:2: sklearn needs scikit-learn, which is not locked:"
        " echo scikit-learn >> requirements.in && samebits lock"
    )
    assert done.status == 0
    done = checked(train="import keras\ncalls = [keras.callbacks.TensorBoard('logs')]\n")
    assert "train.py:2: Keras's TensorBoard needs tensorboard, which is not locked" in done.complaint


def test_a_notebook(tmp_path: Path) -> None:
    """Places are those that the user sees: cell, and line in it."""
    write_notebook(tmp_path / "a.ipynb", "import os", "x = 1\ny = os.urandom(3)")
    done = call("check", "a.ipynb", folder=tmp_path)
    assert (done.status, done.out.splitlines()[0].partition(" os.")[0]) == (1, "a.ipynb:cell 3:2:5: SB105")
    sarif = json.loads(call("check", "a.ipynb", "--format", "sarif", folder=tmp_path).out)
    place = sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("a.ipynb", 2)
    write_notebook(tmp_path / "a.ipynb", "%pip install pandas")
    assert "cell 2: line 1: %pip is a magic, not Python" in call("check", "a.ipynb", folder=tmp_path).complaint


def test_a_download_of_a_pinned_address_is_no_finding(checked: Callable[..., Done], tmp_path: Path) -> None:
    origin = "https://example.org/a.npz"
    text = f"import keras\nORIGIN = '{origin}'\nkeras.utils.get_file('a.npz', ORIGIN)\n"
    other = "keras.utils.get_file('b.npz', 'https://example.org/b.npz')\n"
    done = checked(train=text)
    assert (done.status, "pin it with `samebits fetch`" in done.out) == (1, True)
    pinned = PinnedFile(path="home/.keras/datasets/a.npz", digest=Digest.of_bytes(b""), size=0, url=origin)
    InputsLock.of([pinned]).write(tmp_path / "inputs.lock")
    assert checked(train=text).status == 0
    assert [line.split(":")[1] for line in checked(train=text + other).out.splitlines()[:-1]] == ["4"]
