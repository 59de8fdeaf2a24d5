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
_ADDRESS = "https://example.org/a.csv"
_READS = [
    f"rows = pd.read_csv('{_ADDRESS}')",
    f"rows = pd.read_csv(filepath_or_buffer='{_ADDRESS}', sep=';')",
    f"URL = '{_ADDRESS}'\nrows = pd.read_csv(URL)",
    "BASE = 'http://example.org'\nrows = pd.read_csv(BASE + '/a.csv')",
    "BASE = 'http://example.org'\nrows = pd.read_csv(f'{BASE}/a.csv')",
    "rows = pd.read_csv('https://example.org/{}.csv'.format(name))",
    "rows = pd.read_csv('https://example.org/%s.csv' % name)",
    "import pandas\nrows = pandas.read_csv('ftp://example.org/a.csv')",
    f"from pandas import read_csv\nrows = read_csv('{_ADDRESS}')",
    f"from pandas import read_csv as load\nrows = load('{_ADDRESS}')",
    f"def load(url='{_ADDRESS}'):\n    return pd.read_csv(url)\nload()",
    f"def load(where):\n    return pd.read_csv(where)\nload('{_ADDRESS}')",
    f"URLS = {{'train': '{_ADDRESS}'}}\nrows = pd.read_csv(URLS['train'])",
    f"rows = [pd.read_csv(url) for url in ['{_ADDRESS}']]",
    f"URLS = {{'train': '{_ADDRESS}'}}\nfor name, url in URLS.items():\n    rows = pd.read_csv(url)",
    f"class Config:\n    url = '{_ADDRESS}'\nrows = pd.read_csv(Config.url)",
    f"parser.add_argument('--data-url', default='{_ADDRESS}')\nrows = pd.read_csv(parser.parse_args().data_url)",
    f"rows = pd.read_csv('{_ADDRESS}' if big else 'b.csv')",
    f"rows = np.loadtxt('{_ADDRESS}')",
    f"rows = np.genfromtxt('{_ADDRESS}', delimiter=',')",
    f"rows = pd.read_json('{_ADDRESS}')",
    "rows = pd.read_parquet('s3://bucket/a.parquet')",
    "file = tf.io.gfile.GFile('gs://bucket/a')",
    "path = keras.utils.get_file('a.csv', origin)",
    "path = tf.keras.utils.get_file('a.csv', origin)",
    "from keras.utils import get_file\npath = get_file('a.csv', origin)",
    "from urllib.request import urlopen as get\npage = get(address)",
    "from urllib import request\nrequest.urlretrieve(address, 'a')",
    "import requests\npage = requests.get(address).content",
    "import requests\nsession = requests.Session()\npage = session.get(address)",
    "import datasets\nrows = datasets.load_dataset('imdb')",
    "from datasets import load_dataset\nrows = load_dataset('imdb', split='train')",
    "import tensorflow_datasets as tfds\nrows = tfds.load('mnist')",
    "from huggingface_hub import hf_hub_download\npath = hf_hub_download(repo_id='a/b', filename='c')",
    "from transformers import TFAutoModel\nmodel = TFAutoModel.from_pretrained('bert-base-uncased')",
    "import keras_hub\nmodel = keras_hub.models.BertClassifier.from_preset('bert_base_en')",
    "from sklearn.datasets import fetch_openml\nrows = fetch_openml('mnist_784')",
    "import subprocess\nsubprocess.run(['wget', 'https://example.org/a.csv'])",
    "os.system('curl -O https://example.org/a.csv')",
    "train, test = (pd.read_csv(u) for u in ('https://x.org/a', 'https://x.org/b'))",
    "frames = list(map(pd.read_csv, ['https://x.org/a', 'https://x.org/b']))",
    "a = np.loadtxt(fname='https://x.org/a.txt', delimiter=',')",
    "from numpy import loadtxt\na = loadtxt('https://x.org/a.txt')",
    "U = 'https://x.org/a.txt'\na = np.loadtxt(U, delimiter=',')",
    "a = np.genfromtxt(fname='https://x.org/a.txt')",
    "from datasets import load_dataset as ld\nd = ld('glue', 'mrpc')",
    "import datasets as hf\nd = hf.load_dataset(path='imdb')",
    "NAME = 'imdb'\nfrom datasets import load_dataset\nd = load_dataset(NAME)",
]
_WEIGHTS = [
    "model = keras.applications.VGG16(weights='imagenet')",
    "model = keras.applications.VGG16()",
    "model = keras.applications.VGG16(False, 'imagenet')",
    "model = keras.applications.resnet50.ResNet50(include_top=False, weights='imagenet')",
    "from tensorflow.keras.applications import MobileNetV2 as Net\nmodel = Net(weights='imagenet')",
    "from tensorflow.keras.applications.efficientnet import EfficientNetB0\nmodel = EfficientNetB0(include_top=False)",
    "from tensorflow import keras as k\nmodel = k.applications.Xception(weights='imagenet')",
    "WEIGHTS = 'imagenet'\nmodel = keras.applications.VGG16(weights=WEIGHTS)",
    "def build(weights='imagenet'):\n    return keras.applications.VGG16(weights=weights)\nbuild()",
    "def build(pre):\n    return keras.applications.VGG16(weights=pre)\nbuild('imagenet')",
    "MODELS = {'vgg': keras.applications.VGG16}\nmodel = MODELS[name](weights='imagenet')",
    "model = getattr(keras.applications, name)(weights='imagenet', include_top=False)",
    "parser.add_argument('--weights', default='imagenet')\nm = keras.applications.VGG16(weights=args.weights)",
    "apps = keras.applications\nmodel = apps.VGG16(weights='imagenet')",
    "import efficientnet.tfkeras as efn\nmodel = efn.EfficientNetB0(weights='imagenet')",
    "model = keras.applications.VGG16(weights=None if scratch else 'imagenet')",
    "model = tf.keras.applications.VGG16(weights='imagenet')",
    "model = tf.keras.applications.ResNet50V2(include_top=False, weights='imagenet', pooling='avg')",
    "from keras.applications import VGG16\nmodel = VGG16('imagenet')",
    "from keras.applications.vgg16 import VGG16\nmodel = VGG16(weights='imagenet', include_top=False)",
    "from keras.applications import vgg16\nmodel = vgg16.VGG16(weights='imagenet')",
    "from keras import applications\nmodel = applications.DenseNet121(weights='imagenet')",
    "from tensorflow.keras import applications as apps\nmodel = apps.InceptionV3(weights='imagenet')",
    "import keras.applications as apps\nmodel = apps.InceptionV3(weights='imagenet')",
    "import tensorflow.keras.applications.mobilenet_v2 as mobile\nmodel = mobile.MobileNetV2(weights='imagenet')",
    "from keras.applications import *\nmodel = VGG16(weights='imagenet')",
    "options = {'weights': 'imagenet', 'include_top': False}\nmodel = keras.applications.VGG16(**options)",
    "options = dict(weights='imagenet')\nmodel = keras.applications.VGG16(**options)",
    "class Config:\n    weights = 'imagenet'\nmodel = keras.applications.VGG16(weights=Config.weights)",
    "CONFIG = {'weights': 'imagenet'}\nmodel = keras.applications.VGG16(weights=CONFIG['weights'])",
    "class Net:\n    def __init__(self, w='imagenet'): self.base = keras.applications.VGG16(weights=w)\nNet()",
    (
        "class Net:\n    def __init__(self):\n        self.weights = 'imagenet'\n"
        "        self.base = keras.applications.VGG16(weights=self.weights)\nNet()"
    ),
    "import functools\nmake = functools.partial(keras.applications.VGG16, weights='imagenet')\nmodel = make()",
    "models = [net(weights='imagenet') for net in (keras.applications.VGG16, keras.applications.VGG19)]",
    "weights = 'imagenet' if pretrained else None\nmodel = keras.applications.VGG16(weights=weights)",
    "Net = keras.applications.VGG16\nmodel = Net(weights='imagenet')",
    "build = {'a': lambda: keras.applications.VGG16(weights='imagenet')}",
    "model = keras.applications.ConvNeXtTiny(include_top=False)",
    "model = keras.applications.EfficientNetV2B0(include_top=True, weights='imagenet')",
    "def make(net=keras.applications.VGG16):\n    return net(weights='imagenet')\nmake()",
    "model = keras.applications.NASNetMobile(weights='imagenet'.lower())",
    "w = 'imagenet'\nv = w\nmodel = keras.applications.VGG16(weights=v)",
]
_ATTRIBUTES = [
    "age = os.path.getmtime('a')",
    "from os.path import getctime as age\nprint(age('a'))",
    "newest = max(paths, key=os.path.getmtime)",
    "age = os.stat('a').st_mtime",
    "at = Path('a').stat()\nage = at.st_mtime_ns",
    "number = Path('a').stat().st_ino",
    "user = os.stat('a').st_uid",
    "paths.sort(key=lambda path: path.stat().st_ctime)",
    "note = os.getxattr('a', 'user.note')",
    "user = Path('a').owner()",
]
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
    *(("SB602", f"import pandas as pd\n{text}") for text in (*_READS, *_WEIGHTS)),
    *(("SB603", text) for text in _ATTRIBUTES),
]

