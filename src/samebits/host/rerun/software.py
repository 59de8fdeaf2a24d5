"""The software that a recorded run was trained in, as far as it is here and may be executed."""

from dataclasses import dataclass

from samebits.core.errors import ImageError, InputError, NoEngineError, RecordError, SamebitsError, UntrustedError
from samebits.core.record import Record
from samebits.core.run_config import BITWISE, REPRODUCIBILITY_LEVELS
from samebits.core.run_dir import RunDir
from samebits.host.image.build_context import check_kept
from samebits.host.launch.runtime import Runtime, in_recorded_venv, of_recorded, was_in_container
from samebits.host.rerun.hardware import PreflightCheck
from samebits.host.rerun.request import RerunRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class SoftwareOptions:
    """Whether the run's software may be executed and a missing image built; for which runs also on this host itself.

    `inside` is a container's runtime that is already chosen.
    """

    executes: bool = False
    offline: bool = False
    trusted: tuple[str, ...] = ()
    inside: Runtime | None = None

    @classmethod
    def of(cls, request: RerunRequest) -> "SoftwareOptions":
        """Those of a command that trains the run again."""
        return cls(executes=True, offline=request.offline, trusted=request.trusted, inside=request.inside)


REPORT_ONLY = SoftwareOptions()


def find_software(run: RunDir, record: Record, options: SoftwareOptions) -> tuple[list[PreflightCheck], Runtime | None]:
    """The image or virtual environment that the run was trained in."""
    try:
        if options.inside is not None:
            return _inside(record, options.inside)
        # A run keeps to its runtime: the image and the virtual environment are two recipes.
        if was_in_container(record):
            return _image(run, record, options)
        return _venv(run, record, options)
    except UntrustedError as error:
        return [
            PreflightCheck(
                name="trust", wanted="trained here", found="unknown", reason=str(error), blocks=REPRODUCIBILITY_LEVELS
            )
        ], None
    except (NoEngineError, ImageError, RecordError, InputError) as error:
        wanted = str(record.recipe.image.config or record.recipe.image.lock)
        return [
            PreflightCheck(
                name="software", wanted=wanted, found="not available", reason=_why(error), blocks=REPRODUCIBILITY_LEVELS
            )
        ], None


def _inside(record: Record, runtime: Runtime) -> tuple[list[PreflightCheck], Runtime | None]:
    """The container that is already chosen, which must be of the recorded image."""
    wanted, found = record.recipe.image, runtime.setup.image
    same = wanted == found
    row = PreflightCheck(
        name="image",
        wanted=wanted.source.short,
        found=found.source.short,
        reason="" if same else "this container is not of the recorded image",
        blocks=() if same else REPRODUCIBILITY_LEVELS,
    )
    return [row], of_recorded(runtime, record)


def _why(error: SamebitsError) -> str:
    """Why the software is missing. Nothing takes the engine's place, as a run keeps to its runtime."""
    return f"{error}: the run was trained in a container" if isinstance(error, NoEngineError) else str(error)


def _image(run: RunDir, record: Record, options: SoftwareOptions) -> tuple[list[PreflightCheck], Runtime | None]:
    from samebits.host.rerun.recorded_image import find_image, provide_image

    recorded = record.recipe.image
    wanted = recorded.config.short if recorded.config is not None else f"of source {recorded.source.short}"
    # A preflight takes seconds, so only `verify` builds.
    image = (
        provide_image(run, record, offline=options.offline, trusted=options.trusted)
        if options.executes
        else find_image(record)
    )
    if image is None:
        check_kept(run.image, recorded)
        reason = "`samebits verify` rebuilds it from the run's folder, and compares its digest"
        return [PreflightCheck(name="image", wanted=wanted, found="not here", reason=reason)], None
    rows = [PreflightCheck(name="image", wanted=wanted, found=f"{wanted} as {image.reference}")]
    return rows, image.runtime


def _venv(run: RunDir, record: Record, options: SoftwareOptions) -> tuple[list[PreflightCheck], Runtime | None]:
    recorded = record.recipe.image
    runtime = in_recorded_venv(run, record, options.trusted)
    python = runtime.setup.image.python
    # The lock can be installed for another Python, but its compiled packages are others.
    other = "" if recorded.python == python else "another Python is another recipe; install the recorded one"
    return [
        *(
            PreflightCheck(name=name, wanted=digest.short, found=f"{digest.short} in the run's folder")
            for name, digest in (("lock", recorded.lock), ("packages", recorded.packages))
            if digest is not None
        ),
        PreflightCheck(
            name="python",
            wanted=str(recorded.python),
            found=str(python),
            reason=other,
            blocks=(BITWISE,) if other else (),
        ),
    ], runtime
