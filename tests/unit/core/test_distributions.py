import pytest

from samebits.core.distributions import distribution_of, how_to_add


@pytest.mark.parametrize(
    ("module", "distribution"),
    [
        ("cv2", "opencv-python-headless"),
        ("sklearn.model_selection", "scikit-learn"),
        ("PIL.Image", "pillow"),
        ("google.protobuf.message", "protobuf"),
        ("pandas", "pandas"),
        ("sentence_transformers", "sentence-transformers"),
        ("mpl_toolkits.mplot3d", "matplotlib"),
    ],
)
def test_a_module_has_a_distribution(module: str, distribution: str) -> None:
    assert distribution_of(module) == distribution


def test_the_commands_name_the_distribution_not_the_module() -> None:
    assert how_to_add("sklearn.svm") == "echo scikit-learn >> requirements.in && samebits lock"
