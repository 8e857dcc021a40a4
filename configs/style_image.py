"""The style of a single painting for a folder of photographs.

Command: `python -m gqst.train --config style_image --workdir runs/mine --set data.image=PAINTING data.photos=FOLDER`.

Cost: 20,000 steps at 128 px, batch 8, a generator of 1.7 M and a discriminator of 1.1 M parameters; meant for a GPU.
Expected: the painting's palette and strokes within a thousand steps; the quality floor keeps the photographs' edges.
"""

from gqst import config


def get_config() -> config.Config:
    """Returns the experiment, with a bundled painting and the bundled photographs unless others are set."""
    return config.Config(
        steps=20_000,
        batch_size=8,
        image_size=128,
        checkpoint_every=1_000,
        round_every=500,
        log_every=50,
        data=config.choice(
            "style_image",
            image="demo:styles/village_street_in_auvers_van_gogh_1890.jpg",
            photos="demo:photos/train",
        ),
        preprocess=config.Preprocess(load_size=192, random_scale=(0.8, 1.5)),
        generator=config.choice("resnet", filters=32, blocks=5, norm="none", start_at_identity=True),
        # Crops of one painting are few, and features of VGG-16 represent strokes from the start.
        discriminator=config.choice("projected", network="vgg16", filters=64),
        losses={
            "adversarial": config.loss(1.0, form="hinge"),
            "content": config.loss(0.1, normalize=True),
            "style": config.loss(0.05, distance="l2"),
            "structure": config.loss(5.0, term="quality", metric="contrast_structure", pair="fake_source", floor=0.6),
        },
        generator_optimizer=config.Optimizer(learning_rate=5e-4, schedule="cosine", warmup_steps=50),
        discriminator_optimizer=config.Optimizer(learning_rate=5e-4),
    )
