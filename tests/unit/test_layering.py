"""Who may import whom: two halves with one shared core, one door to each outside thing, no cycles."""

import ast
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import samebits

_PACKAGE = Path(samebits.__file__).parent
_TRAINING = {"tensorflow", "keras"}
_ARRAYS = {"numpy", "h5py"}
_WITH_ARRAYS = "samebits.host.compare.tensor_diff"


@dataclass(frozen=True)
class Import:
    """One import statement's target; `at_top` where it runs as soon as its module is imported."""

    module: str
    target: str
    at_top: bool

    @property
    def package(self) -> str:
        return self.target.partition(".")[0]


def _module_name(path: Path) -> str:
    parts = ("samebits", *path.relative_to(_PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {_module_name(path): path.read_text() for path in sorted(_PACKAGE.rglob("*.py"))}


def _nodes(node: ast.AST, *, at_top: bool) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes below one; what functions hold, and what type checkers alone see, does not run at the top."""
    for child in ast.iter_child_nodes(node):
        yield child, at_top
        later = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) or (
            isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        )
        yield from _nodes(child, at_top=at_top and not later)


@functools.cache
def imports_of(module: str, source: str) -> tuple[Import, ...]:
    """Every import of a module; `from package import module` counts as an import of the module."""
    return tuple(_imports_of(module, source))


def _imports_of(module: str, source: str) -> Iterator[Import]:
    for node, at_top in _nodes(ast.parse(source), at_top=True):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            inner = (f"{base}.{alias.name}" for alias in node.names)
            targets = [name if name in SOURCES else base for name in inner]
        for target in targets:
            yield Import(module, target, at_top)


def _layer(module: str) -> str:
    """`host`, `runner` or `core`; `python -m samebits` is the host's command line, the public API is core."""
    part = module.split(".")[1:2]
    return "host" if part == ["__main__"] else part[0] if part in (["host"], ["runner"]) else "core"


def _only_in(package: str, *modules: str) -> Callable[[Import], bool]:
    return lambda found: found.package == package and found.module not in modules


RULES: dict[str, Callable[[Import], bool]] = {
    "relative": lambda found: found.target.startswith("."),
    # A layer imports itself and the shared core.
    "layers": lambda found: found.package == "samebits" and _layer(found.target) not in ("core", _layer(found.module)),
    # One door to each outside thing.
    "docker": _only_in("docker", "samebits.host.docker"),
    "programs": _only_in(
        "subprocess",
        "samebits.host.subprocesses",
        "samebits.runner.process.launcher_watch",
        "samebits.runner.process.output_capture",
    ),
    "rich": _only_in("rich", "samebits.host.console"),
    "nvml": _only_in("pynvml", "samebits.core.gpu_info"),
    "symbols": _only_in(
        "ctypes",
        "samebits.core.gpu_info",  # the driver's documented interface
        "samebits.runner.compat.cpython_private",
        "samebits.runner.compat.library_caches",
        "samebits.runner.compat.numpy_private",
        "samebits.runner.process.launcher_watch",  # the documented prctl
        "samebits.runner.process.private_network",  # the documented unshare
        "samebits.runner.determinism.fingerprint",  # the C library's
    ),
    # TensorFlow and its kin are imported in the container's half, by the functions that need them.
    "training": lambda found: found.package in _TRAINING and (_layer(found.module) != "runner" or found.at_top),
    # The host reads kept tensors in one place, and only when it must: the command line starts without.
    "arrays": lambda found: (
        found.package in _ARRAYS
        and (found.at_top or (_layer(found.module) != "runner" and found.module != _WITH_ARRAYS))
    ),
    # The host reads a stranger's model files itself: a defect of a C library would be a way in.
    "models": lambda found: found.package == "h5py" and _layer(found.module) != "runner",
    # Beside the script there is the standard library, and what requirements.lock holds.
    "foreign": lambda found: (
        _layer(found.module) != "host"
        and found.package not in {*sys.stdlib_module_names, *_TRAINING, *_ARRAYS, "samebits", "pynvml", "xxhash"}
    ),
}


def violations(rule: str, module: str, source: str) -> list[str]:
    """The imports of one module that break one rule."""
    return [f"{module} imports {found.target}" for found in imports_of(module, source) if RULES[rule](found)]


def cycle(sources: dict[str, str]) -> list[str]:
    """Modules that need each other to be imported; empty where there are none."""
    graph = {
        module: {found.target for found in imports_of(module, source) if found.at_top and found.target in sources}
        for module, source in sources.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("rule", RULES)
def test_rule(rule: str) -> None:
    assert len(SOURCES) > 20
    assert [line for module, source in SOURCES.items() for line in violations(rule, module, source)] == []


def test_no_cycles() -> None:
    assert cycle(SOURCES) == []


_BROKEN = [
    ("relative", "samebits.core.file_tree", "from . import digest"),
    ("layers", "samebits.host.runs.registry", "import samebits.runner.script_runner"),
    ("layers", "samebits.host.runs.registry", "def f():\n from samebits import runner"),
    ("layers", "samebits.runner.script_runner", "from samebits.host.runs.registry import find_run"),
    ("layers", "samebits.core.file_tree", "from samebits.host import runs"),
    ("layers", "samebits.core.file_tree", "try:\n from samebits.runner import script\nexcept OSError:\n pass"),
    ("layers", "samebits.core.file_tree", "if TYPE_CHECKING:\n from samebits.host.docker import Engine"),
    ("docker", "samebits.host.image.build", "from docker.errors import APIError"),
    ("programs", "samebits.host.image.build", "def f():\n import subprocess"),
    ("rich", "samebits.host.runs.registry", "import rich.table"),
    ("symbols", "samebits.runner.determinism.settings", "import ctypes"),
    ("nvml", "samebits.runner.observe.environment", "import pynvml"),
    ("arrays", "samebits.runner.digests.tensors", "import numpy as np"),
    ("arrays", "samebits.runner.digests.tensors", "class A:\n import h5py"),
    ("arrays", "samebits.core.jsonio", "def f():\n import numpy"),
    ("arrays", "samebits.host.compare.tensor_diff", "import numpy"),
    ("models", "samebits.host.compare.tensor_diff", "def f():\n import h5py"),
    ("training", "samebits.runner.digests.tensors", "import tensorflow as tf"),
    ("training", "samebits.host.runs.registry", "def f():\n import keras.utils"),
    ("foreign", "samebits.core.jsonio", "import requests"),
    ("foreign", "samebits.runner.script_runner", "def f():\n import blake3"),
]


@pytest.mark.parametrize(("rule", "module", "source"), _BROKEN)
def test_a_rule_can_be_broken(rule: str, module: str, source: str) -> None:
    assert len(violations(rule, module, source)) == 1


def test_every_rule_is_shown_to_break() -> None:
    assert {rule for rule, _, _ in _BROKEN} == set(RULES)


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ("from samebits.core.jsonio import x", "import samebits.core.file_tree", True),
        ("from samebits.core import jsonio", "class A:\n from samebits.core import file_tree", True),
        ("from samebits.core.jsonio import x", "def f():\n import samebits.core.file_tree", False),
        ("from samebits.core.jsonio import x", "if TYPE_CHECKING:\n import samebits.core.file_tree", False),
    ],
)
def test_a_cycle_can_be_found(one: str, other: str, found: bool) -> None:
    assert bool(cycle({"samebits.core.file_tree": one, "samebits.core.jsonio": other})) == found


def package_cycle(sources: dict[str, str]) -> list[str]:
    """Packages that import each other anywhere, in functions too; a module in no package stands for itself."""
    packages = {module.rpartition(".")[0] for module in sources if module.count(".") > 2}
    rooms = {module: ".".join(module.split(".")[:3]) for module in sources if module not in packages}
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        if module in rooms:
            targets = {rooms[found.target] for found in imports_of(module, source) if found.target in rooms}
            graph.setdefault(rooms[module], set()).update(targets - {rooms[module]})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_packages_have_no_cycle() -> None:
    assert package_cycle(SOURCES) == []


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ("import samebits.host.runs.show", "def f():\n import samebits.host.audit.chain", True),
        ("import samebits.host.runs.show", "from samebits.host.runs import other", False),
    ],
)
def test_a_cycle_of_packages_can_be_found(one: str, other: str, found: bool) -> None:
    sources = {"samebits.host.audit.chain": one, "samebits.host.runs.show": other, "samebits.host.runs.other": ""}
    assert bool(package_cycle(sources)) == found


