"""Unpaired one-way translation by contrast between patches: the published setting of CUT (Park et al. 2020, section 4).

Command: `python -m gqst.train --config cut --workdir runs/mine --set data=folders data.root=FOLDER`, where FOLDER has
trainA and trainB, or `--set data=tfds data.dataset=cycle_gan/horse2zebra`.

Cost: 400,000 steps at 256 px, batch 1, a ResNet generator of 11.4 M parameters with heads of 0.6 M, a discriminator of
2.8 M; meant for a GPU or TPU. Expected: results like CycleGAN's at half the memory and time per step.
"""

from gqst import config


def get_config() -> config.Config:
    """Returns the experiment, with the bundled pictures unless another data source is set."""
    optimizer = config.Optimizer(learning_rate=2e-4, schedule="linear_decay", options={"b1": 0.5})
    return config.Config(
        steps=400_000,
        batch_size=1,
        image_size=256,
        checkpoint_every=5_000,
        round_every=2_500,
        log_every=100,
        preprocess=config.Preprocess(resize="stretch_and_crop", load_size=286),
        generator=config.choice("resnet", filters=64, blocks=9),
        discriminator=config.choice("patch", filters=64, layers=3),
        losses={
            "adversarial": config.loss(1.0, form="lsgan"),
            "patch_nce": config.loss(0.5),
            # PatchNCE of pictures that already belong to the style domain.
            "identity_nce": config.loss(0.5, term="patch_nce", pair="identity_target"),
        },
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
    )
