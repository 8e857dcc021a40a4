"""Unpaired translation in both directions: the published setting of CycleGAN (Zhu et al. 2017, section 7.1).

Command: `python -m gqst.train --config cyclegan --workdir runs/mine --set data=folders data.root=FOLDER`, where
FOLDER has trainA and trainB, or `--set data=tfds data.dataset=cycle_gan/horse2zebra`.

Cost: 200,000 steps at 256 px, batch 1, ResNet generators of 11.4 M and discriminators of 2.8 M parameters; meant for a
GPU or TPU. Expected: colours and textures of the target domain after some ten thousand steps.
"""

from gqst import config


def get_config() -> config.Config:
    """Returns the experiment, with the bundled pictures unless another data source is set."""
    optimizer = config.Optimizer(learning_rate=2e-4, schedule="linear_decay", options={"b1": 0.5})
    return config.Config(
        steps=200_000,
        batch_size=1,
        image_size=256,
        checkpoint_every=5_000,
        round_every=2_500,
        log_every=100,
        preprocess=config.Preprocess(resize="resize_and_crop", load_size=286),
        generator=config.choice("resnet", filters=64, blocks=9),
        discriminator=config.choice("patch", filters=64, layers=3),
        losses={
            "adversarial": config.loss(1.0, form="lsgan"),
            "cycle": config.loss(10.0),
            "identity": config.loss(5.0),
        },
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
        pool_size=50,
    )
