"""Optax optimisers from a config."""

import inspect
import math
from typing import Any

import optax

from gqst import config, types

_DECAYS = frozenset({"b1", "b2", "b3", "decay", "momentum"})
_DTYPES = ("float32", "bfloat16", None)


def build(cfg: config.Optimizer, *, steps: int) -> optax.GradientTransformation:
    """Returns the optimiser of a config.

    Args:
      cfg: Section of the optimiser in a config.
      steps: Number of steps of the whole run, after which linear_decay and cosine reach 0.

    Raises:
      InputError: An option or a value that the optimiser does not take, or a decay outside the run.
    """
    factory = getattr(optax, cfg.name)
    parameters = inspect.signature(factory).parameters
    options = dict(cfg.options)
    for key in options:
        if key not in parameters or key == "learning_rate":
            names = ", ".join(name for name in parameters if name != "learning_rate")
            raise types.InputError(f"optimiser {cfg.name!r} has no option {key!r}; it takes: {names}")
        _check(cfg.name, key, options[key], parameters[key].default)
    if "b1" in parameters:
        options.setdefault("b1", 0.5)
    try:
        tx = factory(learning_rate=learning_rate(cfg, steps=steps), **options)
    except (TypeError, ValueError) as error:
        raise types.InputError(f"optimiser {cfg.name!r} refuses {options}: {error}") from error
    return tx if cfg.clip_norm is None else optax.chain(optax.clip_by_global_norm(cfg.clip_norm), tx)


def learning_rate(cfg: config.Optimizer, *, steps: int) -> optax.Schedule:
    """Returns the learning rate by step; InputError if the decay starts outside the run.

    A warm-up takes at most half of the run, so that a config can be tried with few steps.
    """
    peak, warmup = cfg.learning_rate, min(cfg.warmup_steps, steps // 2)
    if cfg.schedule == "constant":
        after = optax.constant_schedule(peak)
    elif cfg.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, steps - warmup)
    else:
        start = steps // 2 if cfg.decay_start is None else cfg.decay_start
        if not warmup <= start < steps:
            raise types.InputError(
                f"decay_start={start} is not between the warm-up's end, {warmup}, and the last step, {steps}"
            )
        after = optax.linear_schedule(peak, 0.0, steps - start, transition_begin=start - warmup)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def _check(name: str, key: str, value: Any, default: Any) -> None:
    """Raises InputError unless a value is of the kind of the option's default; optax would fail at the first step."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(default, bool):
        fits, kind = isinstance(value, bool), "True or False"
    elif key in _DECAYS:
        fits, kind = number and 0 <= value < 1, "a number from 0 to less than 1"
    elif key.endswith("dtype"):
        fits, kind = value in _DTYPES, "float32, bfloat16 or None"
    elif isinstance(default, int | float):
        fits, kind = number and value >= 0, "a number of at least 0"
    else:
        fits, kind = value is None, "only None in a config"
    if not fits and not (value is None and default is None):
        raise types.InputError(f"option {key!r} of optimiser {name!r} is {value!r}: it takes {kind}")
