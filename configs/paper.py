"""The setting of the paper "Image style transfer based on generative adversarial networks and quality assessment".

ResNet-50 for both networks (the generator decodes back to a picture, the discriminator returns a single logit), BCE,
weights of 0.5, 0.1 and 0.1 for the adversarial, content and style terms, "perceptual loss by the discriminator", AdamW
at 2e-4 for both networks, batch 64. The quality term contributes to the gradient, as the paper's title promises.

Command: `python -m gqst.train --config paper --workdir runs/mine --set data=folders data.root=FOLDER`, where FOLDER has
trainA and trainB. With pretrained weights:
`generator.weights=resnet50.safetensors discriminator.weights=resnet50.safetensors`.

Cost: 10,000 steps at 224 px (100 epochs of some 6,400 pictures), batch 64, a generator of 38 M and a discriminator of
24 M parameters; meant for several TPU cores or GPUs. Without the floor on structure, as in the paper, the scene blurs.
"""

from gqst import config


def get_config() -> config.Config:
    """Returns the experiment, with the bundled pictures unless another data source is set."""
    optimizer = config.Optimizer(name="adamw", learning_rate=2e-4, options={"b1": 0.9})
    return config.Config(
        steps=10_000,
        batch_size=64,
        image_size=224,
        checkpoint_every=1_000,
        round_every=500,
        log_every=50,
        preprocess=config.Preprocess(load_size=256),
        generator=config.choice("resnet50", filters=64, norm="batch"),
        discriminator=config.choice("resnet50", filters=64, norm="batch"),
        losses={
            "adversarial": config.loss(0.5, form="bce"),
            "discriminator_perceptual": config.loss(1.0),
            "content": config.loss(0.1),
            "style": config.loss(0.1, form="gram"),
            "structure": config.loss(1.0, term="quality", metric="contrast_structure", pair="fake_source", floor=0.6),
        },
        generator_optimizer=optimizer,
        discriminator_optimizer=optimizer,
    )
