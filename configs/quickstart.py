"""Photographs to ukiyo-e on the bundled pictures: a first run in minutes, on two CPU cores.

python -m gqst.train --config configs/quickstart.py --workdir runs/demo
"""

from gqst import config


def get_config() -> config.Config:
    """The quickstart experiment."""
    return config.Config(
        steps=600,
        batch_size=4,
        image_size=64,
        checkpoint_every=100,
        round_every=100,
        log_every=20,
        data=config.choice("demo", source="photos", target="ukiyoe"),
        preprocess=config.Preprocess(load_size=96, random_scale=(0.8, 1.4)),
        validation=2,
        generator=config.choice("resnet", filters=16, blocks=3, start_at_identity=True),
        discriminator=config.choice("patch", filters=32, layers=2, norm="none", spectral_norm=True),
        losses={
            "adversarial": config.loss(1.0, form="hinge"),
            "structure": config.loss(5.0, term="quality", metric="contrast_structure", pair="fake_source", floor=0.75),
        },
        generator_optimizer=config.Optimizer(learning_rate=5e-4),
        discriminator_optimizer=config.Optimizer(learning_rate=1e-3),
        ema_decay=0.98,
    )
