"""The line that helps, after the error that a script met."""

from pathlib import Path

import pytest

from samebits.core.digest import Digest
from samebits.core.recipe import Code
from samebits.runner.hints import hint

_SKLEARN = "the module sklearn comes with scikit-learn, which is not among the run's packages:"
_SKLEARN += " echo scikit-learn >> requirements.in && samebits lock"
_OWN = "own is in the code, but not on the import path; add --pythonpath src"
_JSON = "json is here, but has no json.gone; another version of it may have"
_MEMORY = "the GPU has too little free memory: end what else uses it (`nvidia-smi` lists it), or use smaller batches"
CODE = Code(tree=Digest.of_bytes(b""), entry="scripts/train.py")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for name in ("scripts/train.py", "src/own/__init__.py", "flat.py", "configs/a.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyError("SAMEBITS_DATA"), "this run has no data; name its folder with --data DIR"),
        (KeyError("other"), None),
        (
            ModuleNotFoundError("", name="own.model"),
            _OWN,
        ),
        (ModuleNotFoundError("", name="flat"), "flat is in the code, but not on the import path; add --pythonpath ."),
        (
            ModuleNotFoundError("", name="sklearn.svm"),
            _SKLEARN,
        ),
        (
            ModuleNotFoundError("", name="json.gone"),
            _JSON,
        ),
        (ModuleNotFoundError("a library's own words"), None),
        (
            FileNotFoundError(2, "No such file", "configs/a.json"),
            "the script runs in scripts/, and configs/a.json is found from the project's own folder; add --workdir .",
        ),
        (FileNotFoundError(2, "No such file", "absent.json"), None),
        (FileNotFoundError(2, "No such file", "/etc/absent"), None),
        (FileNotFoundError("no number"), None),
        (PermissionError(13, "Permission denied", "configs/a.json"), None),
        (ValueError("x"), None),
        (
            RuntimeError("Graph execution error: OOM when allocating tensor with shape[4096,4096]"),
            f"{_MEMORY}; on the CPU, the machine's memory is meant",
        ),
        (
            RuntimeError("failed call to cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
            _MEMORY,
        ),
        (
            RuntimeError("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available for execution on the device"),
            "the locked TensorFlow holds no code for this GPU; use one of 6.0 or later",
        ),
        (
            RuntimeError("Failed to load PTX: CUDA_ERROR_UNSUPPORTED_PTX_VERSION"),
            "the driver is too old to compile TensorFlow's kernels; upgrade it",
        ),
        (
            RuntimeError("Timestamp cannot be called when determinism is enabled [Op:Timestamp]"),
            "this operation has no deterministic form here; `samebits check --run` names others",
        ),
    ],
)
def test_hints(work: Path, error: BaseException, expected: str | None) -> None:
    assert hint(error, work, CODE) == expected


@pytest.mark.parametrize("name", ["data/inner/a.csv", "../data/inner/a.csv", "inner/a.csv", "data/inner/absent.csv"])
def test_a_file_of_the_data_is_not_in_the_code(
    work: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = tmp_path_factory.mktemp("data")
    (data / "inner").mkdir()
    (data / "inner" / "a.csv").touch()
    error = FileNotFoundError(2, "No such file", name)
    assert hint(error, work, CODE) is None
    monkeypatch.setenv("SAMEBITS_DATA", str(data))
    found = hint(error, work, CODE)
    assert (found or "").startswith("" if "absent" in name else f"{name} is in the data, whose folder is os.environ")
    assert (found is None) == ("absent" in name)


def test_no_hint_where_it_would_change_nothing(work: Path) -> None:
    """In the project's own folder already."""
    code = Code(tree=CODE.tree, entry="train.py")
    assert hint(FileNotFoundError(2, "No such file", "configs/a.json"), work, code) is None
