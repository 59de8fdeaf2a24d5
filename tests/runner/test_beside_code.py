"""Scripts that write where they stand: what they make there is output, and what was there must stay."""

import pytest

from samebits.core.record import FINISHED
from support.command import Project, call, newest

START = """
import os
import keras, numpy as np
keras.utils.set_random_seed(3)
x = np.arange(40, dtype="float32").reshape(10, 4) / 40
model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
model.compile("adam", "mse")
"""

USUAL = """
import helper
os.makedirs("images", exist_ok=True)
best = keras.callbacks.ModelCheckpoint("best.keras", monitor="loss", save_best_only=True)
model.fit(x, x.sum(1), epochs=2, verbose=0, callbacks=[best, keras.callbacks.CSVLogger("log.csv")])
keras.models.load_model("best.keras").predict(x, verbose=0)
os.chdir("images")
open("last.txt", "w").write("LAST")
"""


def test_what_is_made_beside_the_code_is_output(project: Project) -> None:
    (project.folder / "helper.py").write_text("VALUE = 1\n")
    project.write(START + USUAL)
    done = project.train()
    assert done.status == 0, done.err
    one = newest(project)
    record = one.read()
    assert record.outcome.state == FINISHED
    assert record.result is not None
    assert [item.path for item in record.result.outputs] == ["best.keras", "images/last.txt", "log.csv"]
    assert (one.outputs / "log.csv").read_text().startswith("epoch,loss,val_loss\n0,")
    assert sorted(path.name for path in one.code.iterdir()) == ["helper.py", "train.py"]
    again = call("verify", one.path.name, folder=project.folder)
    assert again.status == 0, again.out + again.err
    # One byte in one of these files is another result.
    project.write(START + USUAL.replace("LAST", "LOST"))
    assert project.train().status == 0
    other = call("diff", one.path.name, newest(project).path.name, folder=project.folder)
    assert other.status == 1
    assert "outputs file images/last.txt: " in other.out


def test_a_changed_file_ends_the_run_after_the_epoch_and_keeps_what_was_made(project: Project) -> None:
    (project.folder / "log.csv").write_text("of an earlier run\n")
    project.write(
        f"{START}print('begun')\nopen('made.txt', 'w').write('x')\n"
        "model.fit(x, x.sum(1), epochs=50, verbose=0, callbacks=[keras.callbacks.CSVLogger('log.csv')])\n"
    )
    done = project.train()
    assert done.status == 2
    assert "samebits: the script changed files that were in its folder: log.csv; " in done.err
    run = newest(project)
    assert run.ledger.read_text().count('"event":"epoch"') <= 1  # and not 50
    assert [path.name for path in run.models.iterdir()] == ["0-sequential.keras"]
    assert sorted(path.name for path in run.outputs.iterdir()) == ["log.csv", "made.txt"]
    # Left out, it is no code, and the run is one like any other.
    assert project.train("--exclude", "log.csv").status == 0


@pytest.mark.parametrize("end", ["raise ValueError('no')", "raise SystemExit(3)"])
def test_a_failed_script_keeps_what_it_made(project: Project, end: str) -> None:
    project.write(f"open('made.txt', 'w').write('x')\n{end}\n")
    assert project.train().status == 1
    run = newest(project)
    assert (run.outputs / "made.txt").read_text() == "x"
    assert not run.work.exists()
