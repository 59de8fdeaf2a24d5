"""What an image is made of, told by the image itself."""

import json
import subprocess
from collections.abc import Callable

import pytest

from conftest import Done
from samebits.host.lock import read_lock
from samebits.host.source import CPU, context_file

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("engine")]


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


def test_a_table(samebits: Callable[..., Done]) -> None:
    shown = samebits("show", "--image", "samebits:cpu")
    rows = dict(line.split(maxsplit=1) for line in shown.out.splitlines() if not line.startswith(("deb", "pypi")))
    assert rows["lock"] == str(CPU.lock_digest)
    assert rows["base"].startswith("sha256:")
    assert ["pypi", "keras", "3.15.1"] in [line.split() for line in shown.out.splitlines()]


def test_no_such_image(samebits: Callable[..., Done]) -> None:
    shown = samebits("show", "--image", "samebits:none")
    assert (shown.status, shown.complaint) == (2, "the image samebits:none is not here; build it with `samebits build`")
