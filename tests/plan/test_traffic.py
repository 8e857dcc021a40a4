"""Bytes that a program moves, against what must be read and written by hand."""

import jax
import jax.numpy as jnp
import pytest

from gqst.plan import traffic

X = jax.ShapeDtypeStruct((256, 128), jnp.float32)
W = jax.ShapeDtypeStruct((128, 64), jnp.float32)


def _of(function, *shapes) -> float:
    return traffic.of(jax.jit(function).lower(*shapes).compile().as_text())


def test_a_product_reads_both_and_writes_one():
    assert _of(lambda x, w: x @ w, X, W) == 4 * (256 * 128 + 128 * 64 + 256 * 64)


def test_what_is_fused_stays_inside():
    assert _of(lambda x: jnp.sin(x) + 2.0 * jnp.cos(x), X) == 2 * 4 * 256 * 128


def test_a_loop_counts_as_often_as_it_runs():
    once = 2 * 4 * 256 * 128
    # The counter and a copy of what goes in are beside it.
    looped = _of(lambda x: jax.lax.fori_loop(0, 7, lambda _, a: jnp.sin(a), x), X)
    assert 7 * once <= looped <= 8 * once + 1000


def test_a_loop_over_rows_counts_each_row_once():
    rows = 4 * 256 * 128
    looped = _of(lambda x: jax.lax.scan(lambda _, row: (0.0, jnp.sin(row)), 0.0, x)[1], X)
    # Beside what is read and written, the result is filled with zeros first, and what goes in may be copied.
    assert 2 * rows <= looped <= 5 * rows


@pytest.mark.parametrize("turned", [False, True])
def test_of_a_conditional_the_dearer_branch_counts(turned):
    branches = (lambda x: jnp.zeros_like(x), lambda x: jnp.sin(x))  # writes; reads and writes
    flag = jax.ShapeDtypeStruct((), jnp.bool)
    moved = _of(lambda which, x: jax.lax.cond(which, *branches[:: -1 if turned else 1], x), flag, X)
    once = 4 * 256 * 128
    assert 2 * once <= moved <= 2 * once + 100


def test_bfloat16_is_half_of_it():
    half = jax.ShapeDtypeStruct(X.shape, jnp.bfloat16)
    assert _of(lambda x: x + x, half) == 2 * 2 * 256 * 128


TPU = """HloModule jit_step, is_scheduled=true

%fused (p: f32[8,128]) -> f32[8,128] {
  %p = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %s = f32[8,128]{1,0:T(8,128)} sine(%p)
}

ENTRY %main (x: f32[16,128]) -> f32[8,128] {
  %x = f32[16,128]{1,0:T(8,128)} parameter(0)
  %in = ((f32[16,128]{1,0:T(8,128)}), f32[8,128]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) slice-start(%x)
  %here = f32[8,128]{1,0:T(8,128)S(1)} slice-done(%in)
  %fusion.1 = f32[8,128]{1,0:T(8,128)S(1)} fusion(%here), kind=kLoop, calls=%fused
  %out = (f32[8,128]{1,0:T(8,128)}, f32[8,128]{1,0:T(8,128)S(1)}, u32[]{:S(2)}) copy-start(%fusion.1)
  %copy-done.2 = f32[8,128]{1,0:T(8,128)} copy-done(%out)
  ROOT %fusion.3 = f32[8,128]{1,0:T(8,128)} fusion(%copy-done.2), kind=kLoop, calls=%fused
}
"""


def test_what_lies_on_the_chip_costs_nothing():
    """A slice comes in, 4 KiB; a copy goes out; and a kernel reads and writes memory."""
    assert traffic.of(TPU) == 4096 + 4096 + 2 * 4096


def test_a_text_without_a_program():
    with pytest.raises(ValueError, match="no entry"):
        traffic.of("HloModule empty\n")