_READS = {
    *("open", "fdopen", "read_text", "read_bytes", "copyfile", "copytree", "copy", "copy2", "of_file", "link"),
    *("ZipFile", "TarFile", "unpack_archive", "make_archive", "File", "load", "memmap", "open_code", "run_path"),
}
_READERS = {
    # Host modules that open files themselves, and what these are: none lies in a run's folder.
    "samebits.host.cache_dir": "locks of the cache",
    "samebits.host.capsule.archive": "data, inputs and wheels that are packed, and the capsule that is written",
    "samebits.host.capsule.blob_store": "drafts that it writes, and wheels",
    "samebits.host.capsule.image_layout": "exported images",
    "samebits.host.capsule.software": "wheels whose digests were checked, in a folder of ours",
    "samebits.host.capsule.unpack": "files that it writes",
    "samebits.host.cluster.pod_submission": "this installation, which it copies",
    "samebits.host.console": "/dev/null",
    "samebits.host.container_request": "the kernel",
    "samebits.host.docker": "archives of images",
    "samebits.host.image_archive": "archives of images",
    "samebits.host.launch.git_commit": "the user's own code, before it becomes a run",
    "samebits.host.image.base_image": "archives of bases, and our Dockerfile",
    "samebits.host.image.build": "what buildx reports, and the cache",
    "samebits.host.image.build_context": "our own source",
    "samebits.host.image.built_wheels": "wheels of a project's own, beside its lock",
    "samebits.host.image.lock_compiler": "what pip reports about a project's requirements",
    "samebits.host.image.lockfile": "a lock in a copy of the context, or a project's",
    "samebits.host.image.project_lock": "a project's lock",
    "samebits.host.cleanup.cache_items": "/proc",
    "samebits.host.image.requirements": "a project's requirements",
    "samebits.host.image.rebuild": "exported images",
    "samebits.host.image.received": "a copy of a run's context, which the door made",
    "samebits.host.image.wheel_metadata": "wheels in the cache, and of a project's own",
    "samebits.host.image.wheelhouse": "wheels in the cache",
    "samebits.host.fetch.script_fetch": "files of the cache, for an export",
    "samebits.host.image.lock_conflict": "pip's log in a temporary folder",
    "samebits.host.inputs.network": "this machine's certificates",
    "samebits.host.inputs.download": "drafts in the cache",
    "samebits.host.rerun.script_output": "pipes to a script",
    "samebits.host.inputs.store": "files of the cache, and of the folder beside the runs",
    "samebits.host.launch.apptainer_images": "images in the cache",
    "samebits.host.launch.installed_files": "virtual environments and unpacked images",
    "samebits.host.launch.ledger_keeper": "appends to a ledger that it has read through the door",
    "samebits.host.launch.staging": "copies what this launcher has just published",
    "samebits.host.launch.tidy": "changes modes",
    "samebits.host.launch.train": "/dev/null",
    "samebits.host.launch.unpacked_choice": "an image's archive that the user names",
    "samebits.host.launch.venv": "locks in a copy of the context",
    "samebits.host.podman_service": "what a program that it starts prints",
    "samebits.host.subprocesses": "a log that it writes",
    "samebits.host.signing.keys": "key files that it writes",
    "samebits.host.project_init": "the scripts of a user's project",
    "samebits.host.lint.linter": "the user's script",
    "samebits.host.rerun.fingerprint_cache": "the kernel, the C library and the cache",
    "samebits.host.rerun.hardware": "the kernel",
    "samebits.host.report.page": "our own templates",
    "samebits.host.runs.run_index": "the folder of runs, of which it asks for times alone",
    "samebits.host.rerun.segment_worker": "/dev/null",
    "samebits.host.sweep.member_run": "/dev/null",
}


