"""Configs: reading, overriding, refusing, writing and comparing."""

import dataclasses
import json
import os

import pytest

from gqst import config, overrides, types


def _refused(assignment: str, name: str = "cyclegan") -> str:
    with pytest.raises(types.InputError) as caught:
        overrides.override(overrides.load(name), [assignment])
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(overrides.bundled()))
def test_bundled_configs_survive_json(name):
    cfg = overrides.load(name)
    assert cfg == overrides.load(overrides.bundled()[name])
    read = overrides.from_json(overrides.to_json(cfg), origin="here")
    assert overrides.differences(cfg, read, ignore=()) == {}
    assert overrides.to_json(read) == overrides.to_json(cfg)


def test_json_spells_every_key_out():
    tree = json.loads(overrides.to_json(config.Config()))
    assert set(tree) == {field.name for field in dataclasses.fields(config.Config)}
    assert tree["losses"]["cycle"] == {"term": None, "weight": 10.0, "options": {}}


def test_json_that_cannot_be_read():
    with pytest.raises(types.InputError, match=r"^run/config\.json is not JSON"):
        overrides.from_json("{", origin="run/config.json")
    with pytest.raises(types.InputError, match=r"^run/config\.json: unknown config key 'stepz'"):
        overrides.from_json('{"stepz": 3}', origin="run/config.json")


def test_the_config_of_a_run_is_a_config(tmp_path):
    cfg = overrides.load("cyclegan", "steps=7")
    (tmp_path / "config.json").write_text(overrides.to_json(cfg))
    assert overrides.load(tmp_path / "config.json") == cfg
    assert overrides.load(tmp_path / "config.json", "steps=8").steps == 8


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.Config().steps = 3


def test_overrides_are_applied_in_order():
    cfg = overrides.override(
        overrides.load("cyclegan"),
        [
            "steps=30",
            "steps = 40",
            "preprocess.flip=false",
            "preprocess.random_scale=(0.5, 2)",
            "generator.filters=8",
            "discriminator=multiscale",
            "discriminator.scales=2",
            "generator_optimizer.options.b2=0.9",
            "keep_every=None",
            "data=folders",
            "data.root=a=b",
        ],
    )
    assert cfg.steps == 40
    assert cfg.preprocess == config.Preprocess(flip=False, load_size=286, random_scale=(0.5, 2.0))
    assert cfg.generator == config.choice("resnet", filters=8, blocks=9)
    assert cfg.discriminator == config.choice("multiscale", scales=2)  # the patch's options are gone
    assert cfg.generator_optimizer.options == {"b1": 0.5, "b2": 0.9}
    assert cfg.discriminator_optimizer.options == {"b1": 0.5}
    assert cfg.keep_every is None
    assert cfg.data == config.choice("folders", root="a=b")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("none", "none"),
        ("None", None),
        ("null", None),
        ("true", True),
        ("True", True),
        ("False", False),
        ("1e-3", 1e-3),
        ("3", 3),
        ("'3'", "3"),
        ("[1, 2]", [1, 2]),
        ("a b", "a b"),
        ("C:\\photos", "C:\\photos"),
        ("/a/b", "/a/b"),
        ("", ""),
    ],
)
def test_values_are_literals_or_text(text, value):
    cfg = overrides.override(overrides.load("cyclegan"), [f"generator.norm={text}"])
    assert cfg.generator.options["norm"] == value
    assert type(cfg.generator.options["norm"]) is type(value)


def test_losses_are_weighed_removed_and_added():
    cfg = overrides.override(
        overrides.load("cyclegan"),
        [
            "losses.cycle=off",
            "losses.identity=None",
            "losses.adversarial.form=hinge",
            "losses.adversarial.weight=0.5",
            "losses.total_variation=0.25",
            "losses.smooth.term=total_variation",
            "losses.smooth=((0, 0), (100, 2.5))",
        ],
    )
    assert cfg.losses == {
        "adversarial": config.loss(0.5, form="hinge"),
        "total_variation": config.loss(0.25),
        "smooth": config.loss(((0, 0.0), (100, 2.5)), term="total_variation"),
    }


@pytest.mark.parametrize(
    ("weight", "on"),
    [(1, True), (0, False), (0.0, False), (((0, 0.0), (9, 1.0)), True), (((0, 0.0), (9, 0.0)), False)],
)
def test_a_loss_is_on_if_any_weight_is(weight, on):
    assert config.loss(weight).on is on


