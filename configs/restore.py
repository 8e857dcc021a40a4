"""Restoration from clean pictures alone: random blur, down-scaling, noise and JPEG make the inputs.

Command: `python -m gqst.train --config restore --workdir runs/mine --set data.root=CLEAN`, where CLEAN is a folder of
clean pictures; `data.noise=(0,0.1)` and the like say how bad the inputs are. Pairs of real damage side by side:
`--set data=pairs data.root=FOLDER`.

Cost: 50,000 steps at 128 px, batch 8, a generator of 2.6 M parameters; made for a GPU or TPU. Expected: PSNR and SSIM
of the output above those of the input, which every round reports as psnr_source and ssim_source.
"""

from gqst import config


def get_config() -> config.Config:
    """The experiment; with the bundled photographs until another folder is set."""
    return config.Config(
        steps=50_000,
        batch_size=8,
        image_size=128,
        checkpoint_every=2_500,
        round_every=1_000,
        log_every=50,
        data=config.choice("clean", root="demo:photos/train", test="demo:photos/test"),
        preprocess=config.Preprocess(resize="none", random_scale=(0.5, 1.0)),
        # It starts as the identity: what it learns is the repair.
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
