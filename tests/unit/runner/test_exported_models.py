"""A model that is exported during training makes a run not resumable, unless `model.export` wrote it."""

from pathlib import Path

import pytest

from samebits.runner.checkpoint.files.exported_models import ExportedModels
from samebits.runner.checkpoint.state.encoding import UncapturableError


@pytest.mark.parametrize("where", ["code", "outputs"])
def test_a_model_that_was_not_there_is_refused(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMEBITS_OUTPUT", str(tmp_path / "outputs"))
    exports, folder = ExportedModels(str(tmp_path / "code")), tmp_path / where / "model"
    exports.begin_phase()
    folder.mkdir(parents=True)
    exports.check()
    (folder / "saved_model.pb").touch()
    with pytest.raises(UncapturableError, match=r"^the model model is exported during training"):
        exports.check()
    exports.begin_phase()
    exports.check()


def test_what_replaces_an_export_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`export` stands for Keras's: it writes the file, and what follows writes another one there."""
    monkeypatch.delenv("SAMEBITS_OUTPUT", raising=False)
    exports, file = ExportedModels(str(tmp_path)), tmp_path / "model" / "saved_model.pb"
    exports.begin_phase()
    file.parent.mkdir()
    exports._noted(lambda _, path: (Path(path) / file.name).write_bytes(b"of the model"))(None, file.parent)
    exports.check()
    file.write_bytes(b"of something else")
    with pytest.raises(UncapturableError, match=r"^the model model is exported during training"):
        exports.check()
