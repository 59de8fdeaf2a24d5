"""The portability guarantee: what it rests on, what the profile refuses, and that other CPUs reach the same bits."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from samebits.core.determinism_profile import Profile
from samebits.core.environment import Environment
from samebits.core.errors import SettingError
from samebits.core.record import LedgerEnd
from samebits.core.run_config import RunConfig
from samebits.core.run_setup import plan_run, publish
from samebits.host.image.build_context import staged_context
from samebits.host.launch.runtime import choose_runtime
from samebits.host.launch.venv import locked_python, plan_process
from samebits.host.rerun.golden import Golden, models
from samebits.runner.determinism.fingerprint import Fingerprint, FingerprintJob
from support.command import ROOT, SCRIPTS, Project, call
from support.lanes import long_tail

FAMILIES = ROOT / "examples" / "families"
GOLDEN = Golden.read(FAMILIES / "golden.json").rows
CPUS = ("Haswell", "Skylake-Client", "EPYC")
EMULATED_GROUPS = tuple(os.environ.get("SAMEBITS_EMULATED", "layers optimizers losses").split())
"""The large models take ten minutes more on each CPU: SAMEBITS_EMULATED=applications."""


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize(
    ("part", "family"),
    [
        ("TF_ENABLE_ONEDNN_OPTS", "convolution"),
        pytest.param("ONEDNN_MAX_CPU_ISA", "dense_wide", marks=pytest.mark.slow),
        pytest.param("NPY_DISABLE_CPU_FEATURES", "preprocessed", marks=pytest.mark.slow),
        pytest.param("OPENBLAS_CORETYPE", "preprocessed", marks=pytest.mark.slow),
        pytest.param("OPENBLAS_NUM_THREADS", "preprocessed", marks=pytest.mark.slow),
        ("threads", "convolution"),
        ("arithmetic_optimization", "rmsprop"),
        pytest.param("constant_folding", "convolution", marks=pytest.mark.slow),
        pytest.param("remapping", "simple_rnn", marks=pytest.mark.slow),
        pytest.param("reciprocal", "special", marks=pytest.mark.slow),
        pytest.param("rsqrt", "normalisation", marks=pytest.mark.slow),
        pytest.param("erfc", "special", marks=pytest.mark.slow),
        pytest.param("gelu", "dense_wide", marks=pytest.mark.slow),
        ("qr", "initialisers"),
        ("nothing", "special"),
    ],
)
def test_each_part_is_needed(part: str, family: str) -> None:
    """Without any one part, this machine no longer reaches the golden digest."""
    if part in {"ONEDNN_MAX_CPU_ISA", "NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE"} and not _has_avx512():
        pytest.skip("this setting switches off instructions that this CPU lacks")
    done = subprocess.run(
        [str(locked_python()), str(SCRIPTS / "without.py"), part, family],
        env={"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT / "src"), "HOME": "/tmp"},
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    wanted = GOLDEN["optimizers" if family == "rmsprop" else "layers"][family]
    assert (answer["models"][family] == wanted) == (part == "nothing")
    assert bool(answer["fingerprint"]) == (part not in {"nothing", "OPENBLAS_NUM_THREADS", "remapping"})


def _has_avx512() -> bool:
    return "avx512f" in Path("/proc/cpuinfo").read_text()


TRAINING = """
import keras, numpy as np, tensorflow as tf
layers = keras.layers
model = keras.Sequential([layers.Input((4,)), layers.Dense(8), {layer}, layers.Dense(2)])
model.compile("adam", "mse")
model.fit(np.ones((32, 4)), np.ones((32, 2)), epochs=1, verbose=0)
"""


@pytest.mark.parametrize(
    ("layer", "unproven"),
    [
        ('layers.Activation("relu")', []),
        ("layers.Activation(lambda x: tf.atan2(x, 1.0 + x * x))", ["Atan2 float32"]),
        pytest.param(
            "layers.Activation(lambda x: tf.raw_ops.Rsqrt(x=1.0 + x * x))", ["Rsqrt float32"], marks=pytest.mark.slow
        ),
        pytest.param(
            "layers.Activation(lambda x: x + 0.0 * tf.cast(tf.random.categorical(x, 1), x.dtype))",
            ["Multinomial float32"],
            marks=pytest.mark.slow,
        ),
        ("layers.Activation(lambda x: (tf.print('seen', tf.shape(x)), x)[1])", []),
        pytest.param(
            "layers.Activation(lambda x: tf.math.real(tf.cast(x, 'complex64') * 2.0))",
            ["Mul complex64", "Real float32"],
            marks=pytest.mark.slow,
        ),
        ('layers.Dense(4, dtype="float64")', ["BiasAdd float64", "BiasAddGrad float64"]),
    ],
    ids=["proven", "atan2", "raw", "integers", "print", "complex", "float64"],
)
def test_the_guarantee_is_reduced(project: Project, layer: str, unproven: list[str]) -> None:
    """Operations that are not proven portable are named."""
    project.write(TRAINING.format(layer=layer))
    done = project.train("--profile", "portable")
    assert done.status == 0, done.err
    guarantee = project.only_run().environment.guarantee
    assert guarantee is not None
    assert guarantee.profile == ("native" if unproven else "portable")
    assert set(unproven) <= set(guarantee.unproven or ())
    assert bool(guarantee.unproven) == bool(unproven)
    reported = "samebits: the portability guarantee is reduced to the same CPU class; not proven" in done.err
    assert reported == bool(unproven)
    shown = call("show", "last", folder=project.folder).out
    assert [name for name in unproven if "  not proven  " not in shown or name not in shown] == []


REFUSED = {
    "bfloat16": 'keras.config.set_dtype_policy("mixed_bfloat16")\n' + TRAINING.format(layer="layers.ReLU()"),
    "float16": 'keras.config.set_dtype_policy("mixed_float16")\n' + TRAINING.format(layer="layers.ReLU()"),
    "XLA": "import tensorflow as tf\ntf.function(lambda x: x + 1, jit_compile=True)(tf.ones(3))\n",
    "concrete": """
