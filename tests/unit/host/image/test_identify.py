"""Which image a training builds by itself. Builds are in tests/engine; here the engine only says what it has."""

from dataclasses import replace
from typing import Any

import pytest

from samebits.core.errors import ImageError
from samebits.host.image import identify
from samebits.host.image.build_context import CPU, ImageKind

PROJECT = replace(CPU, python=(3, 12))


class Nothing:
    """An engine without an image."""

    def find_image(self, _reference: str) -> None:
        return None


def built(monkeypatch: pytest.MonkeyPatch, kind: ImageKind, reference: str | None) -> list[str]:
    """The kinds that were built, until the image is looked for again."""
    found: list[str] = []
    monkeypatch.setattr(identify, "plan_build", lambda _engine, kind: kind)
    monkeypatch.setattr(identify, "build", lambda _engine, kind: found.append(kind.tag))
    engine: Any = Nothing()
    with pytest.raises(ImageError, match="the engine has no image"):
        identify.find_or_build(engine, kind, reference)
    return found


@pytest.mark.parametrize("kind", [CPU, PROJECT], ids=["usual", "project"])
def test_a_missing_image_is_built(monkeypatch: pytest.MonkeyPatch, kind: ImageKind) -> None:
    assert built(monkeypatch, kind, None) == [kind.tag]


def test_a_named_image_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert built(monkeypatch, CPU, "samebits:none") == []
