"""The entrypoint beside the user's script, in an image or a virtual environment.

The launcher and this module may be of different versions. A run keeps the source that trained it, and `verify`,
`resume` and `rebuild` start that source again. What follows is the protocol between the two. Do not change it: add a
new word instead, and keep the old one.

Start: `python -P -m samebits.runner WORDS`; for source of version 0.1.0 `samebits.container`, with the same words.

    --run FOLDER            train the run that the launcher prepared in FOLDER (record, code, manifests, ledger)
    --worker FOLDER INDEX   train as one worker of a run that another node has begun, see `workers.joining`
    fingerprint [--profile NAME] [--threads N] [--json]
                            compute about a hundred operations; with --json one object on stdout, which has at least
                            `digest` and `operations` (digests of 16 hex digits by name)
    SCRIPT [OPTIONS] [-- ARGUMENTS]
                            without a launcher, as under a plain `docker run`: prepare the run here first

Environment: the profile's variables, set before the interpreter starts. `SAMEBITS_DATA` names the data, if there is
any, and `SAMEBITS_INPUTS` the folder with the files of the run's `inputs.lock`. `SAMEBITS_FETCH` asks for a report of
what the script downloads: a file to write it to, in a folder for temporary files. `SAMEBITS_REDACTED` holds the values
of redacted arguments, as JSON by the names of their options. In an image, `clean_start` withholds
other variables. The record in FOLDER has everything else, also the variables that the script is meant to see. The
started source must be able to read the record's version.

Standard input, with `--run` and `--worker`: a lifeline. The launcher holds the other end and writes nothing to it. When
it closes, this process gets SIGTERM, and SIGKILL ten seconds later (`process.launcher_watch`).

Exit status, with `--run`: 0 finished, 1 the script failed, 2 an error of samebits or of its input, 130 SIGINT, 143
SIGTERM. The record is finalized by then; otherwise the launcher finalizes it.

Exit status, with `fingerprint`: 0; 1 if the portable profile is requested and its table has other digests; 2 an error.
The launcher reads stdout at 0 and at 1.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from samebits import __version__
from samebits.core.code_tree import describe_code
from samebits.core.cpu_info import describe_cpu
from samebits.core.determinism_profile import PORTABLE, make_profile
from samebits.core.digest import Digest
from samebits.core.environment import Environment
from samebits.core.errors import (
    EXIT_DIFFERENT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    InputError,
    SamebitsError,
    SettingError,
    shorten,
)
from samebits.core.gpu_info import GpuReport, read_gpus
from samebits.core.jsonio import Fields
from samebits.core.recipe import Device, ImageIdentity
from samebits.core.record import read_record, summary
from samebits.core.redaction import VARIABLE as REDACTED
from samebits.core.run_config import OneLineParser, add_run_options, make_config, split_arguments
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import RunSetup, plan_run, publish
from samebits.runner import clean_start
from samebits.runner.clean_start import GIVEN
from samebits.runner.determinism.op_audit import c_library, read_proven
from samebits.runner.determinism.portability import differing, fingerprint_of
from samebits.runner.download_recorder import recording_downloads
from samebits.runner.pinned_files import use_mounted
from samebits.runner.process.console import log, plain_progress
from samebits.runner.process.launcher_watch import tie_to_launcher
from samebits.runner.software import check_image_files
from samebits.runner.workers.agent import train_on_node
from samebits.runner.workers.training import train

IMAGE_MANIFEST = Path("/opt/samebits/recipe/image.json")
"""Written by the image build: the digests of base image, lock and source."""

_UNDECLARED = {"GPG_KEY", "HOSTNAME", "LANG", "TERM", "container"}
"""Variables that engines and images of Python set, beside those in PYTHON_: nobody misses them."""

_MOUNTS = (
    "Train a Keras script; mount code at /work, data at /data, the files of inputs.lock at /inputs, runs at /runs."
)

_PLAIN_ENVIRONMENT = Environment(
    runtime="docker", image_note="started without a launcher: the image's own digest was not given"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one training or one fingerprint; returns the exit status."""
    try:
        return _main(sys.argv[1:] if argv is None else list(argv))
    except SamebitsError as error:
        log(str(error))
        return error.exit_status
    except KeyboardInterrupt:  # before there was a record to finalize
        return EXIT_INTERRUPTED


def _main(argv: list[str]) -> int:
    options, arguments = split_arguments(argv)
    if options[:1] == ["--worker"] and len(options) == 3:
        tie_to_launcher()
        folder, data = RunDir(Path(options[1])), os.environ.get("SAMEBITS_DATA")
        return train_on_node(folder, int(options[2]), Path(data) if data else None)
    if options[:1] == ["--run"] and len(options) == 2:
        # Before anything else, so that a launcher that dies early leaves no process behind.
        tie_to_launcher()
        folder = RunDir(Path(options[1]))
        data = os.environ.get("SAMEBITS_DATA")
        # The script has these among its arguments, and nowhere else.
        redacted = json.loads(os.environ.pop(REDACTED, "{}"))
        record = read_record(folder.record)
        with recording_downloads():
            return train(folder, record, Path(data) if data else None, redacted)
    if options[:1] == ["fingerprint"]:
        return _fingerprint(options[1:])
    return _start_here(options, arguments)