import tensorflow as tf
tf.function(lambda x: x + 1, jit_compile=True).get_concrete_function(tf.TensorSpec([3]))(tf.ones(3))
""",
    "scope": """
import tensorflow as tf
with tf.xla.experimental.jit_scope():
    pass
""",
    "swallowed": """
import tensorflow as tf
try:
    tf.function(lambda x: x + 1, jit_compile=True)(1)
except Exception:
    pass
""",
}


@pytest.mark.parametrize("what", long_tail(REFUSED, ("bfloat16", "concrete", "scope", "swallowed")))
def test_refused_by_name(project: Project, what: str) -> None:
    project.write("import keras\n" + REFUSED[what])
    done = project.train("--profile", "portable")
    assert done.status == 2
    complaint = done.err.splitlines()[-1]
    named = f"computes in {what} (" if "float" in what else "compiles with XLA (jit_compile=True"
    assert complaint.startswith(f"samebits: the script {named}"), done.err
    assert complaint.endswith("native profile")
    assert project.only_run().outcome.state == "failed"


def test_weighted_bincount_needs_one_thread(project: Project) -> None:
    """It sums in the order of arrival."""
    project.write("import tensorflow as tf\ntf.math.bincount([1, 2, 1], weights=[0.5, 0.25, 0.5])\n")
    done = project.train("--profile", "portable", "--threads", "2")
    assert (done.status, "bincount with weights sums in a different order" in done.err) == (2, True)


def test_a_variable_that_the_script_sets(project: Project) -> None:
    project.write("import os\nos.environ['TF_XLA_FLAGS'] = '--tf_xla_auto_jit=2'\nos.environ['MINE'] = '1'\n")
    done = project.train("--profile", "portable")
    assert done.status == 2
    assert ":2 sets TF_XLA_FLAGS=--tf_xla_auto_jit=2, which may change bits" in done.err
    assert project.train().status == 0


def test_native_accepts_what_portable_refuses(project: Project) -> None:
    project.write("import keras\n" + REFUSED["XLA"])
    assert project.train().status == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--threads", "3"], "the portable profile is proven for 1, 2 and 4 threads, not 3; choose one of them"),
        (["--gpus", "1"], "the portable profile is for CPUs; drop --gpus, or use the native profile"),
    ],
)
def test_contradictions(project: Project, options: list[str], complaint: str) -> None:
    done = project.train("--profile", "portable", *options)
    assert (done.status, done.complaint) == (2, complaint)


@pytest.mark.parametrize(
    "profile",
    [Profile(), Profile(name="portable", threads=1), Profile(name="portable", threads=4)],
    ids=["native", "portable", "portable-4"],
)
def test_settings_are_read_back(project: Project, profile: Profile) -> None:
    """The fingerprint is that of the table for this number of threads, or no step is made."""
    assert project.train("--profile", profile.name, "--threads", str(profile.threads)).status == 0
    record = project.only_run()
    settings = {item.name: item for item in record.environment.settings or ()}
    assert record.recipe.threads == profile.threads
    assert (record.recipe.instruction_set == "x86-64-v3") or not profile.portable
    assert all(item.asked == item.found for item in settings.values())
    assert profile.variables.keys() <= settings.keys()
    assert {"intra-op threads", "inter-op threads"} <= settings.keys()
    assert ({"exact operations", "graph rewrites", "oneDNN's instructions"} <= settings.keys()) == profile.portable


@pytest.mark.parametrize(
    ("undoing", "message"),
    [
        (
            'tf.config.optimizer.set_experimental_options({"constant_folding": True})',
            "graph rewrites was set to off but reads back as on",
        ),
        ("tf.math.rsqrt = tf.raw_ops.Rsqrt", "exact operations was set to True but reads back as False"),
    ],
)
def test_a_script_that_undoes_a_setting(project: Project, undoing: str, message: str) -> None:
    project.write(f"import tensorflow as tf\n{undoing}\n")
    done = project.train("--profile", "portable")
    assert (done.status, message in done.err) == (2, True)


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("runtime", ["venv", pytest.param("docker", marks=pytest.mark.engine)])
def test_fingerprint_command(request: pytest.FixtureRequest, runtime: str, tmp_path: Path) -> None:
    if runtime == "docker":
        request.getfixturevalue("engine")
    done = call("fingerprint", "--runtime", runtime, folder=tmp_path)
    assert done.status == 0, done.out + done.err
    count, digest = done.out.splitlines()
    assert count == f"{int(count.split()[0])} of {int(count.split()[0])} operations as in the portable table"
    assert int(count.split()[0]) > 100
    native = call("fingerprint", "--profile", "native", "--runtime", runtime, "--json", folder=tmp_path)
    answer = json.loads(native.out)
    assert (native.status, "tf.rsqrt" in answer["differing"]) == (0, True)
    assert digest.removeprefix("fingerprint ") != answer["digest"]


@pytest.mark.cold
def test_a_machine_that_computes_differently(project: Project, other_table: Path) -> None:
    """With another table, the run fails before its first step."""
    done = project.train("--profile", "portable", PYTHONPATH=str(other_table))
    assert done.status == 2
    assert "this machine computes 1 of " in done.err
    assert "(tf.exp); use the native profile, and please report the CPU" in done.err
    record = project.only_run()
    assert record.result is None
    assert record.ledger == LedgerEnd(lines=0, last=str(record.recipe.digest))
    assert record.environment.arithmetic is not None
    assert "tf.exp" in record.environment.arithmetic.operations


@pytest.fixture
def other_table(tmp_path: Path) -> Path:
    """A copy of samebits whose table has another digest for one operation."""
    source = tmp_path / "checkout" / "src"
    shutil.copytree(ROOT / "src", source)
    for path in filter(Path.is_file, ROOT.iterdir()):
        shutil.copy(path, source.parent)
    table = source / "samebits" / "runner" / "determinism" / "proven.json"
    values = json.loads(table.read_bytes())
    values["fingerprint"]["tf.exp"] = "0" * 16
    table.write_text(json.dumps(values))
    return source


@pytest.mark.parametrize(
    ("body", "reason"),
    [("os.kill(os.getpid(), 9)", "status -9, output: none"), ("1 / 0", "status 0, output: ZeroDivisionError")],
)
def test_a_fingerprint_that_cannot_be_computed(body: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child process fails before it needs TensorFlow."""
    monkeypatch.setattr("samebits.runner.determinism.fingerprint._hide_gpus", lambda: exec(body, {"os": os}))
    with pytest.raises(SettingError, match=r"^the fingerprint of this machine could not be computed") as caught:
        FingerprintJob().finish()
    assert reason in str(caught.value)


