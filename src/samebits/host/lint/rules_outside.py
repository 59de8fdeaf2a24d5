"""Rules on what a script reads from outside of code and data: the network, and attributes of files."""

import ast
from collections.abc import Iterator

from samebits.host.lint.source_module import Match, SourceModule, argument, has_unpacking
from samebits.host.lint.value_flow import ValueFlow, any_text_begins

_NETWORK_CALLS = frozenset(
    {
        "urllib.request.urlopen", "urllib.request.urlretrieve", "urllib.urlopen", "urllib.urlretrieve",
        "requests.get", "requests.post", "requests.request", "httpx.get", "socket.create_connection",
        "keras.utils.get_file", "keras.utils.data_utils.get_file", "tensorflow_datasets.load",
        "tensorflow_datasets.builder", "tensorflow_datasets.data_source", "datasets.load_dataset",
        "huggingface_hub.hf_hub_download", "huggingface_hub.snapshot_download", "huggingface_hub.from_pretrained_keras",
        "kagglehub.dataset_download", "kagglehub.model_download", "tensorflow_hub.load", "tensorflow_hub.KerasLayer",
        "gdown.download", "wget.download", "seaborn.load_dataset",
    }
)  # fmt: skip
_MAY_BE_LOCAL = frozenset({"datasets.load_dataset", "tensorflow_hub.load", "tensorflow_hub.KerasLayer"})
"""These take the path of a folder, too."""

_READERS = frozenset(
    {
        "read_csv", "read_json", "read_parquet", "read_table", "read_excel", "read_html", "read_feather", "read_pickle",
        "read_fwf", "read_xml", "loadtxt", "genfromtxt", "imread", "open_dataset", "read_file", "GFile", "read_image",
        "load_img", "DataSource",
    }
)  # fmt: skip
_SOURCE_NAMES = ("filepath_or_buffer", "fname", "path_or_buf", "path", "io", "url", "filename", "uri", "origin", "name")
_ADDRESSES = ("http://", "https://", "ftp://", "s3://", "gs://", "hf://")
_LOCAL = (".", "/", "~", "csv", "json", "parquet", "text", "imagefolder", "arrow")
"""Beginnings of local paths, and the formats under which `load_dataset` reads local files."""

_PROGRAMS = ("os.system", "os.popen", "subprocess.run", "subprocess.call", "subprocess.check_call",
             "subprocess.check_output", "subprocess.Popen")  # fmt: skip
_FILE_TIMES = ("os.path.getmtime", "os.path.getctime", "os.path.getatime", "os.getxattr", "os.listxattr")
_FILE_ATTRIBUTES = frozenset(
    {
        *(f"st_{what}time{unit}" for what in ("m", "c", "a", "birth") for unit in ("", "_ns")),
        *("st_uid", "st_gid", "st_ino", "st_dev", "st_nlink", "mtime_nsec"),
    }
)


def network_access(module: SourceModule) -> Iterator[Match]:
    """SB602: data or weights that are read from the network."""
    flow = ValueFlow(module)
    for call, called in module.calls():
        if _downloads(module, flow, call, called):
            yield call, f"{called}()"
        elif _reads_address(flow, call) or _starts_download(called, call) or _is_session(module, call):
            yield call, f"{ast.unparse(call.func)}()"
        elif _pretrained(module, flow, call, called):
            yield call, f"{ast.unparse(call.func)}() with pretrained weights"


def reads_pinned(module: SourceModule, call: ast.AST, pinned: frozenset[str]) -> bool:
    """Whether `inputs.lock` pins every address that a call is given, and it is given one."""
    if not isinstance(call, ast.Call) or not pinned:
        return False
    flow = ValueFlow(module)
    values = [
        value for given in (*call.args, *(word.value for word in call.keywords)) for value in flow.constants(given)
    ]
    addresses = {value for value in values if isinstance(value, str) and value.startswith(_ADDRESSES)}
    return bool(addresses) and addresses <= pinned


def _downloads(module: SourceModule, flow: ValueFlow, call: ast.Call, called: str) -> bool:
    """Whether a call reads from the network by its name."""
    if called.startswith("keras.datasets.") and called.endswith(".load_data"):
        return True
    if called.startswith("sklearn.datasets.fetch_"):
        return True
    if called in _NETWORK_CALLS and module.function(call.func) is None:
        return called not in _MAY_BE_LOCAL or not any_text_begins(_source(flow, call), _LOCAL)
    return False


