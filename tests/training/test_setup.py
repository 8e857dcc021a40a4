"""Set-up of a run: its folder, and its held-out pictures."""

import pytest
from PIL import Image

from gqst import config, overrides
from gqst.data import sources
from gqst.training import loop, setup
from tests import conftest


@pytest.mark.parametrize(("validation", "targets"), [(3, 20), (12, 12)])
def test_few_held_out_targets_are_joined_by_those_of_training(tmp_path, validation, targets):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for i in range(20):
            Image.new("RGB", (20, 20), (12 * i, 0, 0)).save(tmp_path / folder / f"{i:02}.png")
    choice = config.choice("folders", source=str(tmp_path / "a"), target=str(tmp_path / "b"))
    cfg = config.Config(image_size=16, data=choice, validation=validation)
    dataset = sources.build(cfg.data, validation=cfg.validation)
    pictures = setup.held_out(dataset, cfg)
    assert {name: len(x) for name, x in pictures.items()} == {"source": validation, "target": targets}
    trained = {dataset.train.source.load(i).getpixel((0, 0))[0] for i in range(20 - validation)}
    assert not trained & {round(float(x[0, 0, 0]) * 255) for x in pictures["source"]}


def test_a_workdir_of_another_config_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    cfg = conftest.small("style_image")
    (tmp_path / "run" / "config.json").write_text(overrides.to_json(cfg))
    other = overrides.override(cfg, ["seed=1", "steps=7"])
    with pytest.raises(ValueError, match="holds a run of another config: seed is 0 there and 1 here"):
        loop.fit(other, tmp_path / "run", devices=1, quiet=True)
