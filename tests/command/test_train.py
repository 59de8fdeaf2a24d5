"""`samebits train` as a user calls it: what repeats, what differs, and what the record says."""

import hashlib
import json
import platform
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from samebits.core.known_digests import CacheUse
from samebits.core.liveness import file_system
from samebits.core.recipe import differing_parts
from samebits.core.record import read_record
from samebits.core.result import OutputFile
from samebits.core.run_config import make_config
from samebits.host import data_cache
from samebits.host.audit.ledger_audit import LedgerCheck, check_ledger
from samebits.host.data_cache import hash_data_by_cache
from samebits.host.launch.train import train
from support.command import ROOT, Project, call


@pytest.mark.cold
def test_repeats_and_seals_a_record(each_runtime: Project) -> None:
    project = each_runtime
    first, second = project.train("--seed", "7"), project.train("--seed", "7")
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert first.line("result") == second.line("result")
    assert first.line("recipe") == second.line("recipe")
    assert first.run != second.run
    assert first.out.splitlines()[-3].startswith("run runs/")

    run = project.folder / first.run
    record = read_record(run / "record.json")
    assert record.outcome.state == "finished"
    assert record.environment.runtime == project.runtime
    assert str(record.recipe.digest) == first.line("recipe")
    assert (record.recipe.image.config is None) == (project.runtime == "venv")
    assert record.recipe.image.python == (platform.python_version() if project.runtime == "venv" else None)
    assert record.ledger is not None
    assert check_ledger(run / "ledger.jsonl", record) == LedgerCheck(lines=3)
    shown = call("show", "last", folder=project.folder)
    assert ["ledger", "3 lines, each follows the one before"] in [
        line.split(maxsplit=1) for line in shown.out.splitlines()
    ]
    assert shown.out.splitlines()[0].split() == ["run", second.run.name]
    assert hashlib.sha256((run / "data.jsonl").read_bytes()).hexdigest() == str(record.recipe.data)[7:]
    assert hashlib.sha256((run / "code.jsonl").read_bytes()).hexdigest() == record.recipe.code.tree.hex
    assert (run / "code" / "train.py").read_text() == project.script.read_text()
    assert (run / "outputs" / "model.keras").is_file()
    assert [path.suffix for path in (run / "models").iterdir()] == [".keras"]
    assert not (run / ".reserve").exists()
    assert len((run / "ledger.jsonl").read_text().splitlines()) == 3  # two epochs and the end


def test_same_bits_in_container_and_virtual_environment(in_docker: Project) -> None:
    contained = in_docker.train()
    in_docker.runtime = "venv"
    assert in_docker.train().line("result") == contained.line("result")


def test_a_change_of_the_recipe_changes_the_result(project: Project) -> None:
    """Of the seed, the arguments, a byte of data, and a line of code: each beside the run before."""

    def edit_data() -> None:
        table = project.data / "numbers.csv"
        table.write_bytes(table.read_bytes().replace(b"0", b"1", 1))

    def edit_code() -> None:
        project.write(project.script.read_text().replace("batch_size=8", "batch_size=4"))

    seed, epochs = ("--seed", "8"), ("--", "--epochs", "3")
    changes: list[tuple[Callable[[], object], tuple[str, ...], list[str]]] = [
        (lambda: None, seed, ["seed"]),
        (lambda: None, (*seed, *epochs), ["code.arguments"]),
        (edit_data, (*seed, *epochs), ["data.tree"]),
        (edit_code, (*seed, *epochs), ["code.tree"]),
    ]
    before = project.train()
    for change, options, parts in changes:
        change()
        after = project.train(*options)
        assert after.status == 0, after.err
        assert after.line("result") != before.line("result")
        records = [read_record(project.folder / done.run / "record.json") for done in (before, after)]
        assert differing_parts(records[0].recipe, records[1].recipe) == parts
        before = after


@pytest.mark.cold
def test_threads_belong_to_the_recipe_and_reach_tensorflow(project: Project) -> None:
    project.write(
        "import tensorflow as tf\nt = tf.config.threading\n"
        "print('pools', t.get_intra_op_parallelism_threads(), t.get_inter_op_parallelism_threads())\n"
    )
    done = project.train("--threads", "3")
    assert done.line("pools") == "3 3"
    assert read_record(project.folder / done.run / "record.json").recipe.threads == 3


