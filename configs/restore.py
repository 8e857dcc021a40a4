"""Restoration from clean pictures alone: inputs are made by random blur, down-scaling, noise and JPEG compression.

Command: `python -m gqst.train --config restore --workdir runs/mine --set data.root=CLEAN`, where CLEAN is a folder of
clean pictures; options such as `data.noise=(0,0.1)` set the degree of damage. For side-by-side pairs of really damaged
and clean pictures: `--set data=pairs data.root=FOLDER`.

Cost: 50,000 steps at 128 px, batch 8, a generator of 2.6 M parameters; meant for a GPU or TPU. Expected: PSNR and SSIM
of the output above those of the input, which every round reports as psnr_source and ssim_source.
"""

from gqst import config


def get_config() -> config.Config:
    """Returns the experiment, with the bundled photographs unless another folder is set."""
    return config.Config(
        steps=50_000,
        batch_size=8,
        image_size=128,
        checkpoint_every=2_500,
        round_every=1_000,
        log_every=50,
        data=config.choice("clean", root="demo:photos/train", test="demo:photos/test"),
        preprocess=config.Preprocess(resize="none", random_scale=(0.5, 1.0)),
        # Starting at the identity, the generator has only the repair to learn.
        generator=config.choice("resnet", filters=32, blocks=8, norm="none", start_at_identity=True),
        discriminator=config.choice("patch", filters=64, layers=2, norm="none", spectral_norm=True),
        losses={
            "l1": config.loss(10.0),
            "ssim": config.loss(2.0, term="quality", metric="ssim", pair="fake_target"),
            "adversarial": config.loss(0.05, form="hinge"),
        },
        generator_optimizer=config.Optimizer(learning_rate=3e-4, schedule="cosine", warmup_steps=100),
        discriminator_optimizer=config.Optimizer(learning_rate=3e-4),
    )
