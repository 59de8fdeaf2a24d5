"""The runtime inside of a pod: the image's own entrypoint, as a child of the launcher in the same container.

The launcher comes from the job's folder. What trains is the image's runner, started as in any other container.
"""

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from samebits.core.digest import Digest
from samebits.core.environment import KUBERNETES, EngineInfo, Environment, RunImage
from samebits.core.errors import InputError, RecordError
from samebits.core.jsonio import Fields, read_json
from samebits.core.recipe import ImageIdentity
from samebits.core.run_config import RunConfig
from samebits.core.run_dir import RunDir
from samebits.core.run_setup import RunSetup
from samebits.host.launch.container_plan import CONTAINER_DATA
from samebits.host.launch.runtime import Runtime, device_for
from samebits.host.launch.staging import path_in_container
from samebits.host.launch.venv import ProcessRequest, run_process
from samebits.host.subprocesses import Streams

OWN_VARIABLES = "SAMEBITS_"
"""How the variables begin that a pod's manifest sets for the launcher."""

RECIPE = Path("/opt/samebits/recipe")
_WORK = Path("/work")


@dataclass(frozen=True, kw_only=True, slots=True)
class PodImage:
    """The image that a pod was asked to run: what a record keeps of it, and its configuration's digest."""

    image: RunImage
    config: Digest | None
    server: str | None = None


def pod_runtime(spec: RunConfig, asked: PodImage) -> Runtime:
    """The image around this process; raises InputError where that is none of samebits."""
    environment = Environment(
        runtime=KUBERNETES, engine=EngineInfo(name="Kubernetes", version=asked.server), image=asked.image
    )
    setup = RunSetup(
        image=_identity(RECIPE / "image.json", asked.config),
        device=device_for(spec.gpus),
        environment=environment,
        python=sys.version_info[:2],
    )
    source = RECIPE / "source"

    def run(folder: RunDir, spec: RunConfig, streams: Streams) -> int:
        words = ("--run", str(path_in_container(folder)))
        return run_process(_request(words, _variables(spec), spec.determinism.unset, source), streams)

    def work(folder: RunDir, spec: RunConfig, index: int) -> int:
        words = ("--worker", str(path_in_container(folder)), str(index))
        return run_process(_request(words, _variables(spec), spec.determinism.unset, source))

    def query(arguments: tuple[str, ...], variables: Mapping[str, str]) -> tuple[int, str]:
        with tempfile.TemporaryFile() as output:
            status = run_process(_request(arguments, variables, (), source), Streams(out=output))
            output.seek(0)
            return status, output.read().decode()

    return Runtime(setup=setup, prepare=lambda: None, run=run, query=query, work=work, isolated=False)


def _variables(spec: RunConfig) -> dict[str, str]:
    """The variables of a process that trains."""
    return spec.variables | ({} if spec.data is None else {"SAMEBITS_DATA": CONTAINER_DATA})


def _identity(manifest: Path, config: Digest | None) -> ImageIdentity:
    """What this image was built from. No image holds the digest of its own configuration: that is the submitter's."""
    try:
        fields = Fields(read_json(manifest))
    except RecordError as error:
        raise InputError(f"{error}; this is not an image built by `samebits build`") from error
    base, packages = fields.optional("base", str), fields.optional("packages", str)
    return ImageIdentity(
        lock=Digest.parse(fields.get("lock", str)),
        source=Digest.parse(fields.get("source", str)),
        config=config,
        base=None if base is None else Digest.parse(base),
        packages=None if packages is None else Digest.parse(packages),
    )


def _request(
    words: tuple[str, ...], variables: Mapping[str, str], unset: tuple[str, ...], source: Path
) -> ProcessRequest:
    """The image's entrypoint with the image's variables, as an engine starts it; it withholds what it does not know."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}
    # The launcher's home is the submitter's.
    for name in (*unset, "HOME"):
        kept.pop(name, None)
    entrypoint = (sys.executable, "-I", "-S", str(source / "samebits" / "runner" / "clean_start.py"))
    return ProcessRequest(command=(*entrypoint, *words), environment={**kept, **variables}, folder=_WORK)
