"""Paired translation: the published setting of pix2pix (Isola et al. 2017, section 3.3) with instance norm.

Command: `python -m gqst.train --config pix2pix --workdir runs/mine --set data.root=FOLDER`, where FOLDER has train
and test with side-by-side pictures. For two folders whose files have the same names:
`--set data=matched data.source=INPUTS data.target=TRUTHS`.

Cost: 100,000 steps at 256 px, batch 1, a U-Net of 39 M and a discriminator of 2.8 M parameters; meant for a GPU or
TPU. Expected: fakes that follow the layout of the input after a thousand steps.
"""

from gqst import config


def get_config() -> config.Config:
    """Returns the experiment, in which `data.root` has to be set."""
    optimizer = config.Optimizer(learning_rate=2e-4, options={"b1": 0.5})
    return config.Config(
        steps=100_000,
        batch_size=1,
        image_size=256,
        checkpoint_every=5_000,
        round_every=2_500,
        log_every=100,
        data=config.choice("pairs", root="pairs"),
        preprocess=config.Preprocess(resize="resize_and_crop", load_size=286),
        generator=config.choice("unet", filters=64, depth=8),
        discriminator=config.choice("patch", filters=64, layers=3),
        conditional=True,
        losses={"adversarial": config.loss(1.0, form="bce"), "l1": config.loss(100.0)},
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
    )
