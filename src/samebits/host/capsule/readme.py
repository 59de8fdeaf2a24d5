"""`README.txt` of a capsule: how to verify it with samebits, and with nothing but Docker."""

import shlex
from collections.abc import Iterator

from samebits.core.printable import printable
from samebits.core.recipe import KNOWN_LOGS
from samebits.core.record import Record
from samebits.core.redaction import value_variable
from samebits.host.capsule import contents
from samebits.host.capsule.gather import image_name

_TEXT = """\
A training run: {id}

recipe {recipe}
result {result}
{state}
report.html shows it in a browser. capsule.json names every file here with its sha256.


Verify it with samebits

    samebits verify CAPSULE{options}

{how}
"identical" is the verdict of your own machine. The digests above are the sender's claim.

{without}
Verify it with Docker alone

{docker}

`docker run` does not check this capsule's files. To check them, compare `sha256sum` of a file with capsule.json.
"""

_DOCKER = """\
    mkdir capsule && tar -xf CAPSULE -C capsule && cd capsule
    tar -c -C image . | docker load
    mkdir -p runs
    docker run --rm --network none --read-only --tmpfs /tmp --cap-drop ALL \\
      --security-opt no-new-privileges --user "$(id -u):$(id -g)" \\
      {mounts} \\
      {image} {words}

The last line must be

    result {result}

The line of the recipe may differ: a plain `docker run` does not record the image's digest."""

_CONTAINER = """\
This checks every file, trains again in a container without network, and compares all bits of the result."""

_VENV = """\
The run was not trained in a container: its code in run/code would run on your machine. Read it before you allow it.
You need Python {python} on x86-64 Linux. {packages}
This checks every file, trains again in a virtual environment, and compares all bits of the result."""


def readme(record: Record, without: tuple[str, ...], *, stored: bool) -> bytes:
    """The text; every value in it is one of the record, on one line."""
    missing = f"Not in this capsule: {', '.join(without)}.\n\n" if without else ""
    text = _TEXT.format(
        id=printable(record.id),
        recipe=record.recipe.digest,
        result=record.result_digest or "none",
        state=_state(record),
        options="".join(_options(record, without)),
        how=_how(record, without),
        without=missing,
        docker=_docker(record, without, stored=stored),
    )
    return text.encode("utf-8", "backslashreplace")


def _state(record: Record) -> str:
    """What a reader must know of a run that reached no result; empty for any other."""
    if record.result_digest is not None:
        return ""
    state = printable(record.outcome.state)
    return f'\nThe run is {state}. Without a result, `samebits verify` checks every file and says "not comparable".\n'


def _options(record: Record, without: tuple[str, ...]) -> Iterator[str]:
    """What `verify` needs, each after a space."""
    if contents.DATA in without and record.recipe.data:
        yield " --data DIR"
    if record.recipe.image.python is not None:
        yield f" --trust-its-code {shlex.quote(printable(record.id))}"


def _how(record: Record, without: tuple[str, ...]) -> str:
    python = record.recipe.image.python
    secrets = "".join(
        f"Before that, set {value_variable(name)} to the value of --{name}, which the record does not hold.\n"
        for name in sorted(record.recipe.code.redacted)
    )
    if python is None:
        return printable(secrets, "\n") + _CONTAINER
    packages = "Its packages come from an index." if contents.WHEELS in without else "Its packages are in wheels/."
    return printable(secrets, "\n") + _VENV.format(python=printable(python), packages=packages)


def _docker(record: Record, without: tuple[str, ...], *, stored: bool) -> str:
    """The commands, or why there are none."""
    for reason, holds in (
        ("the run was not trained in a container", record.recipe.image.config is None),
        ("the run has no result", record.result_digest is None),
        ("the record does not hold all arguments, and only samebits asks for them", bool(record.recipe.code.redacted)),
        ("the image is not in this capsule", "image" in without),
        ("the image's layers are in a store beside this capsule", stored),
        ("the run takes files from the network, which only samebits provides", record.recipe.inputs is not None),
        ("the run needs a GPU", record.recipe.device.kind != "cpu"),
    ):
        if holds:
            return f"    Not possible: {reason}."
    data = ["-v " + '"$PWD/data:/data:ro"'] if record.recipe.data else []
    mounts = " ".join(['-v "$PWD/run/code:/work:ro"', *data, '-v "$PWD/runs:/runs"'])
    return _DOCKER.format(
        mounts=mounts, image=image_name(record), words=printable(" ".join(_words(record))), result=record.result_digest
    )


def _words(record: Record) -> Iterator[str]:
    """What the image's entrypoint is given, quoted for a shell."""
    recipe, code = record.recipe, record.recipe.code
    yield from ("-m", shlex.quote(code.module)) if code.module else (shlex.quote(code.entry),)
    yield from ("--code", ".", "--seed", str(recipe.seed), "--threads", str(recipe.threads))
    yield from ("--profile", shlex.quote(recipe.profile), "--shuffle", shlex.quote(recipe.shuffle))
    options = [("--workers", str(recipe.world_size))] if recipe.world_size != 1 else []
    options += [("--workdir", code.chosen_workdir)] if code.chosen_workdir is not None else []
    options += [("--pythonpath", folder) for folder in code.pythonpath]
    options += [("--env", f"{name}={value}") for name, value in sorted(recipe.env.items())]
    options += [("--ignore-output", pattern) for pattern in recipe.ignore_outputs if pattern not in KNOWN_LOGS]
    yield from (shlex.quote(word) for option in options for word in option)
    # Without `--`, a samebits.toml in the code would give the arguments.
    yield from ("--", *map(shlex.quote, code.arguments))
