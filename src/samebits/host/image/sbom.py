"""What is inside an image: Debian packages, Python, the locked wheels; as a table and a CycloneDX bill of materials."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from samebits.core.digest import Digest
from samebits.host.docker import Engine, Image
from samebits.host.image.build import SOURCE_DATE_EPOCH, config_digest
from samebits.host.image.lockfile import read_lock

_LOCK = "/opt/samebits/recipe/lock/requirements.lock"
_DPKG = "/var/lib/dpkg/status"
_VENV = "/opt/samebits/venv/pyvenv.cfg"


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """One package: `kind` is `pypi`, `deb` or `generic`; a wheel's `digests` are all that its lock admits."""

    kind: str
    name: str
    version: str
    architecture: str | None = None
    digests: tuple[Digest, ...] = ()


def read_packages(engine: Engine, image: Image) -> list[Package]:
    """The packages of an image as its own files tell: lock, package database, virtual environment.

    Raises ImageError or EngineError.
    """
    wheels = (
        Package(
            kind="pypi",
            name=pin.name,
            version=pin.version,
            digests=tuple(sorted(pin.hashes, key=lambda item: item.hex)),
        )
        for pin in read_lock(engine.read_file(image, _LOCK).decode())
    )
    debian = sorted(_debian(engine.read_file(image, _DPKG).decode()), key=lambda item: item.name)
    return [*debian, *_own_python(engine.read_file(image, _VENV).decode()), *wheels]


def _own_python(configuration: str) -> Iterator[Package]:
    """The Python that a virtual environment's `pyvenv.cfg` names, unless it is Debian's, which is listed already."""
    fields = dict(line.split(" = ", 1) for line in configuration.splitlines() if " = " in line)
    if fields.get("home") not in {
        "/usr/bin",
        "/bin",
    }:  # Debian's packages put it nowhere else; /usr/local is not theirs
        yield Package(kind="generic", name="python", version=fields["version"])


def _debian(status: str) -> Iterator[Package]:
    """The installed packages of dpkg's status file, on hold or not: `<wanted> <error> <state>`."""
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            yield Package(
                kind="deb", name=fields["Package"], version=fields["Version"], architecture=fields.get("Architecture")
            )


def bill_of_materials(engine: Engine, image: Image) -> str:
    """CycloneDX 1.6 JSON; the same image always gives the same text."""
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

    config = config_digest(engine, image)
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=config.hex)]
    version = image.labels.get("org.opencontainers.image.version")
    whole = Component(
        name="samebits", version=version, type=ComponentType.CONTAINER, bom_ref=str(config), hashes=hashes
    )
    components = [component(package) for package in read_packages(engine, image)]
    bom = Bom(
        components=components,
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, str(config)),
        metadata=BomMetaData(component=whole, timestamp=datetime.fromtimestamp(int(SOURCE_DATE_EPOCH), UTC)),
    )
    bom.register_dependency(whole, components)
    text: str = json.dumps(json.loads(JsonV1Dot6(bom).output_as_string()), indent=1, sort_keys=True)
    return text
