"""`--expect`: the status and the differences where another result came out than the known one."""

from samebits.core.digest import Digest
from support.fake_runner import Played, played

__all__ = ["played"]


def test_the_expected_result(played: Played) -> None:
    words = played.project.command()[1:]
    first = played.call(*words)
    wanted = first.line("result")
    assert played.call(*words, "--expect", wanted).status == 0
    assert played.call("verify", "last", "--expect", wanted).status == 0
    played.player.unlike = b"other"
    done = played.call(*words, "--expect", wanted)
    assert done.status == 1
    said = done.err.splitlines()
    assert f"samebits: the result is {done.line('result')}, not the expected {wanted}" in said
    assert [line for line in said if line.startswith("samebits: outputs ")], done.err
    done = played.call("verify", first.run.name, "--expect", wanted)
    assert done.status == 1


def test_a_result_that_nobody_has(played: Played) -> None:
    wanted = str(Digest.of_bytes(b"another"))
    done = played.call(*played.project.command()[1:], "--expect", wanted)
    assert (done.status, "nothing to compare with" in done.err) == (1, True)
    # The verdict is *identical*, and yet not what was expected.
    done = played.call("verify", "last", "--expect", wanted)
    assert done.status == 1
    assert done.out.splitlines()[-1].startswith("identical")


def test_what_is_no_digest(played: Played) -> None:
    done = played.call(*played.project.command()[1:], "--expect", "abc")
    assert (done.status, played.runs()) == (2, 0)
    assert done.complaint.startswith("--expect: not a digest: 'abc'")
