"""What each rule finds and what it must not find: the examples of docs/rules, and more of both kinds."""

import ast
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from samebits.host.lint.linter import BY_CODE, findings_in
from samebits.host.lint.source_module import SourceModule
from support.command import ROOT
from support.lanes import long_tail

_IMPORTS = (
    "import datetime, glob, hashlib, math, multiprocessing, os, random, secrets, threading, time, uuid, zlib\n"
    "import urllib.request\n"
    "from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor\nfrom pathlib import Path\n"
    "import numpy as np\nfrom sklearn.cluster import KMeans\n"
    "from sklearn.model_selection import KFold, train_test_split\n"
)
_TENSORFLOW = "import keras\nimport tensorflow as tf\n"
_PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "rules").glob("SB*.md"))}
_PROVE = ROOT / "tools" / "prove_rules.py"


def _codes(text: str) -> set[str]:
    ours = "" if "import tensorflow" in text else _TENSORFLOW
    text = f"{_IMPORTS}{ours}{text}\n"
    return {finding.code for finding in findings_in(SourceModule(path="train.py", tree=ast.parse(text), text=text))}


def _example(code: str, kind: str) -> str:
    found = re.findall(rf"```python {kind}\n(.*?)```", _PAGES[code], re.DOTALL)
    assert len(found) == 1, f"{code} has {len(found)} {kind} examples"
    return str(found[0])