def calls_of(source: str, names: set[str]) -> list[str]:
    """The names of functions and methods that a module calls, out of some."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    found = (call.id if isinstance(call, ast.Name) else getattr(call, "attr", "") for call in calls)
    return sorted(name for name in found if name in names)


def test_the_host_reads_runs_through_one_door() -> None:
    """`core/run_files`: regular files beneath the folder only. Whoever opens another file is listed with its reason."""
    readers = {module for module, source in SOURCES.items() if _layer(module) == "host" and calls_of(source, _READS)}
    assert sorted(readers - _READERS.keys()) == [], "use open_plain, read_plain or plain_lines"
    assert sorted(_READERS.keys() - readers) == []


_CORE_READERS = {
    # The same of what both halves share. A function that opens a path as it is must not be given one of a run.
    "samebits.core.checkpoint_store": "the script's output files, which a training keeps; tests/unit/core",
    "samebits.core.code_tree": "the user's own code, before it becomes a run",
    "samebits.core.cpu_info": "the kernel",
    "samebits.core.deep_folders": "folders, one by one and not through links",
    "samebits.core.connections": "folders of sockets, and of workers' messages",
    "samebits.core.digest": "`of_file`, which the host calls where it is listed",
    "samebits.core.file_tree": "the user's own code and data; with `within`, through the door",
    "samebits.core.jsonio": "folders, to flush them",
    "samebits.core.ledger": "the training's own ledger; `is_alive`, which reads nothing and does not wait",
    "samebits.core.liveness": "the kernel",
    "samebits.core.own_output": "the kernel",
    "samebits.core.run_dir": "space that it reserves, and folders, to lock them",
    "samebits.core.run_files": "the door",
    "samebits.core.run_setup": "the ledger of a new run",
    "samebits.core.source_digest": "our own source",
    "samebits.core.weights_file": "archives that the door opened",
}


def test_the_core_reads_runs_through_one_door() -> None:
    found = {module for module, source in SOURCES.items() if _layer(module) == "core" and calls_of(source, _READS)}
    found -= {"samebits.core.recipe", "samebits.core.result"}  # dictionaries that are copied
    assert found == _CORE_READERS.keys()


def test_the_host_prints_in_one_place() -> None:
    """There, whatever a terminal would obey is escaped."""
    sources = {module: source for module, source in SOURCES.items() if _layer(module) == "host"}
    printers = {module for module, source in sources.items() if calls_of(source, {"print"})}
    assert printers - {"samebits.host.cli.check"} == {"samebits.host.console"}
    assert "overhead.print()" in SOURCES["samebits.host.cli.check"], "a method of that name"


@pytest.mark.parametrize(
    "source", ["open(x)", "x.read_text()", "lambda: Path(x).open()", "Digest.of_file(x)", "h5py.File(x)", "np.load(x)"]
)
def test_a_read_is_seen(source: str) -> None:
    assert calls_of(source, _READS)
