"""The portable profile on CPUs with other caches, more cores, of the other vendor, and without AVX-512.

They are emulated at this CPU's speed, see `support.emulated_cpu`: QEMU has fixed caches, and is a hundred times slower.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from samebits.core.determinism_profile import PORTABLE_THREADS
from samebits.core.trial import CACHE_SIZES, EXACT_OPERATIONS
from samebits.host.rerun.golden import Golden
from samebits.runner.determinism.op_audit import read_proven
from support.command import ROOT, SCRIPTS
from support.emulated_cpu import Caches, EmulatedCpu

GOLDEN = Golden.read(ROOT / "examples" / "families" / "golden.json")
REFERENCE = Caches(l1=32, l2=1024, l3=32768, cores=2, intel=False)
"""As the pinned ones."""
OTHERS = (
    Caches(l1=48, l2=256, l3=8192, cores=8, intel=True),
    Caches(l1=48, l2=2048, l3=262144, cores=64, intel=True),
    Caches(l1=32, l2=256, l3=262144, cores=1, intel=False),
    Caches(l1=32, l2=2048, l3=8192, cores=4, intel=True),
)

slow = pytest.mark.slow
pytestmark = [pytest.mark.usefixtures("locked"), pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def emulated(real_python: Path, tmp_path_factory: pytest.TempPathFactory) -> EmulatedCpu:
    """Copies of TensorFlow and NumPy that ask the emulated CPU."""
    if not all(map(shutil.which, ("gcc", "objdump"))):
        pytest.skip("emulated caches need gcc and objdump")
    return EmulatedCpu(real_python, tmp_path_factory.mktemp("emulated"))


def run(emulated: EmulatedCpu, caches: Caches, *command: str, log: Path | None = None) -> str:
    """The last line that a script of the tests prints there."""
    path = os.pathsep.join(map(str, (emulated.packages, ROOT / "src")))
    environment = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": "0", "PYTHONPATH": path, "HOME": "/tmp"}
    done = subprocess.run(
        [str(emulated.python), *command],
        env=environment | emulated.variables(caches, log),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


def operations(emulated: EmulatedCpu, caches: Caches, *words: object) -> dict[str, str]:
    """Digests of more than 400 results."""
    found: dict[str, str] = json.loads(run(emulated, caches, str(SCRIPTS / "operations.py"), *map(str, words)))
    return found


@slow
def test_every_library_asks_the_emulated_cpu(emulated: EmulatedCpu, tmp_path: Path) -> None:
    """Eigen, oneDNN and OpenBLAS see its caches, and none of the copied libraries is loaded from elsewhere."""
    log = tmp_path / "log"
    code = """
