"""Arguments whose values no record holds."""

import json

import pytest

from samebits.core.digest import Digest
from samebits.core.errors import InputError
from samebits.core.redaction import digests, given_again, hide, redact, restored, to_variable

_TREE = Digest.of_bytes(b"code")


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--api-key", "s3cret", "--epochs", "2"], ("--api-key", "[redacted]", "--epochs", "2")),
        (["--epochs", "2", "--api-key=s3cret"], ("--epochs", "2", "--api-key=[redacted]")),
        (["--api-key=s3cret", "--api-key-file", "x"], ("--api-key=[redacted]", "--api-key-file", "x")),
        (["--api-key", "s3cret", "[redacted]"], ("--api-key", "[redacted]", "[redacted]")),
    ],
)
@pytest.mark.parametrize("name", ["api-key", "--api-key"])
def test_there_and_back(arguments: list[str], left: tuple[str, ...], name: str) -> None:
    found, values = redact(arguments, [name])
    assert (found, values) == (left, {"api-key": "s3cret"})
    assert restored(found, values) == arguments


@pytest.mark.parametrize(
    ("arguments", "names", "message"),
    [
        ([], ["api-key"], "--redact api-key: give the script --api-key once after --, with a value"),
        (["--api-key"], ["api-key"], "give the script --api-key once"),
        (["--api-key="], ["api-key"], "give the script --api-key once"),
        (["--api-key", "a", "--api-key=b"], ["api-key"], "give the script --api-key once"),
        (["--api-key=[redacted]"], ["api-key"], "give the script --api-key once"),
        (["--api-key=s3cret", "--url=http://s3cret@x"], ["api-key"], "its value is in another argument, too"),
        (["--x=1"], ["--"], "--redact takes the name of an option of the script, such as api-key, not ''"),
        (["--x=1"], ["a b"], "not 'a b'"),
        (["--api-key", "\udcff"], ["api-key"], "the value of --api-key is not UTF-8, and a redacted value must be"),
    ],
)
def test_what_cannot_be_redacted(arguments: list[str], names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        redact(arguments, names)


def test_a_digest_is_of_the_value_its_name_and_the_code() -> None:
    found = digests({"a": "1", "b": "1"}, _TREE)
    assert found == digests({"b": "1", "a": "1"}, _TREE)
    others = [digests({"a": "2"}, _TREE)["a"], digests({"a": "1"}, Digest.of_bytes(b"other"))["a"], found["b"]]
    assert len({found["a"], *others}) == 4


def test_values_are_given_again() -> None:
    caller = {"SAMEBITS_REDACTED_API_KEY": "s3cret"}
    assert given_again(["api-key"], caller) == {"api-key": "s3cret"}
    message = "the record does not hold the value of --pin; set SAMEBITS_REDACTED_PIN to it, and try again"
    with pytest.raises(InputError, match=message):
        given_again(["api-key", "pin"], caller)
    with pytest.raises(InputError, match="the value of --pin is not UTF-8"):
        given_again(["pin"], {"SAMEBITS_REDACTED_PIN": "1\udcff"})


def test_texts_and_variables() -> None:
    assert hide("no s3cret2 and s3cret", {"a": "s3cret", "b": "s3cret2"}) == "no [redacted] and [redacted]"
    assert to_variable({}) == {}
    assert to_variable({"a": "1"}) == {"SAMEBITS_REDACTED": '{"a": "1"}'}


@pytest.mark.parametrize("value", ["a\\b", "a'b\"c", "line\nline", "pässword"])
def test_values_that_are_shown_with_escapes(value: str) -> None:
    for shown in (repr([value]), ascii([value]), json.dumps([value]), json.dumps([value], ensure_ascii=False)):
        assert hide(shown, {"a": value})[2:-2] == "[redacted]"
