"""What a script may set itself, and what is refused in the line that sets it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from samebits.core.determinism_profile import Profile
from samebits.core.errors import SettingError
from samebits.core.script_uses import ScriptSetting
from samebits.runner.compat import tensorflow_private
from samebits.runner.compat.patches import Patches
from samebits.runner.determinism.settings_guard import SettingsGuard

Watch = Callable[..., tuple[SettingsGuard, list[tuple[ScriptSetting, ...]]]]
_INTRA = "TF_NUM_INTRAOP_THREADS"


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """In place of TensorFlow's module: two functions that set a pool's size."""
    sizes: list[object] = []

    def setter(num_threads: object) -> None:
        sizes.append(num_threads)

    module = SimpleNamespace(sizes=sizes, intra=setter, inter=setter)
    names = {_INTRA: "intra", "TF_NUM_INTEROP_THREADS": "inter"}
    monkeypatch.setattr(tensorflow_private, "pool_locations", lambda setting: [(module, names[setting])])
    return module


@pytest.fixture
def watch(tmp_path: Path, pools: SimpleNamespace) -> Iterator[Watch]:  # noqa: ARG001  patched before it is wrapped
    before = dict(os.environ)
    with Patches() as patches:

        def watched(profile: Profile) -> tuple[SettingsGuard, list[tuple[ScriptSetting, ...]]]:
            guard = SettingsGuard(profile, tmp_path)
            reports: list[tuple[ScriptSetting, ...]] = []
            guard.install(patches)
            guard.watch_pools(patches, reports.append)
            return guard, reports

        yield watched
    os.environ.clear()
    os.environ.update(before)


def _run(folder: Path, source: str, **names: object) -> None:
    """Run a script in the folder."""
    exec(compile(source, str(folder / "train.py"), "exec"), {"os": os, **names})


def test_a_hash_seed_has_no_effect_and_is_recorded(
    tmp_path: Path, watch: Watch, capfd: pytest.CaptureFixture[str]
) -> None:
    _, reports = watch(Profile())
    _run(tmp_path, "\nos.environ['PYTHONHASHSEED'] = '0'\n")
    assert not reports
    _run(tmp_path, "\n\nos.environ['PYTHONHASHSEED'] = '42'\nos.environ['PYTHONHASHSEED'] = '43'\n")
    assert capfd.readouterr().err == (
        "samebits: train.py:3 sets PYTHONHASHSEED=42, which has no effect on this Python: it started with 0\n"
    )
    assert reports[-1] == (ScriptSetting(path="train.py", line=4, name="PYTHONHASHSEED", value="43"),)


@pytest.mark.parametrize("seed", ["random", "4294967296", "-1", ""])
def test_a_hash_seed_that_differs_in_every_process_is_refused(tmp_path: Path, watch: Watch, seed: str) -> None:
    """Python processes that the script starts would obey it."""
    guard, _ = watch(Profile())
    with pytest.raises(SettingError, match=rf"^train\.py:1 sets PYTHONHASHSEED={seed}, but the native profile needs"):
        _run(tmp_path, f"os.environ['PYTHONHASHSEED'] = {seed!r}")
    with pytest.raises(SettingError):
        guard.check()


def test_a_script_chooses_its_pools(tmp_path: Path, watch: Watch, pools: SimpleNamespace) -> None:
    guard, reports = watch(Profile(threads=2))
    assert guard.threads == 2
    _run(tmp_path, "pools.intra(2)", pools=pools)
    assert not reports
    _run(tmp_path, "pools.intra(1)\n", pools=pools)
    assert (guard.pools, guard.threads) == ({_INTRA: 1}, 2)
    _run(tmp_path, "pools.inter(num_threads=1)\n", pools=pools)
    assert guard.threads == 1
    _run(tmp_path, "\npools.inter(8)\n", pools=pools)
    assert (guard.threads, pools.sizes) == (8, [2, 1, 1, 8])
    assert [(item.name, item.value, item.line) for item in reports[-1]] == [
        (_INTRA, "1", 1),
        ("TF_NUM_INTEROP_THREADS", "8", 2),
    ]


@pytest.mark.parametrize(
    ("profile", "size", "complaint"),
    [
        (Profile(), 0, "to 0: as many threads as the machine has cores; pass a number, or remove the call"),
        (Profile(), None, "to None: as many threads"),
        (Profile(threads=1), 4, "to 4, but the run has 1 thread; remove the call, or use --threads 4"),
        (Profile(name="portable", threads=1), 2, "to 2, but the portable profile needs 1; remove the call"),
    ],
)
def test_pools_that_change_bits_elsewhere(
    tmp_path: Path, watch: Watch, pools: SimpleNamespace, profile: Profile, size: object, complaint: str
) -> None:
    guard, reports = watch(profile)
    with pytest.raises(SettingError) as caught:
        _run(tmp_path, "\npools.intra(size)", pools=pools, size=size)
    assert str(caught.value).startswith(f"train.py:2 sets {_INTRA} {complaint}")
    assert not reports
    assert not pools.sizes
    with pytest.raises(SettingError):
        guard.check()