import ctypes, json, os, sys, tensorflow as tf
from samebits.runner.compat.library_caches import pinned_caches
tf.linalg.inv(tf.eye(100))
tf.nn.conv2d(tf.ones((1, 9, 9, 8)), tf.ones((3, 3, 8, 8)), 1, "SAME")
maps = {line.split()[-1] for line in open("/proc/self/maps") if "/libtensorflow_" in line or "openblas" in line}
print(json.dumps({"found": pinned_caches(), "maps": sorted(maps), "cores": os.cpu_count()}))
"""
    answer = json.loads(run(emulated, OTHERS[0], "-c", code, log=log))
    places = answer["found"].split(", ")
    assert [place for place in places if place.startswith("48 256 8192 in libtensorflow_cc.so.2 _ZZN5Eigen")]
    assert "48 256 16384 in oneDNN" in places  # 8 MiB of 8 cores, shown as of the pinned 16
    assert len(answer["maps"]) == 3
    assert all(path.startswith(str(emulated.packages)) for path in answer["maps"])
    assert answer["cores"] == 8
    asked = {(Path(name).name, leaf) for name, leaf, _ in map(str.split, log.read_text().splitlines())}
    assert {("libtensorflow_cc.so.2", "4"), ("libtensorflow_cc.so.2", "7")} <= asked
    assert {name for name, leaf in asked if "openblas" in name and leaf == "80000006"}
    assert emulated.replaced["libtensorflow_cc.so.2"] > 50


@slow
@pytest.mark.parametrize("threads", PORTABLE_THREADS)
def test_operations_do_not_depend_on_the_caches(emulated: EmulatedCpu, threads: int) -> None:
    wanted = operations(emulated, REFERENCE, threads)
    assert len(wanted) > 400
    for caches in OTHERS:
        found = operations(emulated, caches, threads)
        assert [name for name in wanted if found[name] != wanted[name]] == [], str(caches)


@slow
@pytest.mark.parametrize("threads", [1, 2])
def test_without_pinned_caches_they_do(emulated: EmulatedCpu, threads: int) -> None:
    """oneDNN cuts this convolution by the second cache, Eigen linear algebra by the first."""
    wanted, found = (operations(emulated, caches, threads, CACHE_SIZES) for caches in (REFERENCE, OTHERS[0]))
    differing = {name for name in wanted if found[name] != wanted[name]}
    assert {"conv2d 1x224x224x8 3x3x16, part 0", "triangular_solve 200, part 0", "inverse 500, part 0"} <= differing
    assert ("matmul 5000x33x7, part 0" in differing) == (threads > 1)


@slow
def test_the_pinned_sizes_are_those_of_the_reference(emulated: EmulatedCpu) -> None:
    """Pinned or asked for, the same caches give the same bits; and other settings still matter."""
    wanted = operations(emulated, REFERENCE, 1)
    assert operations(emulated, REFERENCE, 1, CACHE_SIZES) == wanted
    assert operations(emulated, REFERENCE, 1, EXACT_OPERATIONS)["rsqrt, part 0"] != wanted["rsqrt, part 0"]


@slow
@pytest.mark.parametrize(("caches", "threads"), [*zip(OTHERS[:3], PORTABLE_THREADS, strict=True)], ids=str)
def test_the_golden_table(emulated: EmulatedCpu, caches: Caches, threads: int) -> None:
    """All models but the three large ones."""
    groups = ("layers", "optimizers", "losses")
    part = {1: "nothing", 2: "threads", 4: "4 threads"}[threads]
    answer = json.loads(run(emulated, caches, str(SCRIPTS / "without.py"), part, *groups))
    rows = GOLDEN.rows if threads == 1 else GOLDEN.threads[str(threads)]
    assert answer["models"] == {name: digest for group in groups for name, digest in rows[group].items()}
    assert set(answer["fingerprint"]) == read_proven().threads.get(threads, {}).keys()


def test_the_number_of_threads_matters() -> None:
    """Otherwise one table would do."""
    for rows in GOLDEN.threads.values():
        assert rows["layers"]["convolution_norm"] != GOLDEN.rows["layers"]["convolution_norm"]
        assert rows["layers"]["dense"] == GOLDEN.rows["layers"]["dense"]


PINNING = """
import tensorflow as tf
from samebits.core.errors import SettingError
from samebits.runner.compat import library_caches as caches
ours = caches.CACHES
caches.CACHES = (48 << 10, 2 << 20, 8 << 20)
caches.pin_caches()
caches.CACHES = ours
print(caches.pinned_caches().replace(", ", "\\n"))
caches.pin_caches()
print(caches.pinned_caches())
for name, value in (("TESTED", "2.20.0"), ("_CONVOLUTION_FILES", 2)):
    right = getattr(caches, name)
    setattr(caches, name, value)
    caches._libraries.cache_clear()
    try:
        caches.pin_caches()
    except SettingError as error:
        print(error)
    setattr(caches, name, right)
caches._libraries.cache_clear()
caches._symbols.cache_clear()
caches._NAMES = ()
try:
    caches.pin_caches()
except SettingError as error:
    print(error)
"""


def test_pinned_sizes_are_read_back(real_python: Path) -> None:
    """In each of the six places; a library without symbols is refused."""
    done = subprocess.run(
        [str(real_python), "-c", PINNING],
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    *places, pinned, version, fewer, refused = done.stdout.splitlines()
    assert version.startswith("TensorFlow's libraries are not those that the portable profile knows")
    assert " has no variable _ZN10tensorflowL11cache_sizesE of the known form" in fewer
    assert [place.partition(" in ")[0] for place in places] == ["48 2048 8192 KiB"] * 6
    assert pinned == "32 1024 32768 KiB"
    assert refused.startswith("libtensorflow_cc.so.2 has no variable _ZZN5Eigen8internal20manage_caching_sizes")
