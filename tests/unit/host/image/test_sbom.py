"""What an image holds, by what is installed in it; its locks tell only where that came from."""

from samebits.host.image.sbom import Package, installed

_KERAS = Package(kind="pypi", name="keras", version="3.15.1", origin="lock")
_PANDAS = Package(kind="pypi", name="pandas", version="3.1.1", origin="project")


def test_an_image_derived_from_ours() -> None:
    """Without one of the locked packages, with another version of the second, and with one of its own."""
    listed = installed([_KERAS, _PANDAS], [("pandas", "2.0"), ("Tiny_One", "1"), ("keras", "3.15.1")])
    assert [(item.name, item.version, item.origin) for item in listed] == [
        ("keras", "3.15.1", "lock"),
        ("pandas", "2.0", "added to the image"),
        ("tiny-one", "1", "added to the image"),
    ]
    assert [item.name for item in installed([_KERAS, _PANDAS], [("Keras", "3.15.1")])] == ["keras"]