def _start_here(options: list[str], arguments: tuple[str, ...] | None) -> int:
    """A plain `docker run`: prepare a run, train, and print the summary that a launcher would print."""
    parser = OneLineParser(prog="samebits", description=_MOUNTS)
    parser.add_argument("--version", action="version", version=__version__)
    add_run_options(parser)
    given = _given_variables()
    spec = make_config(_with_mounts(vars(parser.parse_args(options)) | {"arguments": arguments}), given)
    _check_runs_folder(spec.runs)
    fields = read_image_manifest()
    check_image_files(float(fields.get("source_date_epoch", str)))
    report = read_gpus(multiprocessors=True) if fields.get("device", str) == "gpu" else GpuReport()
    # In a container, the user chose the GPUs with `docker run --gpus`.
    if report.gpus:
        report.check_driver()
        report.check_architecture()
        spec = replace(spec, gpus="all")
    elif spec.gpus is not None:
        raise SettingError("the run asks for a GPU and this container has none; add --gpus all to docker run")
    spec.determinism.check(os.environ, "the environment")
    device = report.device(len(report.gpus)) if report.gpus else Device()
    setup = RunSetup(image=image_identity(fields), device=device, environment=_PLAIN_ENVIRONMENT)
    planned = plan_run(spec, setup, plain_progress("hashing the data"))
    if note := describe_code(spec, planned.code):
        log(note)
    use_mounted(planned.inputs)
    folder, record = publish(planned)
    undeclared = given.keys() - spec.declared.keys() - _UNDECLARED
    withheld = sorted(name for name in undeclared if not name.startswith("PYTHON_"))
    if withheld:
        log(f"the script does not see {shorten(withheld, 5)}; a variable that it needs is declared with --env")
    process = os.getpid()
    status = train(folder, record, spec.data)
    if os.getpid() == process:
        print(*summary(folder.path, read_record(folder.record)), sep="\n")
    return status


def _given_variables() -> dict[str, str]:
    """The variables of `docker run` that `clean_start` withheld. It is started first if something else started this."""
    number = os.environ.pop(GIVEN, "")
    if not number.isdecimal():
        command = [sys.executable, "-I", "-S", clean_start.__file__, *sys.argv[1:]]
        os.execv(command[0], command)  # noqa: S606  there is no shell on purpose
    with open(int(number), "rb") as file:
        items = [os.fsdecode(item) for item in file.read().split(b"\0") if item]
    return {name: value for name, _, value in (item.partition("=") for item in items)}


def _with_mounts(given: dict[str, Any]) -> dict[str, Any]:
    # A samebits.toml may name folders of the host; in a container only the mounts exist.
    given["runs"] = given["runs"] or Path("/runs")
    given["data"] = given["data"] or (Path("/data") if Path("/data").is_dir() else None)
    return given


def _check_runs_folder(runs: Path) -> None:
    """Raise InputError unless runs can be written to the folder."""
    if not runs.is_dir():
        raise InputError(f'there is no {runs}; mount a folder for the runs: -v "$PWD/runs:{runs}"')
    if not os.access(runs, os.W_OK):
        raise InputError(
            f'{runs} may not be written to by user {os.getuid()}; add --user "$(id -u):$(id -g)" to docker run'
        )


def _fingerprint(options: list[str]) -> int:
    """Print how this machine computes; returns 1 if that breaks the portability guarantee."""
    parser = OneLineParser(
        prog="samebits fingerprint", description="Compute about a hundred operations; a digest of each."
    )
    parser.add_argument("--profile", default=PORTABLE)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(options)
    profile = make_profile(given.profile, given.threads)
    found, reached = fingerprint_of(profile)
    different = differing(found, read_proven(), profile.threads)
    if given.json:
        described = {"digest": str(found.digest), "operations": found.operations, "differing": different}
        described |= {"reached": reached, "onednn": found.onednn, "libc": c_library(), "cpu": describe_cpu().to_dict()}
        # Read by the launcher; see the protocol above.
        print(json.dumps(described, indent=1, sort_keys=True))
    else:
        for name in different:
            print(f"different {name}")
        print(
            f"{len(found.operations) - len(different)} of {len(found.operations)} operations as in the portable table"
        )
        print(f"fingerprint {found.digest}")
    return EXIT_DIFFERENT if profile.portable and different else EXIT_OK


def read_image_manifest(path: Path = IMAGE_MANIFEST) -> Fields:
    """The manifest in the image. Raises InputError if it is missing or damaged."""
    try:
        return Fields(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; this is not an image built by `samebits build`") from error


def image_identity(fields: Fields) -> ImageIdentity:
    """The digests in the image's manifest. The image cannot contain its own digest."""
    base, packages = fields.optional("base", str), fields.optional("packages", str)
    return ImageIdentity(
        lock=Digest.parse(fields.get("lock", str)),
        source=Digest.parse(fields.get("source", str)),
        base=None if base is None else Digest.parse(base),
        packages=None if packages is None else Digest.parse(packages),
    )
