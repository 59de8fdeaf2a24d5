"""What differs between two runs: in what went in, and in what came out. Always all of it, never the first of a kind.

Reads records, manifests, kept code and ledgers; nothing is run, and a ledger is read line by line.
"""

import difflib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.environment import Environment, ObservedSystem
from samebits.core.file_tree import Tree, read_manifest
from samebits.core.jsonio import differing_names
from samebits.core.recipe import differing_parts, leaves
from samebits.core.record import Record
from samebits.core.result import FitResult, Result, TensorDescription
from samebits.core.run_dir import RunDir
from samebits.host.compare.ledger_diff import first_divergence
from samebits.host.compare.tensor_diff import TensorStore, tensor_distance

INPUTS = "inputs"
OUTPUTS = "outputs"
_DIGEST = re.compile(r"\b(sha256:[0-9a-f]{8})[0-9a-f]{56}\b")


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One thing that is not the same; `before` and `after` are None where one run does not have it."""

    side: str
    kind: str
    name: str
    before: str | None
    after: str | None
    detail: str = ""

    def to_dict(self) -> dict[str, str | None]:
        """As `--json` prints it."""
        return {
            "side": self.side,
            "kind": self.kind,
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "detail": self.detail,
        }


def diff(one: RunDir, other: RunDir) -> list[Difference]:
    """Every difference, inputs first. Raises RecordError where a record, manifest or ledger cannot be read."""
    records = one.read(), other.read()
    return [*_inputs((one, other), records), *_outputs((one, other), records)]


Folders = tuple[RunDir, RunDir]
Records = tuple[Record, Record]


def _inputs(folders: Folders, records: Records) -> Iterator[Difference]:
    parts = [leaves(record.recipe.to_dict()) for record in records]
    names = differing_parts(records[0].recipe, records[1].recipe)
    for name in names:
        yield _difference(INPUTS, "recipe", name, parts[0].get(name), parts[1].get(name))
    if "code.tree" in names:
        yield from _files("code", folders, lambda folder: folder.code_manifest, code=True)
    if "data.tree" in names:
        yield from _files("data", folders, lambda folder: folder.data_manifest)
    yield from _environments(*(record.environment for record in records))


def _environments(before: Environment, after: Environment) -> Iterator[Difference]:
    """What was observed of software and machine; a run that ended before that has nothing to compare."""
    one, other = before.system, after.system
    if one is None or other is None:
        observed = (None if system is None else "observed" for system in (one, other))
        yield from _mapped(INPUTS, "environment", *({"all of it": word} for word in observed))
        return
    yield from _mapped(INPUTS, "package", one.distributions, other.distributions)
    yield from _mapped(INPUTS, "setting", _settings(before), _settings(after))
    yield from _mapped(INPUTS, "variable", one.variables, other.variables)
    yield from _mapped(INPUTS, "machine", _machine(before, one), _machine(after, other))
    if before.arithmetic is not None and after.arithmetic is not None:
        yield from _mapped(INPUTS, "operation", before.arithmetic.operations, after.arithmetic.operations)
    else:  # of all of them nothing can be said but that
        taken = (None if found.arithmetic is None else "taken" for found in (before, after))
        yield from _mapped(INPUTS, "machine", *({"fingerprint": word} for word in taken))


def _outputs(folders: Folders, records: Records) -> Iterator[Difference]:
    yield from _mapped(OUTPUTS, "outcome", *({"state": record.outcome.state} for record in records))
    yield from _ledgers(folders, records)
    results = [record.result or Result() for record in records]
    found = list(_results(folders, results))
    yield from found
    if not found and results[0].digest != results[1].digest:
        # Only keys that a newer version added can differ here.
        yield _difference(OUTPUTS, "result", "digest", str(results[0].digest), str(results[1].digest))


def _results(folders: Folders, results: Sequence[Result]) -> Iterator[Difference]:
    yield from _metrics(*(result.fits for result in results))
    yield from _mapped(OUTPUTS, "model", *(_models(result) for result in results))
    yield from _final_tensors(folders, results)
    yield from _mapped(OUTPUTS, "file", *({item.path: item.digest for item in result.outputs} for result in results))


def _models(result: Result) -> dict[str, str]:
    """Each model's name, and how it was trained."""
    return {str(number): f"{model.name}, by {model.how}" for number, model in enumerate(result.models)}


