"""Every difference between two runs, in their inputs and in their outputs.

Reads records, manifests, the kept code and the ledgers. Nothing is executed.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.core.environment import Environment, ObservedSystem
from samebits.core.errors import pluralize
from samebits.core.file_tree import Tree, read_manifest
from samebits.core.inputs_lock import read_lock
from samebits.core.jsonio import differing_names
from samebits.core.origin import GitCommit
from samebits.core.printable import printable
from samebits.core.recipe import differing_parts, leaves
from samebits.core.record import Record
from samebits.core.result import Result, TensorDescription
from samebits.core.run_dir import RunDir
from samebits.core.run_files import read_plain
from samebits.host.compare.ledger_diff import first_divergence
from samebits.host.compare.metric_diff import metric_differences
from samebits.host.compare.tensor_diff import TensorStore, tensor_distance
from samebits.host.console import print_line

INPUTS = "inputs"
OUTPUTS = "outputs"
_MAX_CODE_BYTES = 4 << 20  # of a file that is compared by line
_MAX_LINES = 20  # of one difference, on a terminal
_DIGEST = re.compile(r"\b(sha256:[0-9a-f]{8})[0-9a-f]{56}\b")


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One difference. `before` or `after` is None if that run has no such value."""

    side: str
    kind: str
    name: str
    before: str | None
    after: str | None
    detail: str = ""

    def to_dict(self) -> dict[str, str | None]:
        """The form that `--json` prints."""
        return {
            "side": self.side,
            "kind": self.kind,
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "detail": self.detail,
        }


def diff(one: RunDir, other: RunDir) -> list[Difference]:
    """Every difference, inputs first. Raises RecordError if a record, manifest or ledger cannot be read."""
    records = one.read(), other.read()
    return [*_inputs((one, other), records), *_outputs((one, other), records)]


RunPair = tuple[RunDir, RunDir]
RecordPair = tuple[Record, Record]


def _inputs(runs: RunPair, records: RecordPair) -> Iterator[Difference]:
    parts = [leaves(record.recipe.to_dict()) for record in records]
    names = differing_parts(records[0].recipe, records[1].recipe)
    for name in names:
        yield _difference(INPUTS, "recipe", name, parts[0].get(name), parts[1].get(name))
    # Files are compared only if their trees differ, which saves reading the manifests.
    if "code.tree" in names:
        yield from _file_differences("code", runs, lambda run: run.code_manifest, code=True)
    if "data.tree" in names:
        yield from _file_differences("data", runs, lambda run: run.data_manifest)
    if "inputs" in names:
        yield from _input_differences(runs)
    yield from _commits(*(record.origin.git for record in records))
    yield from _environments(*(record.environment for record in records))


def _commits(before: GitCommit | None, after: GitCommit | None) -> Iterator[Difference]:
    """Differences in where the code is kept. A run that verifies another one has no commit, which is no difference."""
    if before is not None and after is not None:
        yield from _mapped(INPUTS, "git", before.to_dict(), after.to_dict())


def _environments(before: Environment, after: Environment) -> Iterator[Difference]:
    """Differences in software and machine, as observed by the runs."""
    one, other = before.system, after.system
    # A run that failed before its training observed nothing; one line says so instead of hundreds.
    if one is None or other is None:
        observed = (None if system is None else "observed" for system in (one, other))
        yield from _mapped(INPUTS, "environment", *({"all of it": value} for value in observed))
        return
    yield from _mapped(INPUTS, "package", one.distributions, other.distributions)
    yield from _mapped(INPUTS, "setting", _setting_values(before), _setting_values(after))
    yield from _mapped(INPUTS, "variable", one.variables, other.variables)
    yield from _mapped(INPUTS, "feature off", before.features_off or {}, after.features_off or {})
    yield from _mapped(INPUTS, "machine", _machine(before, one), _machine(after, other))
    # A run of an early version has no fingerprint.
    if before.arithmetic is not None and after.arithmetic is not None:
        yield from _mapped(INPUTS, "operation", before.arithmetic.operations, after.arithmetic.operations)
    else:
        taken = (None if found.arithmetic is None else "taken" for found in (before, after))
        yield from _mapped(INPUTS, "machine", *({"fingerprint": value} for value in taken))


