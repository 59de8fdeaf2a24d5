"""What differs between two runs: in what went in, and in what came out. Always all of it, never the first of a kind.

Reads records, manifests, kept code and ledgers; nothing is run, and a ledger is read line by line.
"""

import difflib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samebits.errors import RecordError
from samebits.recipe import differing_parts, leaves
from samebits.record import Record
from samebits.runfolder import RunFolder
from samebits.tree import Tree, read_manifest

_CHAIN = re.compile(rb'"previous":"sha256:[0-9a-f]{64}",?')
_MACHINE = ("runtime", "python", "system", "kernel", "libc", "onednn", "openblas", "numpy_features", "gpu")


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


def diff(one: RunFolder, other: RunFolder) -> list[Difference]:
    """Every difference, inputs first. Raises RecordError where a record, manifest or ledger cannot be read."""
    records = one.read(), other.read()
    try:
        return [*_inputs((one, other), records), *_outputs((one, other), records)]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise RecordError(
            f"{one.path} and {other.path} cannot be compared: a value is not what a record holds there"
            f" ({type(error).__name__}: {error})"
        ) from error


Folders = tuple[RunFolder, RunFolder]
Records = tuple[Record, Record]


def _inputs(folders: Folders, records: Records) -> Iterator[Difference]:
    parts = [leaves(record.recipe.to_dict()) for record in records]
    names = differing_parts(records[0].recipe, records[1].recipe)
    for name in names:
        yield _difference("inputs", "recipe", name, parts[0].get(name), parts[1].get(name))
    if "code.tree" in names:
        yield from _files("code", folders, lambda folder: folder.code_manifest, code=True)
    if "data.tree" in names:
        yield from _files("data", folders, lambda folder: folder.data_manifest)
    seen = [record.environment for record in records]
    packages = [environment.get("distributions", {}) for environment in seen]
    yield from _mapped("inputs", "package", *packages)
    yield from _mapped("inputs", "setting", *(_settings(environment) for environment in seen))
    yield from _mapped("inputs", "machine", *(_machine(environment) for environment in seen))
    yield from _mapped("inputs", "operation", *(_fingerprint(environment) for environment in seen))


def _outputs(folders: Folders, records: Records) -> Iterator[Difference]:
    yield from _mapped("outputs", "outcome", *({"state": record.outcome.state} for record in records))
    yield from _ledgers(folders)
    results = [record.result or {"models": [], "fits": [], "outputs": []} for record in records]
    yield from _metrics(*(result["fits"] for result in results))
    yield from _mapped("outputs", "tensor", *(_tensors(result) for result in results))
    files = [{item["path"]: item.get("digest", "") for item in result["outputs"]} for result in results]
    yield from _mapped("outputs", "file", *files)


