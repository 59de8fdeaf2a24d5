"""The README of a capsule: what it tells a receiver to do must work."""

from dataclasses import replace

from samebits.core.digest import Digest
from samebits.core.record import FAILED, Outcome, Record
from samebits.core.redaction import value_variable
from samebits.host.capsule.readme import readme
from samebits.host.export.facts import verify_command
from samebits.host.report.citation import citation


def _in_container(record: Record) -> Record:
    image = replace(record.recipe.image, config=Digest("a" * 64), python=None)
    return replace(record, recipe=replace(record.recipe, image=image, inputs=None))


def _text(record: Record) -> str:
    return readme(record, (), stored=False).decode()


def test_a_run_of_a_container(example: Record) -> None:
    text = _text(_in_container(example))
    assert "docker run --rm --network none" in text
    assert f"result {example.result_digest}\n\nreport.html" in text


def test_redacted_arguments(example: Record) -> None:
    """The image's entrypoint would train with the placeholder in their place."""
    record = _in_container(example)
    code = replace(record.recipe.code, arguments=("--api-key", "[redacted]"), redacted={"api-key": "scrypt:00"})
    record = replace(record, recipe=replace(record.recipe, code=code))
    variable = value_variable("api-key")
    assert variable == "SAMEBITS_REDACTED_API_KEY"
    text = _text(record)
    assert f"Before that, set {variable} to the value of --api-key, which the record does not hold.\n" in text
    assert "docker run --rm" not in text
    assert "Not possible: the record does not hold all arguments" in text
    assert f"{variable} set to the value of --api-key, which the record does not hold" in citation(record, "text")
    assert verify_command(record).startswith(f"{variable}=… samebits verify ")


def test_a_run_without_a_result(example: Record) -> None:
    record = replace(_in_container(example), result=None, outcome=Outcome(state=FAILED))
    text = _text(record)
    assert (
        'The run is failed. Without a result, `samebits verify` checks every file and says "not comparable".\n' in text
    )
    assert "docker run --rm" not in text
    assert "Not possible: the run has no result." in text
