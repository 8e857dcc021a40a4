"""Exit codes, flags and caches that the entry points share."""

import argparse
import pathlib
import re

import jax
import pytest
from PIL import Image

from gqst import cli, types


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (types.InputError("no such key"), 2, "gqst: error: no such key\n"),
        (types.RunError("the loss is not finite"), 1, "gqst: error: the loss is not finite\n"),
        (FileNotFoundError(2, "No such file", "a.npz"), 2, "gqst: error: a.npz: No such file\n"),
        (KeyboardInterrupt(), 130, "gqst: error: interrupted\n"),
    ],
)
def test_errors_end_in_a_sentence_and_a_code(capsys, error, code, sentence):
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        cli.run(fail)
    assert end.value.code == code and capsys.readouterr().err == sentence


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1)])
def test_the_code_is_what_the_entry_point_returns(returned, code):
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: returned)
    assert end.value.code == code


@pytest.mark.parametrize(("text", "value"), [("best", "best"), ("last", "last"), ("70", 70)])
def test_checkpoints_are_named_or_numbered(text, value):
    parser = argparse.ArgumentParser()
    cli.add_checkpoint_flag(parser)
    assert parser.parse_args(["--checkpoint", text]).checkpoint == value
    assert parser.parse_args([]).checkpoint == "best"


def test_a_checkpoint_that_is_neither(capsys):
    parser = argparse.ArgumentParser()
    cli.add_checkpoint_flag(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--checkpoint", "first"])
    assert "'first' is not best, last or a step" in capsys.readouterr().err


def test_numbers_of_pixels_and_shares():
    assert cli.pixels("256") == 256 and cli.share("1/4") == (1, 4)
    for parse, wrong in ((cli.pixels, ("0", "-3", "a")), (cli.share, ("4/4", "1", "a/b", "0/0"))):
        for text in wrong:
            with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not"):
                parse(text)


def _group(*flags: str):
    parser = argparse.ArgumentParser()
    cli.add_process_flags(parser)
    return cli.group(parser.parse_args(flags))


def test_processes_that_flags_name():
    assert _group() is None
    group = _group("--coordinator", "a:1", "--processes", "2", "--process", "1", "--wait", "9")
    assert (group.coordinator, group.count, group.index, group.timeout_seconds) == ("a:1", 2, 1, 9)
    assert _group("--distributed").coordinator is None
    with pytest.raises(types.InputError, match="give --coordinator, --processes and --process together"):
        _group("--processes", "2")


def test_compiled_programs_are_cached_unless_the_environment_says_otherwise(monkeypatch):
    updates = {}
    monkeypatch.setattr(jax.config, "update", lambda key, value: updates.update({key: value}))
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    cli.use_compilation_cache()
    assert updates == {}
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    cli.use_compilation_cache()
    assert updates == {
        "jax_compilation_cache_dir": str(pathlib.Path("/cache/gqst/xla")),
        "jax_persistent_cache_min_compile_time_secs": 0.2,
    }


MEMBERS = """
import dataclasses
import jax.numpy as jnp
import gqst

@gqst.metrics.register(name="blackness", better="lower", definition="share of darkness", range=(0.0, 1.0))
def blackness(output, reference):
    return 1.0 - jnp.mean(output, axis=(1, 2, 3))

@gqst.losses.TERMS.register("gloom")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Gloom(gqst.losses.Term):
    goal: float = 0.2

    def __call__(self, context):
        return jnp.abs(jnp.mean(context.fake, axis=(1, 2, 3)) - self.goal)
"""


@pytest.mark.slow
def test_members_from_a_file_are_imported(run, tmp_path):
    """In training, by their names in the config, and in an evaluation of folders."""
    (tmp_path / "mine.py").write_text(MEMBERS)
    changes = ["losses.gloom.goal=0.1", "losses.gloom.weight=3", "metrics=('blackness',)"]
    done = run("gqst.train", "--config", "quickstart", "--import", "mine.py", "--dry-run", "--set", *changes)
    assert done.returncode == 0 and "gloom (generator): weight 3.0; goal=0.1" in done.stdout, done.stderr
    for folder in ("sources", "outputs"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (32, 32), (51, 51, 51)).save(tmp_path / folder / "a.png")
    folders = ["--outputs", "outputs", "--sources", "sources", "--no-baselines"]
    done = run("gqst.evaluate", *folders, "--import", "mine.py")
    assert done.returncode == 0 and re.search(r"blackness - +sources +0\.800", done.stdout), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("gone.py", None, "--import gone.py: FileNotFoundError"),
        ("bad.py", "1 / 0", "--import bad.py: ZeroDivisionError: division by zero"),
        ("no_such_module", None, "--import no_such_module: ModuleNotFoundError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_sentence(tmp_path, monkeypatch, name, text, sentence):
    monkeypatch.chdir(tmp_path)
    if text:
        (tmp_path / name).write_text(text)
    with pytest.raises(types.InputError, match=sentence):
        cli.import_members([name])