def _outputs(runs: RunPair, records: RecordPair) -> Iterator[Difference]:
    yield from _mapped(OUTPUTS, "outcome", *({"state": record.outcome.state} for record in records))
    yield from _ledger_differences(runs, records)
    # A run without a result is compared as one with an empty result, so that every value is listed.
    results = [record.result or Result() for record in records]
    found = list(_result_differences(runs, results))
    yield from found
    # The digest also covers keys that a newer version added: a difference in these alone must not be lost.
    if not found and results[0].digest != results[1].digest:
        yield _difference(OUTPUTS, "result", "digest", str(results[0].digest), str(results[1].digest))


def _result_differences(runs: RunPair, results: Sequence[Result]) -> Iterator[Difference]:
    for metric in metric_differences(runs, *(result.fits for result in results)):
        yield _difference(OUTPUTS, "metric", metric.name, metric.before, metric.after, metric.detail)
    yield from _mapped(OUTPUTS, "model", *(_models(result) for result in results))
    yield from _tensor_differences(runs, results)
    yield from _mapped(OUTPUTS, "file", *({item.path: item.digest for item in result.outputs} for result in results))


def _models(result: Result) -> dict[str, str]:
    """Each model's name and how it was trained, by number."""
    return {str(number): f"{model.name}, by {model.how}" for number, model in enumerate(result.models)}


def _difference(side: str, kind: str, name: str, before: Any, after: Any, detail: str = "") -> Difference:
    return Difference(
        side=side, kind=kind, name=name, before=_value_text(before), after=_value_text(after), detail=detail
    )


