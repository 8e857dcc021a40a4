"""The style of a single painting for a folder of photographs.

Command: `python -m gqst.train --config style_image --workdir runs/mine --set data.image=PAINTING data.photos=FOLDER`.

There is no discriminator: Gram matrices of VGG-16, over crops of the painting at two sizes, are all that a single
picture has to tell, and cost a third of the time. Photographs and painting are cropped at the size at which they are
used, with the shorter side at 290 to 420 px, so that strokes are as wide in the results as in the painting.

Cost: 1,300 steps at 256 px, batch 8, a generator of 0.4 M parameters: half a minute on an H100 after compiling. Two CPU
cores need hours for that; there, `quickstart` with `data.image=PAINTING data.photos=FOLDER` takes a cheaper step, and
starts with the generator for any painting.

The styles that come with gqst were made with these settings (docs/make_bundled_styles.py).
"""

from gqst import config


def get_config() -> config.Config:
    """Returns the experiment, with a bundled painting and the bundled photographs unless others are set."""
    return config.Config(
        steps=1_300,
        batch_size=8,
        image_size=256,
        checkpoint_every=100,
        round_every=200,
        log_every=20,
        data=config.choice(
            "style_image",
            image="demo:styles/village_street_in_auvers_van_gogh_1890.jpg",
            photos="demo:photos/train",
        ),
        preprocess=config.Preprocess(load_size=320, random_scale=(0.9, 1.3)),
        # Whole pictures of that size, which stamps and empty skies cannot hide in.
        round_size=384,
        round_pictures=16,
        metrics=("lpips", "content_retention", "style_gain", "repetition"),
        generator=config.choice("resnet", filters=16, blocks=5, norm="instance"),
        losses={
            "style": config.loss(1.0, form="gram", distance="relative", halvings=(0, 1)),
            "content": config.loss(0.05, normalize=True),
            "structure": config.loss(5.0, term="quality", metric="contrast_structure", pair="fake_source", floor=0.52),
        },
        generator_optimizer=config.Optimizer(
            learning_rate=1.5e-3, schedule="cosine", warmup_steps=50, options={"b2": 0.99}
        ),
        ema_decay=0.99,
    )