def _source(flow: ValueFlow, call: ast.Call) -> list[object]:
    """The constants that the first argument of a call may begin with."""
    return list(flow.constants(argument(call, 0, *_SOURCE_NAMES)))


def _reads_address(flow: ValueFlow, call: ast.Call) -> bool:
    """Whether a call of a reader of files is given an address."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    name = call.func.id if isinstance(call.func, ast.Name) else name
    full = flow.module.called(call).rpartition(".")[2]
    if name == "map" and len(call.args) > 1:  # the reader is called with each of these
        reader = (flow.module.dotted(call.args[0]) or "").rpartition(".")[2]
        return reader in _READERS and any_text_begins(flow.constants(call.args[1]), _ADDRESSES)
    return (name in _READERS or full in _READERS) and any_text_begins(_source(flow, call), _ADDRESSES)


def _starts_download(called: str, call: ast.Call) -> bool:
    """Whether a program is started with an address among its words."""
    if called not in _PROGRAMS:
        return False
    texts = [node.value for item in call.args for node in ast.walk(item) if isinstance(node, ast.Constant)]
    words = [word.strip("'\"") for text in texts if isinstance(text, str) for word in text.split()]
    return any_text_begins(words, _ADDRESSES)


def _is_session(module: SourceModule, call: ast.Call) -> bool:
    """Whether a call is `get` or the like of a `requests.Session`."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in ("get", "post", "request"):
        return False
    owner = call.func.value
    made = [owner, *module.assigned(owner)]
    return any(isinstance(item, ast.Call) and module.called(item) == "requests.Session" for item in made)


def _pretrained(module: SourceModule, flow: ValueFlow, call: ast.Call, called: str) -> bool:
    """Whether a call makes a model whose weights are downloaded."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else called.rpartition(".")[2]
    if name in ("from_pretrained", "from_preset") and isinstance(call.func, ast.Attribute):
        texts = [value for value in _source(flow, call) if isinstance(value, str)]
        return bool(texts) and not any_text_begins(texts, (".", "/", "~"))
    of_keras = called.startswith("keras.applications.") and name[:1].isupper()
    # A function of the file passes its argument on; the call at its end is the one to name.
    if module.function(call.func) is not None:
        return False
    if has_unpacking(call):
        unpacked = [value for word in call.keywords if word.arg is None for value in flow.constants(word.value)]
        return of_keras and any_text_begins(unpacked, ("imagenet",))
    weights = argument(call, 1 if of_keras and isinstance(argument(call, 0), ast.Constant) else -1, "weights")
    if weights is None:
        # The default of every one of them is ImageNet.
        return of_keras and len(call.args) < 2
    return any_text_begins(flow.constants(weights), ("imagenet", "noisy-student", *_ADDRESSES))


def file_attributes(module: SourceModule) -> Iterator[Match]:
    """SB603: times, owners and other attributes of files, which no digest covers."""
    for call, called in module.calls():
        if called in _FILE_TIMES:
            yield call, f"{called}()"
        elif _asks_owner(module, call):
            yield call, f"{ast.unparse(call.func)}()"
    # `key=os.path.getmtime` names the function without calling it.
    called_functions = {call.func for call, _ in module.calls()}
    for node in module.nodes:
        if isinstance(node, ast.Attribute) and node.attr in _FILE_ATTRIBUTES and isinstance(node.ctx, ast.Load):
            yield node, ast.unparse(node)
        elif (
            isinstance(node, (ast.Attribute, ast.Name))
            and isinstance(node.ctx, ast.Load)
            and node not in called_functions
            and module.dotted(node) in _FILE_TIMES
        ):
            yield node, str(module.dotted(node))


def _asks_owner(module: SourceModule, call: ast.Call) -> bool:
    """Whether a call is `owner()` or `group()` of a path; a match of `re` has a `group`, too."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in ("owner", "group") or call.args:
        return False
    owner = call.func.value
    made = [owner, *module.assigned(owner)]
    return any(isinstance(item, ast.Call) and module.called(item) == "pathlib.Path" for item in made)