def _difference(side: str, kind: str, name: str, before: Any, after: Any, detail: str = "") -> Difference:
    return Difference(side=side, kind=kind, name=name, before=_text(before), after=_text(after), detail=detail)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _mapped(side: str, kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    """Every name whose value differs, or that one of the two does not have."""
    for name in differing_names(before, after):
        yield _difference(side, kind, name, before.get(name), after.get(name))


def _settings(environment: Environment) -> dict[str, str]:
    return {item.name: item.found for item in environment.settings or ()}


def _machine(environment: Environment, system: ObservedSystem) -> dict[str, Any]:
    """What the run was observed to run on, but for its cores, which decide nothing."""
    cpu, arithmetic = system.cpu, environment.arithmetic
    return {
        "cpu model": cpu.model,
        "cpu family_model_stepping": cpu.family_model_stepping,
        "cpu flags": list(cpu.flags),
        "cpu caches": [cache.to_dict() for cache in cpu.caches],
        "runtime": environment.runtime,
        "python": system.python,
        "system": system.system,
        "kernel": system.kernel,
        "libc": system.libc,
        "onednn": None if arithmetic is None else arithmetic.onednn,
        "openblas": None if arithmetic is None else arithmetic.openblas,
        "numpy_features": None if arithmetic is None else list(arithmetic.numpy_features),
        "gpu": system.gpu.to_dict(),
        "cuda_built_for": system.cuda_built_for,
        "cudnn_built_for": system.cudnn_built_for,
    }


def _files(
    kind: str, folders: Folders, manifest: Callable[[RunDir], Path], *, code: bool = False
) -> Iterator[Difference]:
    """Files that were added, removed or changed; of code, line by line."""
    trees = [_digests(read_manifest(path)) if (path := manifest(folder)).exists() else {} for folder in folders]
    for difference in _mapped(INPUTS, kind, *trees):
        if not code:
            yield difference
            continue
        before, after = (_lines(folder.code / difference.name) for folder in folders)
        names = f"a/{difference.name}", f"b/{difference.name}"
        changed = difflib.unified_diff(before, after, *names, n=1, lineterm="")
        yield Difference(
            side=INPUTS,
            kind=kind,
            name=difference.name,
            before=difference.before,
            after=difference.after,
            detail="\n".join(changed),
        )


def _digests(tree: Tree) -> dict[str, str]:
    return {entry.path: "folder" if entry.digest is None else str(entry.digest) for entry in tree.entries}


def _lines(path: Path) -> list[str]:
    """A file's lines; none where it is not there, or is no text."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _ledgers(folders: Folders, records: Records) -> Iterator[Difference]:
    """The first line from which two ledgers part, and in which groups of tensors, or metrics."""
    parting = first_divergence(*zip(folders, records, strict=True))
    if parting is None:
        return
    if parting.one is None or parting.other is None:
        before, after = ("a line" if line else None for line in (parting.one, parting.other))
        yield _difference(OUTPUTS, "ledger", parting.where, before, after)
        return
    for name, before, after in parting.differences():
        yield _difference(OUTPUTS, "ledger", f"{parting.where}, {name}", before, after)


def _metrics(before: Sequence[FitResult], after: Sequence[FitResult]) -> Iterator[Difference]:
    """Every metric whose history parts: the first epoch's values, and the largest distance of all."""
    for number, pair in enumerate(itertools.zip_longest(before, after)):
        histories: list[Mapping[str, tuple[str, ...]]] = [{} if fit is None else fit.history for fit in pair]
        for name in sorted(histories[0].keys() | histories[1].keys()):
            values = [history.get(name, ()) for history in histories]
            parted = [
                (epoch, one, other) for epoch, (one, other) in enumerate(itertools.zip_longest(*values)) if one != other
            ]
            if parted:
                epoch, one, other = parted[0]
                yield _difference(
                    OUTPUTS, "metric", f"fit {number}, epoch {epoch}, {name}", one, other, _distance(parted)
                )


def _distance(parted: list[tuple[int, str | None, str | None]]) -> str:
    """The largest distance of two exact floats; nothing where there is none to take."""
    distances = []
    for _, one, other in parted:
        try:
            distances.append(abs(float.fromhex(str(one)) - float.fromhex(str(other))))
        except ValueError:
            continue
    return (
        f"{len(parted)} epochs differ, by {max(distances):.3g} at most" if distances else f"{len(parted)} epochs differ"
    )


def _final_tensors(folders: Folders, results: Sequence[Result]) -> Iterator[Difference]:
    """Every tensor of every model that differs, with its distance where both runs keep its values."""
    before, after = (_tensors(result) for result in results)
    kept = TensorStore(folders[0]), TensorStore(folders[1])
    for name in differing_names(before, after):
        one, other = before.get(name), after.get(name)
        far = tensor_distance(one, other, kept) if one and other else None
        texts = (_tensor_text(one), _tensor_text(other))
        yield _difference(OUTPUTS, "tensor", name, *texts, "" if far is None else str(far))


def _tensor_text(tensor: TensorDescription | None) -> str | None:
    return None if tensor is None else f"{tensor.dtype} {list(tensor.shape)} {tensor.digest}"


def _tensors(result: Result) -> dict[str, TensorDescription]:
    """Every tensor by model, group and path; of two with one path, by number."""
    found: dict[str, TensorDescription] = {}
    for number, model in enumerate(result.models):
        for group, tensors in model.tensors.items():
            for tensor in tensors:
                name = f"model {number}, {group}, {tensor.path}"
                while name in found:
                    name += "'"
                found[name] = tensor
    return found


def print_differences(differences: list[Difference]) -> None:
    """For people, on stdout: one line each, and of code the lines that differ."""
    for item in differences:
        print_difference(item)
    if differences:
        missing = {INPUTS, OUTPUTS} - {item.side for item in differences}
        print(*(f"{side} none differ" for side in missing), sep="\n", end="\n" if missing else "")
    print("different" if differences else "identical")


def print_difference(item: Difference) -> None:
    """One line, and its detail in more."""
    print(f"{item.side} {item.kind} {item.name}: {_short(item.before)} -> {_short(item.after)}")
    for line in item.detail.splitlines():
        print(f"    {line}")


def _short(value: str | None) -> str:
    """A value for a line; exact floats as decimals, digests and lists cut."""
    if value is None:
        return "nothing"
    try:
        return f"{float.fromhex(value):.9g}" if value.lstrip("-").startswith("0x") else _cut(value)
    except ValueError:
        return _cut(value)


def _cut(value: str) -> str:
    value = _DIGEST.sub(r"\1…", value)
    text = "".join(letter if letter.isprintable() else "\\ufffd" for letter in value)
    return text if len(text) <= 60 else f"{text[:57]}..."
