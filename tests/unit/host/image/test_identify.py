"""Which image a training builds by itself. Builds are in tests/engine; here the engine only says what it has."""

import re
from dataclasses import replace
from typing import Any

import pytest

from samebits.core.errors import ImageError
from samebits.host.docker import Image
from samebits.host.image import identify
from samebits.host.image.build import plan_build
from samebits.host.image.build_context import CPU, ImageKind

PROJECT = replace(CPU, python=(3, 12))
ABSENT = "the engine has no image"
OUTDATED = "was built from another lock"


class Nothing:
    """An engine without an image."""

    runtime = "docker"

    def find_image(self, _reference: str) -> Image | None:
        return None


class Outdated(Nothing):
    """An engine whose image was built from another lock, also after the build that these tests replace."""

    def find_image(self, reference: str) -> Image | None:
        return Image(reference=reference, id="sha256:" + "0" * 64, labels={"samebits.lock": "another"})


def built(
    monkeypatch: pytest.MonkeyPatch, kind: ImageKind, reference: str | None, engine: Any, error: str
) -> list[str]:
    """The kinds that were built, until the image is looked for again."""
    found: list[str] = []
    monkeypatch.setattr(identify, "plan_build", lambda _engine, kind: kind)
    monkeypatch.setattr(identify, "build", lambda _engine, kind: found.append(kind.tag))
    with pytest.raises(ImageError, match=error):
        identify.find_or_build(engine, kind, reference)
    return found


@pytest.mark.parametrize("kind", [CPU, PROJECT], ids=["usual", "project"])
def test_a_missing_image_is_built(monkeypatch: pytest.MonkeyPatch, kind: ImageKind) -> None:
    assert built(monkeypatch, kind, None, Nothing(), ABSENT) == [kind.tag]


def test_a_named_image_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert built(monkeypatch, CPU, "samebits:none", Nothing(), ABSENT) == []


@pytest.mark.parametrize("kind", [CPU, PROJECT], ids=["usual", "project"])
def test_an_outdated_image_is_rebuilt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: ImageKind
) -> None:
    assert built(monkeypatch, kind, None, Outdated(), OUTDATED) == [kind.tag]
    assert capsys.readouterr().err == f"samebits: {kind.tag} was built from another lock; it is rebuilt\n"


def test_an_outdated_image_that_the_user_named_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert built(monkeypatch, CPU, CPU.tag, Outdated(), OUTDATED) == []


@pytest.mark.parametrize(
    ("python", "advice"),
    [
        ((3, 11), "make one with `tools/base_image.sh --release bookworm` and name it in SAMEBITS_BASE_3_11"),
        ((3, 12), "no Debian has Python 3.12: name an image of your own in SAMEBITS_BASE_3_12, or train with"),
        ((3, 13), "make one with `make base-image` and name it with --base"),
    ],
)
def test_a_base_that_is_not_there(python: tuple[int, int], advice: str) -> None:
    """Not every Python has a base that can be made everywhere."""
    engine: Any = Nothing()
    with pytest.raises(
        ImageError, match=re.escape(f"the engine has no base image none; name one by digest, or {advice}")
    ):
        plan_build(engine, replace(CPU, python=python), base="none")
