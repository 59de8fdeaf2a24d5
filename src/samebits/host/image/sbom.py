"""The packages in an image (Debian's, Python, the locked wheels), and its CycloneDX bill of materials."""

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from packaging.utils import canonicalize_name

from samebits.core.digest import Digest
from samebits.core.errors import EngineError
from samebits.core.record import Record
from samebits.core.run_dir import RunDir
from samebits.core.run_files import MAX_JSON_BYTES, read_plain
from samebits.core.source_digest import LOCK_PATH, PACKAGES_PATH
from samebits.host.container_request import ContainerRequest
from samebits.host.docker import Engine, Image
from samebits.host.image.build import PACKAGES_LABEL, SOURCE_DATE_EPOCH, config_digest
from samebits.host.image.lockfile import read_lock

_CONTEXT = "/opt/samebits/recipe"
_DPKG_STATUS_PATH = "/var/lib/dpkg/status"
_PYTHON = "/opt/samebits/venv/bin/python"
_LIST = (
    "import importlib.metadata, json;"
    "print(json.dumps([(item.metadata['Name'], item.version) for item in importlib.metadata.distributions()]))"
)
_VENV_CONFIG_PATH = "/opt/samebits/venv/pyvenv.cfg"


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """One package: `kind` is `pypi`, `deb` or `generic`; `digests` are all that the lock allows for a wheel.

    `origin` names what brought it: Debian, the base image, samebits's lock or the project's.
    """

    kind: str
    name: str
    version: str
    architecture: str | None = None
    digests: tuple[Digest, ...] = ()
    origin: str = "base image"


def read_packages(engine: Engine, image: Image) -> list[Package]:
    """The packages of an image, read from its package database and virtual environment; its locks tell their origin.

    Raises EngineError, or InputError for an image without a readable lock.
    """
    locked = list(_locked(engine, image, LOCK_PATH, "lock"))
    if PACKAGES_LABEL in image.labels:
        locked += _locked(engine, image, PACKAGES_PATH, "project")
    wheels = installed(locked, _distributions(engine, image))
    debian = sorted(_debian_packages(engine.read_file(image, _DPKG_STATUS_PATH).decode()), key=lambda item: item.name)
    return [*debian, *_non_debian_python(engine.read_file(image, _VENV_CONFIG_PATH).decode()), *wheels]


def installed(locked: Iterable[Package], found: Iterable[tuple[str, str]]) -> list[Package]:
    """What is there, by name and version: as the lock has it, or added by whoever derived the image from ours."""
    pins = {(package.name, package.version): package for package in locked}
    named = sorted((str(canonicalize_name(name)), version) for name, version in found)
    return [
        pins.get(item) or Package(kind="pypi", name=item[0], version=item[1], origin="added to the image")
        for item in named
    ]


def _distributions(engine: Engine, image: Image) -> list[tuple[str, str]]:
    """The installed distributions that a script can import; the image's Python is asked, in a container."""
    request = ContainerRequest(
        image=image.id,
        command=("-I", "-c", _LIST),
        environment={},
        mounts=(),
        user="65534:65534",
        entrypoint=(_PYTHON,),
    )
    try:
        return [(str(name), str(version)) for name, version in json.loads(engine.output_of(request))]
    except ValueError as error:
        raise EngineError(f"the Python of {image.reference} does not list its packages; is {_PYTHON} in it?") from error


def recorded_packages(run: RunDir, record: Record) -> list[Package]:
    """The Python packages that a run observed, by its own locks. All else of its image comes from the base."""
    observed = {} if record.environment.system is None else record.environment.system.distributions
    locks = [(LOCK_PATH, "lock"), *([] if record.recipe.image.packages is None else [(PACKAGES_PATH, "project")])]
    locked = [
        package
        for path, origin in locks
        for package in _pinned(read_plain(run.image / path, MAX_JSON_BYTES, run.path).decode(), origin)
    ]
    return installed(locked, observed.items())


def _locked(engine: Engine, image: Image, lock: str, origin: str) -> Iterator[Package]:
    return _pinned(engine.read_file(image, f"{_CONTEXT}/{lock}").decode(), origin)


def _pinned(lock: str, origin: str) -> Iterator[Package]:
    for pin in read_lock(lock):
        digests = tuple(sorted(pin.hashes, key=lambda item: item.hex))
        yield Package(kind="pypi", name=pin.name, version=pin.version, digests=digests, origin=origin)


def _non_debian_python(configuration: str) -> Iterator[Package]:
    """The Python that `pyvenv.cfg` names, unless it is Debian's, which the package database lists."""
    fields = dict(line.split(" = ", 1) for line in configuration.splitlines() if " = " in line)
    # Debian installs its Python nowhere else; /usr/local belongs to others.
    if fields.get("home") not in {"/usr/bin", "/bin"}:
        yield Package(kind="generic", name="python", version=fields["version"])


def _debian_packages(status: str) -> Iterator[Package]:
    """The installed packages in dpkg's status file."""
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        # `<wanted> <error> <state>`; a package on hold is installed, too.
        if fields.get("Status", "").endswith(" installed"):
            yield Package(
                kind="deb", name=fields["Package"], version=fields["Version"], architecture=fields.get("Architecture")
            )


def bill_of_materials(engine: Engine, image: Image) -> str:
    """The bill of materials as CycloneDX 1.6 JSON; the same image always gives the same text."""
    version = image.labels.get("org.opencontainers.image.version")
    values = _bill(config_digest(engine, image), version, read_packages(engine, image))
    return json.dumps(values, indent=1, sort_keys=True)


def recorded_bill(run: RunDir, record: Record) -> Any:
    """The bill of materials of what a run was trained with, from its folder alone."""
    image, packages = record.recipe.image, recorded_packages(run, record)
    if image.base is not None:
        packages.append(Package(kind="oci", name="base", version=str(image.base), digests=(image.base,)))
    return _bill(image.config or image.lock, None, packages)


def _bill(config: Digest, version: str | None, packages: Iterable[Package]) -> Any:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    def component(package: Package) -> Component:
        qualifiers = {"arch": package.architecture} if package.architecture else None
        space = "debian" if package.kind == "deb" else None
        purl = PackageURL(package.kind, space, package.name, package.version, qualifiers)
        hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest.hex) for digest in package.digests]
        return Component(name=package.name, version=package.version, purl=purl, bom_ref=purl.to_string(), hashes=hashes)

    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=config.hex)]
    whole = Component(
        name="samebits", version=version, type=ComponentType.CONTAINER, bom_ref=str(config), hashes=hashes
    )
    components = [component(package) for package in packages]
    # The standard asks for a serial number and a time; both are derived from the image, so that the text repeats.
    bom = Bom(
        components=components,
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, str(config)),
        metadata=BomMetaData(component=whole, timestamp=datetime.fromtimestamp(int(SOURCE_DATE_EPOCH), UTC)),
    )
    bom.register_dependency(whole, components)
    return json.loads(JsonV1Dot6(bom).output_as_string())
