"""A model card in the format of Hugging Face, by its library: what the model is of, its digests, how to repeat it."""

from pathlib import Path

from samebits.core.jsonio import write_atomically
from samebits.core.printable import printable
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.host.export import facts
from samebits.host.export.facts import Request
from samebits.host.report.tables import guaranteed, reservations

SUFFIX = ".samebits.md"
_TITLE = "# {name}\n\nTrained with Keras, and recorded by samebits, so that others can get the same bits again.\n"


def write_model_card(run: RunDir, target: Path | None, request: Request) -> Path:
    """Write the card to a new file; returns it."""
    record = facts.require_whole(run)
    path = target or facts.default_path(run, SUFFIX)
    facts.require_new(path)
    write_atomically(path, model_card(run, record, request).encode("utf-8", "backslashreplace"))
    return path


def model_card(run: RunDir, record: Record, request: Request) -> str:
    """The text of the card, with its metadata."""
    with facts.library("huggingface_hub"):
        from huggingface_hub import ModelCard, ModelCardData
    data = ModelCardData(
        library_name="keras",
        license=request.license,
        tags=["keras", "samebits", "reproducible"],
        samebits=facts.digests(record),
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_body(run, record, request)}"))


def _body(run: RunDir, record: Record, request: Request) -> str:
    chosen = {**facts.parameters(record), **_commit(record)}
    sections = {
        "Model": _rows({"run": record.id, "covers": record.covers, **_authors(request)}),
        "Metrics": _rows({name: repr(value) for name, value in facts.final_metrics(record).items()}),
        "Training": _rows({**chosen, **facts.versions(record)}),
        "Digests": _rows(facts.digests(record)),
        "How to repeat": f"    {facts.verify_command(record)}\n\n{_text(guaranteed(record))}",
        "Verified": _items(facts.verdicts(run, record)) or "No verification is beside the run.",
        "Limits": _items(reservations(record)) or "The run noticed nothing that weakens this.",
    }
    title = _TITLE.format(name=_text(record.id))
    return "\n".join([title, *(f"## {name}\n\n{text}\n" for name, text in sections.items() if text)])


def _authors(request: Request) -> dict[str, str]:
    return {"authors": ", ".join(request.authors)} if request.authors else {}


def _commit(record: Record) -> dict[str, str]:
    git = record.origin.git
    return {} if git is None else {"git": f"{git}{f' of {git.remote}' if git.remote else ''}"}


def _rows(values: dict[str, str]) -> str:
    lines = [f"| {_text(name)} | {_text(value)} |" for name, value in values.items()]
    return "\n".join(["| | |", "|---|---|", *lines]) if lines else ""


def _items(lines: list[str]) -> str:
    return "\n".join(f"- {_text(line)}" for line in lines)


def _text(text: str) -> str:
    """Text that Markdown shows as it is: a script chooses names, and the page that shows them runs HTML."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]<>()#+!|~&" else letter for letter in printable(text))
