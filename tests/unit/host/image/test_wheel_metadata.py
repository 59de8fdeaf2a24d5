"""What locked wheels say that they need, held against the lock, for the Python that they are installed for."""

import zipfile
from pathlib import Path

import pytest

from samebits.core.errors import ImageError, InputError
from samebits.host.image.wheel_metadata import check_dependencies
from samebits.host.image.wheelhouse import Target

_OLD, _NEW = Target(python=(3, 11)), Target(python=(3, 13))


def _wheel(folder: Path, name: str, version: str, *needs: str) -> Path:
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    lines = [f"Requires-Dist: {need}" for need in needs]
    with zipfile.ZipFile(wheel, "w") as archive:
        text = "\n".join(("Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines, ""))
        archive.writestr(f"{name}-{version}.dist-info/METADATA", text)
    return wheel


def test_a_need_of_one_python_alone(tmp_path: Path) -> None:
    wheels = [_wheel(tmp_path, "alpha", "1.0", 'beta>=2; python_version >= "3.13"', 'gamma; extra == "plot"')]
    check_dependencies(wheels, _OLD)
    with pytest.raises(InputError) as caught:
        check_dependencies(wheels, _NEW)
    assert str(caught.value) == (
        "alpha 1.0 needs beta>=2 on Python 3.13, and the lock does not have it; lock for that Python: python ="
        ' "3.13" in samebits.toml, then `samebits lock`'
    )
    check_dependencies([*wheels, _wheel(tmp_path, "beta", "2.1")], _NEW)


def test_another_version_than_needed(tmp_path: Path) -> None:
    wheels = [_wheel(tmp_path, "alpha", "1.0", "Beta_Two>=2"), _wheel(tmp_path, "beta_two", "1.9")]
    with pytest.raises(InputError, match=r"needs Beta_Two>=2 on Python 3\.11, and the lock has 1\.9"):
        check_dependencies(wheels, _OLD)


def test_what_is_no_wheel(tmp_path: Path) -> None:
    broken = tmp_path / "alpha-1.0-py3-none-any.whl"
    broken.write_text("no archive")
    with pytest.raises(ImageError, match="is no wheel"):
        check_dependencies([broken], _OLD)


def test_metadata_that_unpacks_to_much_more(tmp_path: Path) -> None:
    """A repository may bring a wheel of a few kilobytes."""
    wheel = tmp_path / "alpha-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("alpha-1.0.dist-info/METADATA", bytes(17 << 20))
    with pytest.raises(ImageError, match="larger than 16 MiB"):
        check_dependencies([wheel], _OLD)


@pytest.mark.parametrize("place", [8, 10])
def test_a_wheel_that_python_cannot_unpack(tmp_path: Path, place: int) -> None:
    """It says that it is encrypted, or packed in an unknown way."""
    wheel = _wheel(tmp_path, "alpha", "1.0")
    content = bytearray(wheel.read_bytes())
    content[content.rindex(b"PK\x01\x02") + place] = 99
    wheel.write_bytes(content)
    with pytest.raises(ImageError, match="is no wheel"):
        check_dependencies([wheel], _OLD)