@pytest.mark.parametrize("knots", [(), ((10, 1.0), (0, 2.0)), ((5, 1.0), (5, 2.0))])
def test_knots_have_to_rise(knots):
    message = _refused(f"losses.cycle={knots}")
    assert "'losses.cycle'" in message and "rise" in message


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("batchsize=3", ["'batchsize'", "did you mean 'batch_size'?", "image_size"]),
        ("preprocess.load=3", ["'preprocess.load'", "did you mean 'load_size'?", "random_scale"]),
        ("generator_optimizer.lr=1", ["'generator_optimizer.lr'", "learning_rate"]),
        ("losses.cycel=off", ["'losses.cycel'", "did you mean 'cycle'?", "adversarial"]),
        ("steps.x=3", ["'steps.x'", "batch_size"]),
        ("=3", ["''"]),
    ],
)
def test_unknown_keys_name_those_there_are(assignment, words):
    message = _refused(assignment)
    assert message.startswith("unknown config key")
    assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("steps", ["'steps'", "key=value"]),
        ("batch_size=0", ["'batch_size'", "0", "greater than 0"]),
        ("batch_size=two", ["'batch_size'", "'two'", "integer"]),
        ("batch_size=1.5", ["'batch_size'", "1.5", "integer"]),
        ("image_size=8", ["'image_size'", "8", "16"]),
        ("seed=-1", ["'seed'", "-1"]),
        ("ema_decay=1", ["'ema_decay'", "1", "less than 1"]),
        ("compute_dtype=float16", ["'compute_dtype'", "'float16'", "'bfloat16'"]),
        ("preprocess.resize=crop", ["'preprocess.resize'", "'crop'", "'scale_width'"]),
        ("generator_optimizer.learning_rate=1e400", ["learning_rate'", "finite"]),
        ("generator_optimizer.name=adem", ["'generator_optimizer.name'", "'adem'", "'adam'"]),
        ("generator_optimizer=adam", ["'generator_optimizer'", "'adam'"]),
        ("losses.cycle=-1", ["'losses.cycle.weight'", "-1"]),
        ("losses.cycle=much", ["'losses.cycle.weight'", "'much'"]),
        ("losses=off", ["'losses'", "losses.LABEL"]),
        ("losses.a.b.c=1", ["'losses.a.b.c'", "losses.LABEL.OPTION"]),
        ("generator.a.b=1", ["'generator.a.b'", "generator.OPTION"]),
        ("generator=3", ["'generator.name'", "3"]),
        ("validation=1.5", ["'validation'", "1.5"]),
        ("steps_per_dispatch=3", ["steps=200000", "steps_per_dispatch=3"]),
    ],
)
def test_values_that_do_not_fit_are_named(assignment, words):
    message = _refused(assignment)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_differences_leave_out_what_may_change():
    one = overrides.load("cyclegan")
    other = overrides.override(one, ["steps=40", "log_every=5", "generator.filters=8", "losses.cycle=off", "seed=3"])
    changed = overrides.differences(one, other)
    assert changed == {
        "generator.options.filters": (64, 8),
        "losses.cycle.term": (None, None),
        "losses.cycle.weight": (10.0, None),
        "seed": (0, 3),
    } or changed == {
        "generator.options.filters": (64, 8),
        "losses.cycle.weight": (10.0, None),
        "seed": (0, 3),
    }
    assert list(overrides.differences(one, other, ignore=["generator", "losses", "seed"])) == [
        "log_every",
        "steps",
    ]
    assert overrides.differences(one, one) == {}


def _file(tmp_path, text: str) -> str:
    path = tmp_path / "mine.py"
    path.write_text(text)
    return str(path)


def test_a_file_that_builds_on_another(tmp_path):
    text = (
        "from gqst import overrides\n"
        "def get_config():\n"
        "    return overrides.override(overrides.load('quickstart'), ['steps=40'])\n"
    )
    cfg = overrides.load(_file(tmp_path, text))
    assert overrides.differences(cfg, overrides.load("quickstart"), ignore=()) == {
        "steps": (40, overrides.load("quickstart").steps)
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def get_config(:", ["cannot be run", "SyntaxError"]),
        ("import no_such_module", ["cannot be run", "ModuleNotFoundError", "no_such_module"]),
        ("x = 1", ["cannot be run", "AttributeError", "get_config"]),
        ("def get_config(): return 3", ["returned 3", "not a gqst Config"]),
        (
            "from gqst import config\ndef get_config(): return config.Config(batchsize=3)",
            ["unknown config key 'batchsize'"],
        ),
        (
            "from gqst import config\ndef get_config(): return config.Config(steps=0)",
            ["config key 'steps' is 0"],
        ),
        (
            "from gqst import config, overrides\nget_config = lambda: overrides.override(config.Config(), ['stepz=3'])",
            ["unknown config key 'stepz'", "did you mean 'steps'?"],
        ),
    ],
)
def test_files_that_are_no_config(tmp_path, text, words):
    with pytest.raises(types.InputError) as caught:
        overrides.load(_file(tmp_path, text))
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_missing_file_lists_the_bundled_ones():
    with pytest.raises(types.InputError) as caught:
        overrides.load("quickstrat")
    message = str(caught.value)
    assert "no config file 'quickstrat'" in message
    assert all(name in message for name in ("cyclegan", "pix2pix", "quickstart", "style_image"))


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "2024", "007", "1e3", "1_000", "0x10", "1.50"])
def test_folders_that_look_like_numbers_stay_text(name):
    cfg = overrides.override(overrides.load("quickstart"), ["data=folders", f"data.root={name}"])
    assert cfg.data.options == {"root": name}
    overrides.to_json(cfg).encode()
    assert overrides.from_json(overrides.to_json(cfg), origin="here") == cfg


def test_other_values_that_look_like_numbers_are_numbers():
    changes = ["steps=20", "generator.filters=8", "data=clean", "data.root=7", "data.jpeg=(10, 20)"]
    cfg = overrides.override(overrides.load("quickstart"), changes)
    assert cfg.steps == 20 and cfg.generator.options["filters"] == 8
    assert cfg.data.options == {"root": "7", "jpeg": (10, 20)}
