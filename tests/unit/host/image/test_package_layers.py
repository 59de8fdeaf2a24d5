"""Large wheels lie below small ones, each with its part of the lock."""

from pathlib import Path

from samebits.host.image.package_layers import layer_wheels


def test_a_small_package_leaves_the_large_layer_alone(tmp_path: Path) -> None:
    lock, wheels = tmp_path / "requirements.lock", tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "big_one-1.0-py3-none-any.whl").write_bytes(b"0" * (4 << 20))
    (wheels / "small-1.0-py3-none-any.whl").write_bytes(b"0")
    a, b, c = "a" * 64, "b" * 64, "c" * 64
    text = f"big-one==1.0 ; python_version > '3' --hash=sha256:{a}\nsmall==1.0 --hash=sha256:{b}\n"
    lock.write_text(text)
    (tmp_path / "1").mkdir()
    before = layer_wheels(lock, wheels, tmp_path / "1")
    (wheels / "tqdm-4-py3-none-any.whl").write_bytes(b"0")
    lock.write_text(f"{text}tqdm==4 --hash=sha256:{c}\nelsewhere==1 ; sys_platform == 'win32' --hash=sha256:{c}\n")
    (tmp_path / "2").mkdir()
    after = layer_wheels(lock, wheels, tmp_path / "2")
    assert _content(before["packages-large"]) == _content(after["packages-large"])
    assert sorted(_content(before["packages-large"])) == ["big_one-1.0-py3-none-any.whl", "requirements.txt"]
    assert (before["packages-large"] / "requirements.txt").read_text() == f"big-one==1.0 \\\n    --hash=sha256:{a}\n"
    assert "tqdm==4" in (after["packages-small"] / "requirements.txt").read_text()
    assert "elsewhere" not in (after["packages-small"] / "requirements.txt").read_text()


def test_a_layer_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "lock").touch()
    folders = layer_wheels(tmp_path / "lock", tmp_path / "wheels", tmp_path)
    assert all((folder / "requirements.txt").read_bytes() == b"" for folder in folders.values())


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
