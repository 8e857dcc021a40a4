"""What XLA is told on CPU."""

import jax
import pytest

from gqst.runtime import devices


def test_an_option_that_this_xla_has_not_is_left_out(monkeypatch):
    there = devices._own_convolutions.__wrapped__
    assert list(there()) == ["xla_cpu_experimental_ynn_fusion_type"]

    def refuses(*given, **options):
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: No such compile option")

    monkeypatch.setattr(jax, "jit", refuses)
    assert there() == {}


@pytest.mark.parametrize("level", [0, 1])
def test_options_are_those_that_xla_takes(level):
    options = devices.compile_options(level, jax.devices())
    assert jax.jit(lambda x: x + 1, compiler_options=options)(1) == 2
