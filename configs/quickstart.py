"""Photographs to ukiyo-e on the bundled pictures: a first run in minutes, on two CPU cores.

Command: `python -m gqst.train --config configs/quickstart.py --workdir runs/demo`.

Cost: 600 steps at 64 px, batch 4, a generator of 0.27 M parameters: about three minutes. Expected: the cream paper,
Prussian blue and teal of the prints, and a scene as sharp as before (contrast_structure to the source about 0.85).
"""

from gqst import config


def get_config() -> config.Config:
    """Returns the quickstart experiment."""
    return config.Config(
        steps=600,
        batch_size=4,
        image_size=64,
        checkpoint_every=200,
        round_every=100,
        log_every=20,
        data=config.choice("demo", source="photos", target="ukiyoe"),
        # Crops from whole scenes to details, so that pictures of any size look familiar.
        preprocess=config.Preprocess(load_size=96, random_scale=(0.8, 4.0)),
        validation=2,
        # Without a norm, pictures of any size are treated like the crops, and no blots of light appear.
        generator=config.choice("resnet", filters=16, blocks=3, norm="none", start_at_identity=True),
        # Small patches at three scales judge colours and strokes, not content.
        discriminator=config.choice("multiscale", scales=3, filters=32, layers=1, norm="none", spectral_norm=True),
        losses={
            "adversarial": config.loss(1.5, form="hinge"),
            "identity": config.loss(1.0),
            "style": config.loss(0.1, distance="l2", layers=("relu1_1", "relu2_1", "relu3_1")),
            "structure": config.loss(5.0, term="quality", metric="contrast_structure", pair="fake_source", floor=0.7),
        },
        # From a start at the identity gradients grow, and Adam has to forget the small ones soon.
        generator_optimizer=config.Optimizer(
            learning_rate=2.5e-4, schedule="cosine", warmup_steps=50, options={"b2": 0.99}
        ),
        discriminator_optimizer=config.Optimizer(learning_rate=2.5e-4),
        ema_decay=0.995,
    )
