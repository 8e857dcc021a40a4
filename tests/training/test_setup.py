"""Set-up of a run: its folder, and its held-out pictures."""

import errno
import fcntl
import json
import signal
import subprocess
import sys

import pytest
from PIL import Image

from gqst import config, overrides, types
from gqst.data import sources
from gqst.runtime import lock
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


HOLD = """
import pathlib, sys, time
from gqst.runtime import lock
with lock.held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path, environment):
    """A process that has the folder `run`."""
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_folder_in_use_is_refused_until_its_process_is_gone(tmp_path, holder):
    cfg = conftest.small("style_image", "steps=1", "generator.filters=4")
    with pytest.raises(types.InputError, match=rf"run is in use by process {holder.pid} on .*: wait for it, stop it"):
        loop.fit(cfg, tmp_path / "run", devices=1, quiet=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    loop.fit(cfg, tmp_path / "run", devices=1, quiet=True)
    loop.fit(cfg, tmp_path / "run", devices=1, quiet=True)  # given up at the end


def test_a_file_system_without_locks_is_one_warning(tmp_path, monkeypatch, caplog):
    def fail(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with lock.held(tmp_path):
        pass
    assert "cannot be locked ([Errno 37] No locks available)" in caplog.text


@pytest.fixture
def moved(tmp_path):
    """A config of pictures in the folder old, which is called new now; and the claimed folder of a run."""
    root = tmp_path / "old"
    for name, count in (("trainA", 5), ("trainB", 4)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (20, 20), (12 * i, 0, 0)).save(root / name / f"{i}.png")
    cfg = overrides.override(conftest.small("style_image"), ["data=folders", f"data.root={root}"])
    (tmp_path / "run").mkdir()
    setup._claim(tmp_path / "run", tmp_path / "run", cfg, sources.fingerprint(sources.load(cfg)))
    root.rename(tmp_path / "new")
    return overrides.override(cfg, [f"data.root={tmp_path / 'new'}"])


def _claim(folder, cfg):
    setup._claim(folder, folder, cfg, sources.fingerprint(sources.load(cfg)))


def test_data_that_moved_is_taken_and_told(tmp_path, moved, caplog):
    _claim(tmp_path / "run", moved)
    [record] = caplog.records
    assert record.getMessage() == (
        f"the data has moved, data.root from {tmp_path / 'old'} to {tmp_path / 'new'}: "
        "the same 4 and 3 pictures by name"
    )
    assert overrides.from_json((tmp_path / "run" / "config.json").read_text(), origin="") == moved


def test_data_that_is_named_in_another_way_is_taken(tmp_path, moved, caplog):
    new = tmp_path / "new"
    changes = ["data.root=None", f"data.source={new / 'trainA'}", f"data.target={new / 'trainB'}"]
    _claim(tmp_path / "run", overrides.override(moved, changes))
    assert "the data has moved, data.root from" in caplog.text and "to None" in caplog.text


def test_other_data_is_refused(tmp_path, moved):
    (tmp_path / "new" / "trainA" / "2.png").rename(tmp_path / "new" / "trainA" / "7.png")
    with pytest.raises(types.InputError, match=r"holds a run of other data: data.root from .* does not lead to"):
        _claim(tmp_path / "run", moved)


def test_of_an_earlier_run_only_the_numbers_are_compared(tmp_path, moved, caplog):
    (tmp_path / "run" / "data.json").unlink()
    note = tmp_path / "run" / "checkpoints" / "10" / "_CHECKPOINT_METADATA"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"custom_metadata": {"note": {"data": {"step": 10, "pictures": [4, 3]}}}}))
    _claim(tmp_path / "run", moved)
    assert "only the numbers of pictures could be compared" in caplog.text
    (tmp_path / "run" / "data.json").unlink()
    note.write_text(note.read_text().replace("[4, 3]", "[4, 4]"))
    (tmp_path / "new").rename(tmp_path / "newer")
    newer = overrides.override(moved, [f"data.root={tmp_path / 'newer'}"])
    with pytest.raises(types.InputError, match="holds a run of other data"):
        _claim(tmp_path / "run", newer)


def test_a_run_whose_data_is_gone_says_how_to_go_on(tmp_path, moved):
    old = overrides.override(moved, [f"data.root={tmp_path / 'old'}"])
    with pytest.raises(types.InputError, match=r"there is no folder .*; if the data has moved, give its new place"):
        loop.fit(old, tmp_path / "run", devices=1, quiet=True)
