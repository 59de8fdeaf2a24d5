"""Which environment variables a record may hold."""

from samebits.runner.observe.environment import recorded_variables


def test_nothing_that_may_be_a_secret() -> None:
    given = {"AWS_SECRET_ACCESS_KEY": "secret", "HOME": "/home/me", "XLA_FLAGS": "--xla", "OMP_NUM_THREADS": "2"}
    assert recorded_variables(given) == {"XLA_FLAGS": "--xla", "OMP_NUM_THREADS": "2"}