def test_a_fingerprint_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samebits.runner.determinism.fingerprint._hide_gpus", lambda: time.sleep(600))
    monkeypatch.setattr("samebits.runner.determinism.fingerprint.FINGERPRINT_TIMEOUT", 0.2)
    with pytest.raises(SettingError, match="status -9, output: none"):
        FingerprintJob().finish()


def test_differing_operations() -> None:
    found = Fingerprint(operations={"a": "1", "b": "2"}, onednn="", intra_threads=1, inter_threads=1)
    assert found.differing({"a": "1", "b": "3", "c": "4"}) == ["b", "c"]
    assert found.differing({"a": "1", "b": "2"}) == []


@pytest.mark.usefixtures("locked")
def test_attest(tmp_path: Path) -> None:
    """A right and a wrong table of one group. The CPU is added once."""
    (tmp_path / "train.py").write_bytes((FAMILIES / "train.py").read_bytes())
    rows = {"special": {"special": GOLDEN["layers"]["special"]}}
    _write_table(tmp_path, rows)
    for message in ("this CPU was added to golden.json", "golden.json lists this CPU already"):
        done = call("attest", ".", "--runtime", "venv", folder=tmp_path)
        assert (done.status, done.out.splitlines()[-1].partition(":")[0]) == (0, "identical"), done.err
        assert f"samebits: {message}\n" in done.err
    (confirmed,) = Golden.read(tmp_path / "golden.json").confirmed
    assert confirmed["emulator"] is None
    _write_table(tmp_path, {"special": {"special": "sha256:" + "0" * 64}})
    done = call("attest", ".", "--runtime", "venv", folder=tmp_path)
    assert (done.status, done.out.splitlines()[-2:]) == (1, ["different special special", "different"])
    assert Golden.read(tmp_path / "golden.json").confirmed == []