GOOD = [
    "names = sorted(list(map(str, list(Path('data').glob('*.png')))))",
    "names = sorted(map(str, filter(Path.is_file, Path('data').iterdir())))",
    "number = len(list(Path('data').rglob('*')))",
    "names = set(map(str, tuple(Path('data').iterdir())))",
    "words = sorted(list(set(text)))",
    "names = np.sort(os.listdir('data'))",
    "import pandas as pd\nrows = pd.read_csv('a.csv')\nother = pd.read_csv(os.environ['SAMEBITS_DATA'] + '/b.csv')",
    "import pandas as pd\nSOURCE = 'https://example.org/a.csv'  # where it came from\nrows = pd.read_csv('a.csv')",
    "import pandas as pd\nURLS = {'a': 'https://example.org/a'}\nfor name in URLS: print(pd.read_csv(f'{name}.csv'))",
    "import pandas as pd\nU = {'a': 'http://a'}\nfor name, url in U.items(): print(url, pd.read_csv(f'{name}.csv'))",
    "import pandas as pd\nurl = 'https://example.org/a.csv'\nrows = pd.read_csv(url.rpartition('/')[2])",
    "rows = np.loadtxt(Path('data') / 'a.txt')",
    "model = keras.applications.VGG16(weights=None)",
    "model = keras.applications.VGG16(True, None)",
    "model = keras.applications.VGG16(weights=os.environ['SAMEBITS_DATA'] + '/vgg16.h5')",
    "def build(weights=None):\n    return keras.applications.VGG16(weights=weights)\nbuild()",
    "options = {'weights': None}\nmodel = keras.applications.VGG16(**options)",
    "rows = list(map(pd.read_csv, ['a.csv', 'b.csv']))",
    "x = keras.applications.vgg16.preprocess_input(x)",
    "import transformers\nmodel = transformers.TFAutoModel.from_pretrained('./bert')",
    "from datasets import load_dataset\nrows = load_dataset('csv', data_files='a.csv')",
    "def load_dataset(name): return name\nrows = load_dataset('imdb')",
    "import requests\nsession = {}\nvalue = session.get('a')",
    "import re\nfound = re.match('a', 'b').group()",
    "size = os.path.getsize('a')\nfolder = os.stat('a').st_mode",
    "class Table:\n    def __init__(self): self.weights = 'imagenet'",
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
