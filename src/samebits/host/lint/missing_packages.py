"""Imports of a script's project that none of the locked packages brings."""

from collections.abc import Iterable, Iterator

from packaging.utils import canonicalize_name

from samebits.core.distributions import how_to_add
from samebits.core.run_config import RunConfig
from samebits.host.image.build_context import CPU, GPU, context_file, parse_python
from samebits.host.image.lockfile import read_lock
from samebits.host.image.project_lock import find_lock, read_pylock
from samebits.host.image.wheelhouse import Target
from samebits.host.lint.imports import Need, local_names, needs
from samebits.host.lint.source_module import SourceModule

_ALWAYS = {"samebits", "tensorflow", "keras", "numpy"}
"""What every run has. TensorFlow's distribution has several names."""


def locked_names(spec: RunConfig) -> set[str]:
    """The distributions that the script will find: those of samebits's own lock and of the project's."""
    kind = CPU if spec.gpus is None else GPU
    names = _ALWAYS | {pin.name for pin in read_lock(context_file(kind.lock))}
    lock = find_lock(spec)
    if lock is None:
        return names
    if lock.suffix == ".toml":
        return names | {pin.name for pin in read_pylock(lock, Target(python=parse_python(spec.python)))}
    return names | {pin.name for pin in read_lock(lock)}


def missing_packages(spec: RunConfig, modules: Iterable[SourceModule]) -> Iterator[str]:
    """One note for each distribution that is imported and not locked."""
    modules = list(modules)
    local = local_names(module.path for module in modules)
    locked, seen = locked_names(spec), set[str]()
    for need in sorted(item for module in modules for item in needs(module.tree, module.path, local)):
        if canonicalize_name(need.distribution) not in locked and need.distribution not in seen:
            seen.add(need.distribution)
            yield _note(need)


def _note(need: Need) -> str:
    add = how_to_add(need.by) if need.by.isidentifier() else f"echo {need.distribution} >> requirements.in"
    return f"{need.path}:{need.line}: {need.by} needs {need.distribution}, which is not locked: {add}"
