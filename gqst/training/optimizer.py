"""Optax optimisers from a config."""

import inspect

import optax

from gqst import config, types


def build(cfg: config.Optimizer, *, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimiser, and its learning rate by step.

    Args:
      cfg: the optimiser's section of a config.
      steps: of the whole run; linear_decay and cosine end there at 0.

    Raises:
      InputError: an option that the optimiser does not take, or a decay outside the run.
    """
    rate = learning_rate(cfg, steps=steps)
    make = getattr(optax, cfg.name)
    known = inspect.signature(make).parameters
    options = dict(cfg.options)
    for key in options:
        if key not in known or key == "learning_rate":
            taken = ", ".join(k for k in known if k != "learning_rate")
            raise types.InputError(f"optimiser {cfg.name!r} has no option {key!r}; it takes: {taken}")
    if "b1" in known:
        options.setdefault("b1", 0.5)
    try:
        rule = make(learning_rate=rate, **options)
    except (TypeError, ValueError) as error:
        raise types.InputError(f"optimiser {cfg.name!r} refuses {options}: {error}") from error
    if cfg.clip_norm is None:
        return rule, rate
    return optax.chain(optax.clip_by_global_norm(cfg.clip_norm), rule), rate


def learning_rate(cfg: config.Optimizer, *, steps: int) -> optax.Schedule:
    """The learning rate by step; InputError if the decay starts outside the run.

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
