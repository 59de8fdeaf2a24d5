"""`samebits cite`: what a paper's appendix must say of a run so that somebody else can repeat it."""

import json
from collections.abc import Iterator, Sequence

from samebits.core.errors import InputError, pluralize
from samebits.core.printable import printable
from samebits.core.record import FINISHED, Record
from samebits.core.redaction import value_variable
from samebits.host.report.tables import guaranteed
from samebits.host.runs.listed_run import short_decimal

FORMATS = ("text", "latex", "cff")

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


def citation(record: Record, form: str, authors: Sequence[str] = (), verdicts: Sequence[str] = ()) -> str:
    """The citation in a form; raises InputError for a run without a result.

    `verdicts` are those of its verifications.
    """
    if record.result_digest is None or record.outcome.state != FINISHED:
        raise InputError(f"the run {record.id} has no result to cite; it is {record.outcome.state}")
    if form == "cff":
        return _cff(record, authors, verdicts)
    lines = [(name, printable(value)) for name, value in _facts(record, verdicts)]
    closing = printable(guaranteed(record))
    if form == "latex":
        items = [f"  \\item[{name}] {_latex(value)}" for name, value in lines]
        return "\n".join(["\\begin{description}", *items, "\\end{description}", _latex(closing)])
    return "\n".join([*(f"{name}: {value}." for name, value in lines), closing])


def _facts(record: Record, verdicts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each statement of the paragraph with its name."""
    recipe, system = record.recipe, record.environment.system
    image = recipe.image
    if system is not None:
        versions = f"Python {system.python}, TensorFlow {system.tensorflow}, Keras {system.keras}, NumPy {system.numpy}"
        where = f"image {image.config}" if image.config is not None else "a virtual environment"
        yield "Software", f"{versions}, in {where}; all packages are pinned by the lock {image.lock}"
        yield "Hardware", f"{system.cpu.model} ({system.cpu.instruction_set}), device {recipe.device.kind}"
    workers = "" if recipe.world_size == 1 else f"{recipe.world_size} workers, each with "
    settings = f"{workers}profile {recipe.profile} with {pluralize(recipe.threads, 'thread')}, shuffle {recipe.shuffle}"
    yield "Seeds", f"{recipe.seed} for Python, NumPy, TensorFlow and Keras; {settings}"
    arguments = f", arguments {' '.join(recipe.code.arguments)}" if recipe.code.arguments else ""
    yield "Code", f"{recipe.code.entry}{arguments}, tree {recipe.code.tree}"
    if git := record.origin.git:
        yield "Git", f"commit {git}{f' of {git.remote}' if git.remote else ''}"
    if recipe.data is not None:
        yield "Data", f"tree {recipe.data}"
    if recipe.inputs is not None:
        yield "Files from the network", f"{recipe.inputs}"
    yield "Recipe", str(recipe.digest)
    yield from _numbers(record)
    yield "Result", f"{record.result_digest}, which covers {record.covers}"
    if verdicts:
        yield "Verdict", ", ".join(verdicts)
    given = [f"{value_variable(name)} set to the value of --{name}" for name in sorted(recipe.code.redacted)]
    secrets = f", with {' and '.join(given)}, which the record does not hold" if given else ""
    yield "Verify", f"samebits verify {record.id}, or a capsule of it{secrets}"


def _numbers(record: Record) -> Iterator[tuple[str, str]]:
    """The final metrics, of each `fit` on its own."""
    fits = () if record.result is None else record.result.fits
    for number, fit in enumerate(fits):
        last = {name: values[-1] for name, values in fit.history.items() if values}
        name = "Final metrics" if len(fits) == 1 else f"Final metrics of fit {number}"
        if last:
            yield name, ", ".join(f"{metric} {short_decimal(text)}" for metric, text in last.items())


def _latex(text: str) -> str:
    # A digest is longer than a line; LaTeX breaks it nowhere by itself.
    escaped = "".join(_LATEX.get(letter, letter) for letter in text)
    return escaped.replace("sha256:", "sha256:\\allowbreak{}")


def _cff(record: Record, authors: Sequence[str], verdicts: Sequence[str]) -> str:
    """A CITATION.cff, version 1.2.0. Its values are JSON, which is YAML, too."""
    if not authors:
        raise InputError("a CITATION.cff names its authors; add --author NAME, once for each")
    digests = (("result", record.result_digest), ("recipe", record.recipe.digest), ("data", record.recipe.data))
    values = {
        "cff-version": "1.2.0",
        "message": "If you use this result, cite it by its digests.",
        "type": "software",
        "title": f"Training run {record.id}",
        "authors": [{"name": name} for name in authors],
        "date-released": record.started[:10],
        "abstract": " ".join(f"{name}: {value}." for name, value in _facts(record, verdicts)),
        "identifiers": [
            {"type": "other", "value": str(digest), "description": f"{name} digest"}
            for name, digest in digests
            if digest is not None
        ],
    }
    return "\n".join(f"{name}: {json.dumps(value)}" for name, value in values.items())