def _difference(side: str, kind: str, name: str, before: Any, after: Any, detail: str = "") -> Difference:
    return Difference(side=side, kind=kind, name=name, before=_text(before), after=_text(after), detail=detail)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _mapped(side: str, kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    """Every name whose value differs, or that one of the two does not have."""
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield _difference(side, kind, name, before.get(name), after.get(name))


def _settings(environment: Mapping[str, Any]) -> dict[str, str]:
    return {item["name"]: item["found"] for item in environment.get("settings", ())}


def _machine(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What the run was observed to run on, but for its cores, which decide nothing."""
    cpu = environment.get("cpu", {})
    found = {f"cpu {name}": cpu.get(name) for name in ("model", "family_model_stepping", "flags", "caches")}
    return found | {name: environment.get(name) for name in _MACHINE}


def _fingerprint(environment: Mapping[str, Any]) -> Mapping[str, str]:
    """Of two runs of which one has none, nothing can be said; then the other's lines are all there are."""
    return dict((environment.get("fingerprint") or {}).get("operations", {}))


def _files(
    kind: str, folders: Folders, manifest: Callable[[RunFolder], Path], *, code: bool = False
) -> Iterator[Difference]:
    """Files that were added, removed or changed; of code, line by line."""
    trees = [_digests(read_manifest(path)) if (path := manifest(folder)).exists() else {} for folder in folders]
    for difference in _mapped("inputs", kind, *trees):
        if not code:
            yield difference
            continue
        before, after = (_lines(folder.code / difference.name) for folder in folders)
        names = f"a/{difference.name}", f"b/{difference.name}"
        changed = difflib.unified_diff(before, after, *names, n=1, lineterm="")
        yield Difference(
            side="inputs",
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


def _ledgers(folders: Folders) -> Iterator[Difference]:
    """The first line from which two ledgers part, and in which groups of tensors, or metrics."""
    for number, pair in enumerate(itertools.zip_longest(*(_ledger_lines(folder) for folder in folders)), 1):
        if pair[0] == pair[1]:
            continue
        if None in pair:
            before, after = ("a line" if line else None for line in pair)
            yield _difference("outputs", "ledger", f"line {number}", before, after)
            return
        lines = [_parsed(folder, number, line) for folder, line in zip(folders, pair, strict=True)]
        where = f"line {number}"
        if lines[0].get("event") == "epoch":
            where = f"fit {lines[0].get('fit')}, epoch {lines[0].get('epoch')}"
        parts = [leaves(line) for line in lines]
        yield from (
            _difference("outputs", "ledger", f"{where}, {name}", parts[0].get(name), parts[1].get(name))
            for name in sorted(parts[0].keys() | parts[1].keys())
            if parts[0].get(name) != parts[1].get(name)
        )
        return


def _ledger_lines(folder: RunFolder) -> Iterator[bytes]:
    """The lines without what chains them: that differs from the first on where recipes do."""
    try:
        with folder.ledger.open("rb") as file:
            for line in file:
                yield _CHAIN.sub(b"", line.rstrip(b"\n"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise RecordError(f"cannot read {folder.ledger}: {error.strerror}") from error


def _parsed(folder: RunFolder, number: int, line: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError) as error:
        raise RecordError(f"{folder.ledger}: line {number} is not a ledger's: {error}") from error


def _metrics(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Iterator[Difference]:
    """Every metric whose history parts: the first epoch's values, and the largest distance of all."""
    nothing: dict[str, Any] = {}
    for number, pair in enumerate(itertools.zip_longest(before, after, fillvalue=nothing)):
        histories = [fit.get("history", {}) for fit in pair]
        for name in sorted(histories[0].keys() | histories[1].keys()):
            values = [history.get(name, []) for history in histories]
            parted = [
                (epoch, one, other) for epoch, (one, other) in enumerate(itertools.zip_longest(*values)) if one != other
            ]
            if parted:
                epoch, one, other = parted[0]
                yield _difference(
                    "outputs", "metric", f"fit {number}, epoch {epoch}, {name}", one, other, _distance(parted)
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


def _tensors(result: Mapping[str, Any]) -> dict[str, str]:
    """The digest of every tensor, by model, group and path; of two with one path, by number."""
    found: dict[str, str] = {}
    for number, model in enumerate(result["models"]):
        for group, tensors in model["tensors"].items():
            for tensor in tensors:
                name = f"model {number}, {group}, {tensor['path']}"
                while name in found:
                    name += "'"
                found[name] = f"{tensor['dtype']} {tensor['shape']} {tensor['digest']}"
    return found


def print_differences(differences: list[Difference]) -> None:
    """For people, on stdout: one line each, and of code the lines that differ."""
    for item in differences:
        print(f"{item.side} {item.kind} {item.name}: {_short(item.before)} -> {_short(item.after)}")
        for line in item.detail.splitlines():
            print(f"    {line}")
    print("different" if differences else "identical")


def _short(value: str | None) -> str:
    """A value for a line; exact floats as decimals, digests and lists cut."""
    if value is None:
        return "nothing"
    try:
        return f"{float.fromhex(value):.9g}" if value.lstrip("-").startswith("0x") else _cut(value)
    except ValueError:
        return _cut(value)


def _cut(value: str) -> str:
    text = "".join(letter if letter.isprintable() else "\\ufffd" for letter in value)
    return text if len(text) <= 60 else f"{text[:57]}..."