@pytest.mark.cold
def test_what_is_observed(each_runtime: Project) -> None:
    done = each_runtime.train()
    record = read_record(each_runtime.folder / done.run / "record.json")
    seen = record.environment.system
    assert seen is not None
    settings = {item.name: item.found for item in record.environment.settings or ()}
    assert settings["op determinism"] == "True"
    assert settings["OPENBLAS_NUM_THREADS"] == "1"
    assert settings["seed of NumPy"] == "0"
    assert seen.distributions["tensorflow-cpu"] == seen.tensorflow == "2.21.0"
    assert seen.cpu.flags
    assert seen.cpu.caches
    assert seen.gpu.gpus == ()
    assert "NVML" in (seen.gpu.reason or "")
    assert set(seen.distributions) == _locked()

    assert record.result is not None
    (model,) = record.result.models
    assert [tensor.shape for tensor in model.tensors["trainable"]] == [(3, 8), (8,), (8, 1), (1,)]
    assert [tensor.path for tensor in model.tensors["optimizer"]][:2] == ["adam/iteration", "adam/learning_rate"]
    (fit,) = record.result.fits
    assert fit.epochs == 2
    losses = [float.fromhex(value) for value in fit.history["loss"]]
    printed = re.findall(r"loss: ([\d.]+)", (each_runtime.folder / done.run / "log.txt").read_text())
    assert [f"{loss:.4f}" for loss in losses] == printed
    (output,) = record.result.outputs
    assert (output.path, output.by) == ("model.keras", "tensors")


def _locked() -> set[str]:
    lock = (ROOT / "requirements.lock").read_text()
    return set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))


@pytest.mark.cold
def test_nothing_secret_is_kept(each_runtime: Project) -> None:
    done = each_runtime.train(AWS_SECRET_ACCESS_KEY="hunter2-hunter2")
    kept = [path for path in (each_runtime.folder / done.run).rglob("*") if path.is_file()]
    assert len(kept) > 5
    assert not [path for path in kept if b"hunter2" in path.read_bytes()]
    record = (each_runtime.folder / done.run / "record.json").read_text()
    assert f'"{socket.gethostname()}"' not in record


def test_output_is_shown_and_kept(each_runtime: Project) -> None:
    each_runtime.write(
        "import os, sys\nprint('to stdout')\nprint('to stderr', file=sys.stderr)\nos.write(1, b'from below\\n')\n"
        "os.system('echo from a child')\nprint('stdin holds', repr(sys.stdin.read()))\n"
    )
    done = each_runtime.train()
    assert done.status == 0, done.err
    for line in ("to stdout", "from below", "from a child", "stdin holds ''"):
        assert line in done.out.splitlines()
    assert "to stderr" in done.err.splitlines()
    log = (each_runtime.folder / done.run / "log.txt").read_text()
    assert all(text in log for text in ("to stdout", "to stderr", "from below", "from a child"))
    assert "no Keras model was trained" in done.err


def test_output_files_count_by_what_they_mean(project: Project) -> None:
    lines = "import os, pathlib, time\nout = pathlib.Path(os.environ['SAMEBITS_OUTPUT'])\n(out / 'logs').mkdir()\n"
    project.write(
        f"{lines}(out / 'logs' / 'time.txt').write_text(str(time.time_ns()))\n(out / 'a.txt').write_text('a')\n"
    )
    counted = [project.train() for _ in range(2)]
    assert counted[0].line("result") != counted[1].line("result")
    assert counted[0].line("recipe") == counted[1].line("recipe")
    ignored = [project.train("--ignore-output", "logs/*") for _ in range(2)]
    assert ignored[0].line("result") == ignored[1].line("result")
    assert ignored[0].line("recipe") == ignored[1].line("recipe")
    before, after = (read_record(project.folder / done.run / "record.json") for done in (counted[0], ignored[0]))
    assert differing_parts(before.recipe, after.recipe) == ["ignore_outputs"]
    assert before.result is not None
    assert after.result is not None
    assert [item.path for item in before.result.outputs] == ["a.txt", "logs/time.txt"]
    a = OutputFile(path="a.txt", by="bytes", digest=f"sha256:{hashlib.sha256(b'a').hexdigest()}")
    assert after.result.outputs == (a,)
    assert (project.folder / ignored[0].run / "outputs" / "logs" / "time.txt").is_file()


