"""What an image is made of, read from the image itself."""

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest

from samebits.host.docker import Engine
from samebits.host.image.build_context import CPU, context_file
from samebits.host.image.lockfile import read_lock
from samebits.host.image.sbom import read_packages
from support.command import Done

pytestmark = pytest.mark.usefixtures("engine")


def test_a_bill_of_materials(samebits: Callable[..., Done]) -> None:
    first, second = samebits("show", "--image", "--json"), samebits("show", "--image", "--json")
    assert first.status == 0, first.err
    assert (first.out, first.err) == (second.out, "")
    bom = json.loads(first.out)
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    found = {item["purl"]: item for item in bom["components"]}
    pins = {f"pkg:pypi/{pin.name}@{pin.version}": pin for pin in read_lock(context_file(CPU.lock))}
    assert {purl for purl in found if purl.startswith("pkg:pypi/")} == set(pins)
    for purl, pin in pins.items():
        assert {item["content"] for item in found[purl]["hashes"]} == {digest.hex for digest in pin.hashes}
    listed = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", "dpkg-query", CPU.tag, "-W", "-f", "${Package} ${Version}\n"],
        capture_output=True,
        text=True,
        check=True,
    )
    debian = {f"{item['name']} {item['version']}" for purl, item in found.items() if purl.startswith("pkg:deb/")}
    assert debian == set(listed.stdout.splitlines())
    assert len([purl for purl in found if purl.startswith(("pkg:deb/debian/python3@", "pkg:generic/python@"))]) == 1


_ELSEWHERE = f"""\
FROM {CPU.tag}
USER 0
WORKDIR /usr
RUN test -x local/bin/python3.13 || {{ cp bin/python3.13 local/bin && cp -r lib/python3.13 local/lib; }}
RUN rm -r /opt/samebits/venv && /usr/local/bin/python3.13 -m venv --without-pip /opt/samebits/venv
RUN echo base-files hold | dpkg --set-selections
"""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """An image with a Python that is no package of Debian's, as the python: images have it, and a package on hold."""
    tag = "samebits-test:elsewhere"
    subprocess.run(
        ["docker", "buildx", "build", "--load", "--provenance=false", "--tag", tag, "-"],
        input=_ELSEWHERE.encode(),
        check=True,
        capture_output=True,
    )
    yield tag
    subprocess.run(["docker", "rmi", tag], check=True, capture_output=True)


def test_a_python_that_is_not_debians(samebits: Callable[..., Done], elsewhere: str) -> None:
    program = "import platform; print(platform.python_version())"
    done = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", "/opt/samebits/venv/bin/python", elsewhere, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    version = done.stdout.strip()
    bom = json.loads(samebits("show", "--image", elsewhere, "--json").out)
    assert f"pkg:generic/python@{version}" in {item["purl"] for item in bom["components"]}
    # Its environment was made anew, without any of the packages that its lock names.
    assert not [item["purl"] for item in bom["components"] if item["purl"].startswith("pkg:pypi/")]
    shown = samebits("show", "--image", elsewhere)
    assert ["generic", "python", version, "(base", "image)"] in [line.split() for line in shown.out.splitlines()]
    engine = Engine()
    names = [
        {item.name for item in read_packages(engine, image) if item.kind == "deb"}
        for tag in (CPU.tag, elsewhere)
        if (image := engine.find_image(tag))
    ]
    assert "base-files" in names[0]
    assert names[0] == names[1]


def test_a_table(samebits: Callable[..., Done]) -> None:
    shown = samebits("show", "--image", "samebits:cpu")
    rows = dict(line.split(maxsplit=1) for line in shown.out.splitlines() if not line.startswith(("deb", "pypi")))
    assert rows["lock"] == str(CPU.lock_digest)
    assert rows["base"].startswith("sha256:")
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert "pypi keras 3.15.1 (lock)" in lines


def test_no_such_image(samebits: Callable[..., Done]) -> None:
    shown = samebits("show", "--image", "samebits:none")
    assert (shown.status, shown.complaint) == (
        2,
        "the engine has no image samebits:none; build it with `samebits build`",
    )
