"""The digests of a result, taken by the launcher from the files that a run has left.

They are held against what the process that ran the script says of them. The script shares that process.
"""

import re
from collections import Counter
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.errors import InputError, RecordError, shorten
from samebits.core.hdf5_reader import Tensor
from samebits.core.jsonio import differing_names
from samebits.core.output_walk import OncePerFile, link_digest, list_outputs, unreadable
from samebits.core.recipe import Recipe
from samebits.core.result import LAUNCHER, Measured, ModelResult, OutputFile, Result
from samebits.core.run_dir import RunDir
from samebits.core.run_files import plain_names, plain_sha256
from samebits.core.weights_file import stored_content, stored_tensors
from samebits.host.launch.staging import path_in_container

_MODEL_FILE = re.compile(r"(\d+)-.*(?:\.keras|\.weights\.h5)")
_BY_TENSORS = (".keras", ".h5", ".hdf5")


def measure(folder: RunDir, recipe: Recipe, claimed: Result) -> tuple[Measured, dict[str, Digest]]:
    """What the launcher has measured itself, and the digests of whole files by their path in the folder.

    Raises RecordError where the result says something else than the files.
    """
    try:
        found = _outputs(folder, recipe, claimed)
    except (InputError, OSError) as error:
        raise RecordError(str(error)) from error
    ours, theirs = ({item.path: item for item in items} for items in (found, claimed.outputs))
    if wrong := differing_names(ours, theirs):
        raise RecordError(f"the result has other digests than the files in outputs/: {shorten(wrong, 3)}")
    stored = OncePerFile[Digest | None]()
    contents = {item.path: _has_content(folder, item, stored) for item in found if item.by == "tensors"}
    if wrong := [path for path, same in contents.items() if same is False]:
        raise RecordError(f"the result has other digests than what outputs/ holds: {shorten(wrong, 3)}")
    unsure = [f"outputs/{path}" for path, same in contents.items() if same is None]
    unsure += _unconfirmed(folder, claimed.models)
    return Measured(by=LAUNCHER, claimed=tuple(unsure)), claimed.file_digests()


def _outputs(folder: RunDir, recipe: Recipe, claimed: Result) -> list[OutputFile]:
    """All output files; of model files the process's word."""
    by_tensors = {item.path: item for item in claimed.outputs if item.by == "tensors"}
    found, digests = [], OncePerFile[Digest]()
    for relative, path in list_outputs(folder.outputs, recipe.ignore_outputs)[0]:
        if relative in by_tensors and path.suffix in _BY_TENSORS and not path.is_symlink():
            found.append(by_tensors[relative])
        else:
            found.append(_output(relative, path, folder, digests))
    return found


def _has_content(folder: RunDir, item: OutputFile, stored: OncePerFile[Digest | None]) -> bool | None:
    """Whether a model file's content has its digest; None where the launcher cannot read it."""
    path = folder.outputs / item.path
    try:
        found = stored.read(path, path.suffix, lambda: stored_content(path, folder.path))
    except OSError:
        found = None
    return None if found is None else str(found) == item.digest


def _output(relative: str, path: Path, folder: RunDir, digests: OncePerFile[Digest]) -> OutputFile:
    if path.is_symlink():
        seen_outputs = path_in_container(folder) / folder.outputs.name
        return OutputFile(path=relative, by="link", digest=str(link_digest(path, folder.outputs, seen_outputs)))
    try:
        digest = digests.read(path, "", lambda: Digest(plain_sha256(path, folder.path)))
    except OSError as error:
        raise unreadable(relative, error) from error
    return OutputFile(path=relative, by="bytes", digest=str(digest))


def _unconfirmed(folder: RunDir, models: tuple[ModelResult, ...]) -> list[str]:
    """The models whose tensors are not all in a file of theirs. Raises RecordError where the file has others."""
    files = _model_files(folder)
    found = []
    for index, model in enumerate(models):
        claims = Counter((item.dtype, item.shape, item.digest) for group in model.tensors.values() for item in group)
        stored = stored_tensors(folder.models / files[index], folder.path) if index in files else None
        if stored is not None and claims - stored and _kinds(claims) == _kinds(stored):
            raise RecordError(f"the result has other values of {model.name} than models/{files[index]} holds")
        if stored is None or claims - stored:
            found.append(f"model {index} ({model.name})")
    return found


def _model_files(folder: RunDir) -> dict[int, str]:
    """The names in models/ by the model's number; none where the script has put something else in its place."""
    try:
        names = plain_names(folder.models)
    except OSError:
        return {}
    return {int(match[1]): name for name in names if (match := _MODEL_FILE.fullmatch(name))}


def _kinds(tensors: Counter[Tensor]) -> Counter[tuple[str, tuple[int, ...]]]:
    kinds: Counter[tuple[str, tuple[int, ...]]] = Counter()
    for (dtype, shape, _), number in tensors.items():
        kinds[dtype, shape] += number
    return kinds