def test_every_rule_has_its_page() -> None:
    assert list(_PAGES) == list(BY_CODE)
    index = (ROOT / "docs" / "rules" / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[(SB\d+)\]\(\1\.md\) \|.*\| (yes|no).* \|$", index, re.MULTILINE))
    assert list(rows) == list(BY_CODE)
    for code, bites in rows.items():
        assert (_measured(code)[0][0] == "differ") == (bites == "yes"), code


def _measured(code: str) -> list[list[str]]:
    """The measured outcomes of the bad and the good example, with samebits's settings and without."""
    rows = [line.split(" | ") for line in _PAGES[code].splitlines() if line.endswith(" |") and "`: " in line]
    return [[cell.rpartition(": ")[2].removesuffix(" |") for cell in row[1:]] for row in rows]


@pytest.mark.parametrize("code", BY_CODE)
def test_the_page_of_a_rule(code: str) -> None:
    for kind, codes in (("bad", {code}), ("good", set())):
        text = _example(code, kind)
        assert {
            found.code for found in findings_in(SourceModule(path="train.py", tree=ast.parse(text), text=text))
        } == codes
    with_settings, without = _measured(code)
    assert with_settings in (["differ", "the same"], ["the same", "the same"])
    assert without == ["differ", "the same"]


@pytest.mark.parametrize("code", BY_CODE)
def test_a_page_measured_its_own_examples(code: str) -> None:
    """The page's last line has the digests of the examples that were measured."""
    digests = (hashlib.sha256(_example(code, kind).encode()).hexdigest()[:8] for kind in ("bad", "good"))
    assert _PAGES[code].endswith(f"\n<!-- examples: {' '.join(digests)} -->\n")


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("code", long_tail(["SB101", "SB203", "SB305", "SB401"], keep=["SB203", "SB305"]))
def test_measured_outcomes_are_reproduced(code: str) -> None:
    """Two runs of the bad example differ, two runs of the good one do not. `make prove-rules` measures all pages."""
    done = subprocess.run([sys.executable, str(_PROVE), "--check", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("locked")
def test_a_page_that_is_wrong(tmp_path: Path) -> None:
    """With the good example in place of the bad one, the check must fail."""
    page = _PAGES["SB105"].replace(_example("SB105", "bad"), _example("SB105", "good"))
    digests = re.findall("<!-- examples: (\\w+) (\\w+) -->", page)[0]
    page = page.replace(digests[0], digests[1])  # else only the digest would be wrong
    (tmp_path / "SB105.md").write_text(page, encoding="utf-8")
    words = [sys.executable, str(_PROVE), "--check", "--pages", str(tmp_path), "SB105"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.count("the same") == 2


_WORKERS = """
rng = np.random.default_rng(3)
class Data(keras.utils.PyDataset):
    def __getitem__(self, index): return rng.normal()
data = Data(workers=3, use_multiprocessing=True)
"""
BAD = [
    ("SB101", "rng = np.random.RandomState()"),
    ("SB101", "rng = np.random.default_rng(None)"),
    ("SB101", "rng = np.random.Generator(np.random.PCG64())"),
    ("SB101", "from numpy.random import default_rng as make\nrng = make(seed=None)"),
    ("SB101", "seeds = np.random.SeedSequence().spawn(3)"),
    ("SB102", "random.seed()"),
    ("SB102", "np.random.seed(None)"),
    ("SB102", "g = tf.random.Generator.from_non_deterministic_state()"),
    ("SB103", "def f(i): return random.random()\nthreading.Thread(target=f).start()"),
    ("SB103", "rng = np.random.default_rng(3)\ndef f(i): return rng.normal()\nlist(ThreadPoolExecutor().map(f, [1]))"),
    ("SB103", "with multiprocessing.Pool(2) as pool: pool.map(lambda i: np.random.rand(), [1, 2])"),
    ("SB103", "def f(): return np.random.rand()\nmultiprocessing.Process(target=f)"),
    ("SB104", "np.random.seed(os.getpid())"),
    ("SB104", "rng = np.random.default_rng(int.from_bytes(os.urandom(4)))"),
    ("SB104", "seed = time.time_ns() if False else int(time.time())\ntf.random.set_seed(seed)"),
    ("SB104", "layer = keras.layers.Dropout(0.5, seed=secrets.randbelow(9))"),
    ("SB104", "random.seed(uuid.uuid4().int)"),
    ("SB104", "rng = random.Random(datetime.datetime.now().timestamp())"),
    ("SB105", "key = os.urandom(8)"),
    ("SB105", "fold = secrets.choice([1, 2])"),
    ("SB105", "rng = random.SystemRandom()"),
    ("SB201", "for name in set(names): print(name)"),
    ("SB201", "words = list({word.lower() for word in text})"),
    ("SB201", "print(','.join(set(names) | {'x'}))"),
    ("SB201", "known = frozenset(names)\norder = [word for word in known]"),
    ("SB202", "parts = [hash(name) for name in names]"),
    ("SB203", "for path in Path('data').iterdir(): load(path)"),
    ("SB203", "paths = [path for path in Path('data').rglob('*.png')]"),
    ("SB203", "paths = glob.glob('data/*.png')\nlabels = [label(path) for path in paths]"),
    ("SB203", "for folder, _, files in os.walk('data'): load(files)"),
    ("SB203", "names = [entry.name for entry in os.scandir('data')]"),
    ("SB301", "options = tf.data.Options()\noptions.deterministic = False"),
    ("SB302", "data = tf.data.Dataset.from_tensor_slices(x).batch(2)\ndata = data.shuffle(9)"),
    (
        "SB303",
        "def f(v): return tf.image.random_flip_left_right(v)\nd = data.map(f, num_parallel_calls=9)",
    ),
    ("SB304", "data = keras.preprocessing.text_dataset_from_directory('data', batch_size=2)"),
    ("SB304", "files = tf.data.Dataset.list_files('data/*')"),
    ("SB305", _WORKERS),
    ("SB401", "os.environ['PYTHONHASHSEED'] = '0'"),
    ("SB401", "x = tf.constant(1)\ntf.config.threading.set_intra_op_parallelism_threads(1)"),
    ("SB401", "model = keras.Sequential()\ntf.config.experimental.enable_op_determinism()"),
    ("SB501", "folds = KFold(3, shuffle=True)"),
    ("SB501", "groups = KMeans(3, random_state=None)"),
    ("SB601", "start = time.time()\nif time.time() - start > 9: stop()"),
    ("SB601", "rate = 0.1 if datetime.datetime.now().hour > 9 else 0.2"),
    ("SB602", "(x, y), _ = keras.datasets.mnist.load_data()"),
    ("SB602", "page = urllib.request.urlopen(address).read()"),
]

GOOD = [
    "rng = np.random.default_rng(seed)",
    "rng = np.random.Generator(np.random.Philox(key=3)) if False else np.random.RandomState(3)",
    "random.seed(3)\nnp.random.seed(3)\nx = np.random.normal(size=3)",
    "def f(i):\n    rng = np.random.default_rng(i)\n    return rng.normal()\nlist(ThreadPoolExecutor().map(f, [1]))",
    "def f(i): return i\nmultiprocessing.Pool(2).map(f, [1])",
    "def f(v): return v\ndata = tf.data.Dataset.range(3).map(f)",
    "started = time.time()\ntrain()\nprint(time.time() - started)",
    "names = set(rows)\nif 'a' in names: print(len(names))",
    "for name in sorted(set(rows)): print(name)",
    "names = sorted(name for name in set(rows))",
    "kinds = {kind.lower() for kind in set(rows)}",
    "common = set(a) & set(b)\nprint(sorted(common))",
    "for key in {'a': 1}: print(key)",
    "for name in dict.fromkeys(rows): print(name)",
    "digest = hashlib.sha256(text).hexdigest()",
    "names = os.listdir('data')\nnames.sort()\nfor name in names: load(name)",
    "paths = sorted(path for path in Path('data').glob('*.csv') if path.is_file())",
    "for folder, folders, files in os.walk('data'):\n    folders.sort()\n    for file in sorted(files): load(file)",
    "number = len(os.listdir('data'))",
    "keras.utils.set_random_seed(3)\ndata = tf.data.Dataset.range(9).shuffle(9)",
    "data = tf.data.Dataset.range(9).shuffle(9, 3, reshuffle_each_iteration=True)",
    "files = tf.data.Dataset.list_files('data/*', shuffle=False)",
    "data = keras.utils.image_dataset_from_directory('data', shuffle=False)",
    "def f(v): return tf.random.uniform([])\ndata = tf.data.Dataset.range(9).map(f)",
    "def f(v): return tf.image.stateless_random_flip_left_right(v, [1, 2])\nd = data.map(f, num_parallel_calls=4)",
    "random.shuffle(rows)",
    "folds = KFold(3)",
    "train, test = train_test_split(rows, shuffle=False)",
    "groups = KMeans(3, **options)",
    "tf.config.threading.set_intra_op_parallelism_threads(1)\nx = tf.constant(1)",
    "os.environ['TZ'] = 'UTC'",
    "path = os.environ.get('SAMEBITS_DATA')",
    "hash(3)",
    "class Mine:\n    def shuffle(self, n): return n\nMine().shuffle(3)",
]


@pytest.mark.parametrize(("code", "text"), BAD)
def test_bad(code: str, text: str) -> None:
    assert _codes(text) == {code}


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str) -> None:
    assert _codes(text) == set()