def _value_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _mapped(side: str, kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    """Every name whose value differs, or that only one of the two has."""
    for name in differing_names(before, after):
        yield _difference(side, kind, name, before.get(name), after.get(name))


def _setting_values(environment: Environment) -> dict[str, str]:
    values = {item.name: item.found for item in environment.settings or ()}
    # Settings are read back before the script, which may set some of them itself.
    return values | {f"{item.name}, set by the script": item.value for item in environment.script_settings or ()}


def _machine(environment: Environment, system: ObservedSystem) -> dict[str, Any]:
    """The hardware and system of a run, without the number of cores, which does not affect the bits."""
    # The values are listed: an environment also holds host-specific ones, such as cores and peak memory.
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


def _file_differences(
    kind: str, runs: RunPair, manifest: Callable[[RunDir], Path], *, code: bool = False
) -> Iterator[Difference]:
    """Files that were added, removed or changed; code with the lines that differ."""
    trees = [_file_digests(read_manifest(path)) if (path := manifest(run)).exists() else {} for run in runs]
    for difference in _mapped(INPUTS, kind, *trees):
        # Data may be large or binary, so only code is compared by line.
        if not code:
            yield difference
            continue
        before, after = (_text_lines(run, difference.name) for run in runs)
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


def _input_differences(runs: RunPair) -> Iterator[Difference]:
    """Files from the network that only one run has, or that have other contents."""
    locks = (read_lock(run.inputs).tree if run.inputs.exists() else Tree(entries=()) for run in runs)
    yield from _mapped(INPUTS, "input", *map(_file_digests, locks))


def _file_digests(tree: Tree) -> dict[str, str]:
    return {entry.path: "folder" if entry.digest is None else str(entry.digest) for entry in tree.entries}


def _text_lines(run: RunDir, name: str) -> list[str]:
    """The lines of a file of the kept code; empty if it is missing, not text or too long."""
    try:
        return read_plain(run.code / name, _MAX_CODE_BYTES, run.path).decode().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _ledger_differences(runs: RunPair, records: RecordPair) -> Iterator[Difference]:
    """The values that differ in the first line at which the ledgers diverge."""
    divergence = first_divergence(*zip(runs, records, strict=True))
    if divergence is None:
        return
    # One ledger is longer: its first additional line has no counterpart to compare with.
    if divergence.one is None or divergence.other is None:
        before, after = ("a line" if line else None for line in (divergence.one, divergence.other))
        yield _difference(OUTPUTS, "ledger", divergence.where, before, after)
        return
    for name, before, after in divergence.differences():
        yield _difference(OUTPUTS, "ledger", f"{divergence.where}, {name}", before, after)


def _tensor_differences(runs: RunPair, results: Sequence[Result]) -> Iterator[Difference]:
    """Every tensor of every model that differs, with its distance if both runs keep its values."""
    before, after = (_tensors(result) for result in results)
    stores = TensorStore(runs[0]), TensorStore(runs[1])
    for name in differing_names(before, after):
        one, other = before.get(name), after.get(name)
        # A tensor that only one run has, has no distance.
        distance = tensor_distance(one, other, stores) if one and other else None
        texts = (_tensor_text(one), _tensor_text(other))
        yield _difference(OUTPUTS, "tensor", name, *texts, "" if distance is None else str(distance))


def _tensor_text(tensor: TensorDescription | None) -> str | None:
    return None if tensor is None else f"{tensor.dtype} {list(tensor.shape)} {tensor.digest}"


def _tensors(result: Result) -> dict[str, TensorDescription]:
    """Every tensor by model, group and path; a repeated name gets a prime."""
    found: dict[str, TensorDescription] = {}
    for number, model in enumerate(result.models):
        for group, tensors in model.tensors.items():
            for tensor in tensors:
                name = f"model {number}, {group}, {tensor.path}"
                # Keras allows two variables of one path.
                while name in found:
                    name += "'"
                found[name] = tensor
    return found


def print_differences(differences: list[Difference], covers: str) -> None:
    """Print every difference on stdout, those with lines of code at last; the last line judges inputs and result."""
    for item in sorted(differences, key=lambda item: "\n" in item.detail):
        print_difference(item)
    sides = {item.side for item in differences}
    if differences:
        # Equal inputs with different outputs are the interesting case, so the equal side is named.
        for side in {INPUTS, OUTPUTS} - sides:
            print_line(f"{side} none differ")
    print_line(last_line(sides, covers))


def last_line(sides: set[str], covers: str) -> str:
    """What the differences amount to; `covers` is what equal results are the digest of."""
    if not sides:
        return f"identical: {covers}"
    if OUTPUTS in sides:
        return "different"
    # Two runs without a result have nothing in common that anyone asked for.
    return (
        "different inputs, and no result"
        if covers.startswith("nothing")
        else f"same result, different inputs: {covers}"
    )


def print_difference(item: Difference) -> None:
    """Print one difference in a line, and its detail below."""
    print_line(f"{item.side} {item.kind} {item.name}: {_short(item.before)} -> {_short(item.after)}")
    lines = item.detail.split("\n") if item.detail else []
    for line in lines[:_MAX_LINES]:
        print_line(f"    {line.expandtabs()}")
    if more := lines[_MAX_LINES:]:
        print_line(f"    … {pluralize(len(more), 'more line')}")


def _short(value: str | None) -> str:
    """A readable value for a line of a terminal."""
    text = printable(readable(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def readable(value: str | None) -> str:
    """A value of a difference: exact floats as decimals, digests by their first digits."""
    if value is None:
        return "nothing"
    # A foreign record may hold a number that is too large.
    with suppress(ValueError, OverflowError):
        if value.lstrip("-").startswith("0x"):
            return f"{float.fromhex(value):.9g}"
    return _DIGEST.sub(r"\1…", value)