def test_links_in_outputs(each_runtime: Project) -> None:
    """An absolute link leads into the run's own folder, whose name is new each time."""
    each_runtime.write(
        "import os, pathlib\nout = pathlib.Path(os.environ['SAMEBITS_OUTPUT'])\n"
        "(out / 'step-9').mkdir()\n(out / 'step-9' / 'a.txt').write_text('a')\n"
        "(out / 'relative').symlink_to('step-9/a.txt')\n(out / 'absolute').symlink_to(out / 'step-9' / 'a.txt')\n"
        "(out / 'folder').symlink_to(out / 'step-9')\n(out / 'dangling').symlink_to('nothing')\n"
        "(out / 'itself').symlink_to('itself')\n"
    )
    first, second = each_runtime.train(), each_runtime.train()
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert first.line("result") == second.line("result")
    record = read_record(each_runtime.folder / first.run / "record.json")
    assert record.result is not None
    assert [(item.path, item.by) for item in record.result.outputs] == [
        ("absolute", "link"),
        ("dangling", "link"),
        ("folder", "link"),
        ("itself", "link"),
        ("relative", "link"),
        ("step-9/a.txt", "bytes"),
    ]
    each_runtime.write(each_runtime.script.read_text().replace("'nothing'", "'nothing else'"))
    assert each_runtime.train().line("result") != first.line("result")


def test_options_from_a_file(project: Project) -> None:
    (project.folder / "samebits.toml").write_text(
        'seed = 5\nthreads = 1\ndata = "data"\narguments = ["--epochs", "1"]\n'
    )
    done = call("train", "train.py", "--runtime", "venv", "--threads", "2", folder=project.folder)
    recipe = read_record(project.folder / done.run / "record.json").recipe
    assert (recipe.seed, recipe.threads, recipe.code.arguments) == (5, 2, ("--epochs", "1"))
    assert recipe.data is not None


@pytest.mark.cold
def test_the_script_runs_as_python_runs_it(project: Project) -> None:
    (project.folder / "helper.py").write_text("VALUE = 42\n")
    project.write(
        "import pickle, sys, helper\nclass Thing: pass\n"
        "print('main', __name__, sys.argv[1:], helper.VALUE, __file__.endswith('train.py'))\n"
        "print('pickled', type(pickle.loads(pickle.dumps(Thing()))) is Thing)\n"
        "print('ours', [name for name in sys.modules if name.startswith('samebits.host')])\n"
    )
    done = project.train("--", "--x", "1")
    assert done.line("main") == "__main__ ['--x', '1'] 42 True"
    assert done.line("pickled") == "True"
    assert done.line("ours") == "[]"


def test_machine_readable_ends(project: Project) -> None:
    done = project.train("--json")
    printed = json.loads(done.out.splitlines()[-1])
    assert printed["outcome"] == "finished"
    assert json.loads(call("list", "--json", folder=project.folder).out)[0]["result"] == printed["result"]
    shown = json.loads(call("show", Path(printed["run"]).name[:20], "--json", folder=project.folder).out)
    assert shown["result_digest"] == printed["result"]
    assert "adam" not in call("list", folder=project.folder).out
    assert printed["recipe"] in call("show", printed["run"], folder=project.folder).out


@pytest.mark.slow
def test_a_wrong_digest_of_the_data_cache(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The sample may miss it. The reading at the end of the run does not: the run fails, and the cache is removed."""
    if file_system(project.folder) not in data_cache._KEEPS_TIMES:
        pytest.skip("the temporary folder is on a file system on which nothing is kept")
    own = project.folder / "own-cache"
    own.mkdir(mode=0o700)
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(data_cache, "cache_folder", lambda _: own)
    monkeypatch.setattr(data_cache, "_SETTLED_NS", -60_000_000_000)
    monkeypatch.setattr(data_cache, "_MIN_CHECKED", 0)
    monkeypatch.setattr(data_cache, "_CHECKED_PART", 0.0)
    hash_data_by_cache(project.data)
    (cached,) = own.iterdir()
    known = data_cache._read(cached)
    body = b"".join(stamp + bytes(32) for stamp in known)
    cached.write_bytes(data_cache._HEAD + hashlib.sha256(body).digest() + body)
    spec = make_config({"script": Path("train.py"), "data": Path("data"), "runtime": "venv", "data_cache": True})
    folder, status = train(spec)
    record = folder.read()
    assert (status, record.outcome.state) == (2, "failed")
    assert record.origin.data_cache == CacheUse(files=len(known), checked=0)
    assert "the data cache was removed, as it may be wrong" in capfd.readouterr().err
    assert not cached.exists()
    folder, status = train(spec)
    assert (status, folder.read().origin.data_cache) == (0, None)
    folder, status = train(spec)
    assert (status, folder.read().origin.data_cache) == (0, CacheUse(files=len(known), checked=0))
