"""The pinned settings: their values, what contradicts them, and that the image bakes the same ones in."""

import pytest

from conftest import ROOT
from samebits.errors import InputError, SettingError
from samebits.profile import DEFAULT_THREADS, FIXED_SETTINGS, Profile, Setting


def test_variables() -> None:
    assert Profile(threads=3).variables == {
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "KERAS_BACKEND": "tensorflow",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "TF_NUM_INTRAOP_THREADS": "3",
        "TF_NUM_INTEROP_THREADS": "3",
    }
    assert Profile() == Profile(name="native", threads=DEFAULT_THREADS)


@pytest.mark.parametrize("threads", [-1, 0, 1025])
def test_threads_out_of_range(threads: int) -> None:
    with pytest.raises(InputError, match=f"^threads must be from 1 to 1024, not {threads}$"):
        Profile(threads=threads)


@pytest.mark.parametrize("name", ["", "Native", "fast"])
def test_no_such_profile(name: str) -> None:
    with pytest.raises(InputError, match=f"^there is no profile '{name}'; choose one of: native$"):
        Profile(name=name)


def test_an_environment_that_agrees() -> None:
    profile = Profile(threads=1024)
    profile.check({}, "your environment")
    profile.check({**profile.variables, "HOME": "/", "OMP_NUM_THREADS": "7"}, "your environment")


@pytest.mark.parametrize(
    ("name", "found", "message"),
    [
        (
            "TF_ENABLE_ONEDNN_OPTS",
            "0",
            (
                "the script sets TF_ENABLE_ONEDNN_OPTS=0, but the native profile needs TF_ENABLE_ONEDNN_OPTS=1"
                " (its default depends on the CPU, and bits follow it); remove it"
            ),
        ),
        (
            "TF_NUM_INTEROP_THREADS",
            "02",
            (
                "the script sets TF_NUM_INTEROP_THREADS=02, but the native profile needs TF_NUM_INTEROP_THREADS=2"
                " (else it follows the machine's cores); use --threads"
            ),
        ),
        (
            "OPENBLAS_NUM_THREADS",
            "",
            (
                "the script sets OPENBLAS_NUM_THREADS=, but the native profile needs OPENBLAS_NUM_THREADS=1"
                " (NumPy's matrix products follow the number of threads); remove it"
            ),
        ),
    ],
)
def test_an_environment_that_contradicts(name: str, found: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        Profile().check({**Profile().variables, name: found}, "the script")
    assert str(caught.value) == message


@pytest.mark.parametrize("setting", Profile().settings, ids=lambda setting: setting.name)
def test_no_setting_goes_unchecked(setting: Setting) -> None:
    with pytest.raises(SettingError, match=f"^the image sets {setting.name}=other, "):
        Profile().check({setting.name: "other"}, "the image")


def test_the_image_bakes_the_fixed_settings_in() -> None:
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    baked = dict(pair.split("=", 1) for line in lines if line.startswith("ENV ") for pair in line.split()[1:])
    ours = {name: value for name, value in baked.items() if name in Profile().variables}
    assert ours == {setting.name: setting.value for setting in FIXED_SETTINGS}
