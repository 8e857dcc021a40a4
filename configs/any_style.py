"""Any painting at once: one generator that takes the style picture as an input, and how much structure to keep.

Command: `python -m gqst.train --config any_style --workdir runs/any --set data=folders data.root=FOLDER`, where FOLDER
has trainA (photographs) and trainB (paintings, as many and as different as there are).

Every example is a photograph, a painting and a wanted contrast_structure between 0.6 and 0.9: Gram matrices of the
painting's own crop are the style to reach, and too little structure costs ten times as much as too much. Paintings
change their colours from crop to crop, so that palettes are learnt that no painting has.

The generator sees pictures through VGG-16 and has to learn no more than to paint what it sees. That which comes with
gqst began as a decoder of photographs and paintings, then took a thousand steps of two crops of 160 px, half an hour on
two CPU cores, and had its dial set (docs/make_any_style.py has the commands). To apply one of your own:
`python -m gqst.stylize --workdir runs/any --style painting.jpg --input photos --output painted`.
"""

from gqst import config


def get_config() -> config.Config:
    """Returns the experiment, with the bundled pictures unless another data source is set."""
    gram = {"form": "gram", "distance": "symmetric"}
    return config.Config(
        steps=40_000,
        batch_size=8,
        image_size=256,
        checkpoint_every=1_000,
        round_every=1_000,
        log_every=50,
        preprocess=config.Preprocess(load_size=384, random_scale=(0.7, 1.3), recolor_target=0.5),
        round_size=384,
        round_pictures=28,
        validation=28,
        metrics=("style_gain", "repetition"),
        generator=config.choice("any_style"),
        losses={
            "style": config.loss(1.0, layers=("relu1_1", "relu2_1"), halvings=(0, 1), **gram),
            "wide_style": config.loss(1.0, term="style", layers=("relu3_1", "relu4_1"), halvings=(1, 2), **gram),
            "content": config.loss(0.05, normalize=True, halvings=1),
            "asked_structure": config.loss(5.0, above=0.1),
        },
        generator_optimizer=config.Optimizer(
            learning_rate=6e-4, schedule="cosine", warmup_steps=50, clip_norm=3.0, options={"b1": 0.9, "b2": 0.99}
        ),
        ema_decay=0.998,
    )