def _write_table(folder: Path, rows: dict[str, dict[str, str]]) -> None:
    Golden(rows=rows, confirmed=[]).write(folder / "golden.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "it ends too early"),
        ('{"format": "samebits.golden", "version": "2.0", "rows": {}, "confirmed": []}', "2.0"),
    ],
)
def test_attest_with_no_table(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "golden.json").write_text(content)
    done = call("attest", ".", folder=tmp_path)
    assert done.status == 2
    assert reason in done.complaint
    (tmp_path / "golden.json").unlink()
    wanted = "cannot read the table golden.json: No such file or directory; name a folder with a golden.json"
    assert call("attest", ".", folder=tmp_path).complaint == wanted


@dataclass(frozen=True, kw_only=True)
class Emulated:
    """A training on an emulated CPU."""

    models: dict[str, str]
    environment: Environment


@pytest.fixture(scope="session")
def emulator(locked: None) -> str:
    """The path of QEMU, which is fetched if missing."""
    assert locked is None
    command = [ROOT / "tools" / "emulator.sh"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


@pytest.fixture(scope="session")
def emulated(
    emulator: str, real_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], "Future[Emulated]"]]:
    """Every group on every CPU, two at a time."""
    folder = tmp_path_factory.mktemp("emulated")
    with ThreadPoolExecutor(2) as pool:
        yield {
            (cpu, group): pool.submit(_train_emulated, (emulator, real_python), cpu, group, folder)
            for group in EMULATED_GROUPS
            for cpu in CPUS
        }


def _train_emulated(programs: tuple[str, Path], cpu: str, group: str, folder: Path) -> Emulated:
    """The entrypoint as the launcher starts it, in an emulator."""
    emulator, python = programs
    runs = folder / f"{cpu}-{group}"
    runs.mkdir()
    spec = RunConfig(
        script=FAMILIES / "train.py",
        arguments=(group,),
        exclude=("golden.json",),
        profile="portable",
        runs=runs,
        runtime="venv",
    )
    run, _ = publish(plan_run(spec, choose_runtime(spec).setup))
    request = plan_process(
        ("--run", str(run.path)),
        spec.determinism.variables,
        scratch=runs,
        python=python,
        source=staged_context() / "source",
    )
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [emulator, "-cpu", cpu, *request.command],
            env=dict(request.environment),
            stdin=reading,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert done.returncode == 0, done.stderr[-2000:]
    record = run.read()
    return Emulated(models=models(record.result), environment=record.environment)


@pytest.mark.emulated
@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("group", EMULATED_GROUPS)
@pytest.mark.timeout(2400)
def test_on_another_cpu(emulated: dict[tuple[str, str], "Future[Emulated]"], cpu: str, group: str) -> None:
    """Other instructions, caches and reciprocals give the same digests."""
    found = emulated[cpu, group].result()
    assert found.models == GOLDEN[group]
    assert found.environment.guarantee is not None
    assert found.environment.guarantee.unproven == ()


@pytest.mark.emulated
@pytest.mark.parametrize("cpu", CPUS)
def test_the_emulator_is_another_cpu(tmp_path: Path, emulator: str, real_python: Path, cpu: str) -> None:
    """Under the native profile, the emulated CPU differs from this machine. Otherwise the tests prove nothing."""
    answers = []
    for prefix in ([emulator, "-cpu", cpu], []):
        request = plan_process(
            ("fingerprint", "--profile", "native", "--json"),
            Profile().variables,
            scratch=tmp_path,
            python=real_python,
            source=staged_context() / "source",
        )
        done = subprocess.run(
            [*prefix, *request.command], env=dict(request.environment), capture_output=True, text=True, check=True
        )
        answers.append(json.loads(done.stdout)["operations"])
    assert answers[0] != answers[1]


def test_a_graph_of_the_scripts_own(project: Project) -> None:
    """Its operations are created by a call with different arguments."""
    project.write("import tensorflow as tf\nwith tf.Graph().as_default():\n    tf.constant(1.0) + 1\n")
    done = project.train("--profile", "portable")
    assert done.status == 0, done.err
