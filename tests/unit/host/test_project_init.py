"""From an existing folder to a project: what is written, and what is left alone."""

from pathlib import Path

import pytest

from support.command import Done, call, write_notebook

SCRIPT = """
import os, keras, numpy as np, helper
import pandas as pd
from sklearn.svm import SVC
from PIL import Image
import cv2
try:
    import wandb
except ImportError:
    wandb = None
import tensorflow_probability as tfp
pd.read_parquet("a")
model = keras.Sequential()
model.fit(np.ones(3), callbacks=[keras.callbacks.TensorBoard()])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text("import scipy\n")
    (tmp_path / "broken.py").write_text("import (\n")
    for name in ("tests/test_x.py", "setup.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("import pytest\n")
    return tmp_path


def _init(folder: Path) -> Done:
    done = call("init", folder=folder)
    assert done.status == 0, done.err
    return done


def test_a_folder_of_scripts(folder: Path) -> None:
    write_notebook(
        folder / "a.ipynb", "%pip install -q lightgbm\nimport seaborn as sns\nfrom google.colab import drive", "x = ("
    )
    done = _init(folder)
    names = (folder / "requirements.in").read_text().splitlines()[1:]
    expected = [
        "lightgbm",
        "opencv-python-headless",
        "pandas",
        "pillow",
        "pyarrow",
        "scikit-learn",
        "scipy",
        "seaborn",
        "tensorboard",
        "tensorflow-probability",
        "tf-keras",
    ]
    assert names == expected
    assert "seed = 0\n" in (folder / "samebits.toml").read_text()
    assert (folder / ".gitignore").read_text() == "runs/\n"
    assert done.out.splitlines()[-3:] == ["next:", "  samebits lock", "  samebits train train.py"]
    assert call("check", "train.py", folder=folder).status == 0, "the options can be read"


def test_nothing_that_is_there_is_changed(folder: Path) -> None:
    """A second call changes nothing either."""
    (folder / "requirements.in").write_text("pandas<3\n")
    (folder / "samebits.toml").write_text("seed = 7\n")
    (folder / ".gitignore").write_text("*.pyc")
    for _ in range(2):
        done = _init(folder)
    assert (folder / "requirements.in").read_text() == "pandas<3\n"
    assert (folder / "samebits.toml").read_text() == "seed = 7\n"
    assert (folder / ".gitignore").read_text() == "*.pyc\nruns/\n"
    missing = (
        "opencv-python-headless, pillow, pyarrow, scikit-learn, scipy, tensorboard, tensorflow-probability, tf-keras"
    )
    first = f"kept requirements.in; it does not list what is imported: {missing}"
    assert done.out.splitlines()[:3] == [first, "kept samebits.toml", "kept .gitignore"]


def test_requirements_that_are_complete(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import pandas, yaml\n")
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["Pandas>=2", "PyYAML", "tensorflow"]\n')
    assert _init(tmp_path).out.splitlines()[0] == "kept pyproject.toml"


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (["import polars as pl", "pl.read_parquet('a')"], ["polars"]),
        (["import pandas as pd", "pd.read_parquet('a')"], ["pandas", "pyarrow"]),
        (["from pandas import read_excel", "read_excel('a')"], ["openpyxl", "pandas"]),
    ],
)
def test_companions_of_pandas(tmp_path: Path, lines: list[str], names: list[str]) -> None:
    """Other libraries have functions of the same names. In a notebook, another cell imports."""
    write_notebook(tmp_path / "a.ipynb", *lines)
    _init(tmp_path)
    assert (tmp_path / "requirements.in").read_text().splitlines()[1:] == names


def test_a_script_that_needs_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "my train.py").write_text("import keras\n")
    done = _init(tmp_path)
    assert not (tmp_path / "requirements.in").exists()
    assert done.out.splitlines()[-2:] == ["  samebits check 'my train.py'", "  samebits train 'my train.py'"]


@pytest.mark.parametrize(("script", "line"), [('os.environ["SAMEBITS_DATA"]', ""), ('open("data/a.csv")', "# ")])
def test_a_folder_that_the_script_opens_by_its_place_stays_there(tmp_path: Path, script: str, line: str) -> None:
    """As --data it would be found by SAMEBITS_DATA only."""
    (tmp_path / "data").mkdir()
    (tmp_path / "train.py").write_text(f"import os\n{script}\n")
    _init(tmp_path)
    assert f'\n{line}data = "data"\n' in (tmp_path / "samebits.toml").read_text()


def test_a_folder_without_scripts(tmp_path: Path) -> None:
    assert "holds no Python file and no notebook" in call("init", folder=tmp_path).complaint
    assert call("init", "absent", folder=tmp_path).complaint == (
        "absent is not a folder; name the folder of your scripts"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_module_of_a_package_is_no_script(tmp_path: Path) -> None:
    for name, text in {"tool/__init__.py": "", "tool/best.py": "def best(model):\n    model.fit()\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _init(tmp_path).out.splitlines()[-1] == "  samebits train tool/best.py", "there is nothing else"
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "run.py").write_text("import keras, tool.best\ntool.best.best(keras.Sequential())\n")
    assert _init(tmp_path).out.splitlines()[-1] == "  samebits train examples/run.py"
