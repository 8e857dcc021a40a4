"""Folders packed into records, killed and gone on."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from gqst import pack as command
from gqst import types
from gqst.data import packing, records
from gqst.pictures import decode
from tests import conftest


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Seven pictures of several sizes and formats, one nested, and one that cannot be read."""
    rng = np.random.default_rng(0)
    root = tmp_path / "pictures"
    (root / "deep").mkdir(parents=True)
    for number in range(7):
        pixels = rng.integers(0, 256, (20 + number, 31, 3), np.uint8)
        name = f"deep/{number}.png" if number == 3 else f"{number}.{'jpg' if number % 2 else 'png'}"
        Image.fromarray(pixels).save(root / name)
    (root / "4.5.png").write_bytes(b"no picture")
    return root


def _contents(target: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(target.iterdir())}


def test_every_picture_comes_back_as_it_was(folder: pathlib.Path, tmp_path: pathlib.Path):
    packed = packing.pack(folder, tmp_path / "out", shard=3, workers=1)
    assert packed.count == 7 and list(packed.left_out) == ["4.5.png"]
    read = records.Records(tmp_path / "out", option="source")
    names = [read.name(index) for index in range(len(read))]
    assert names == ["0.png", "1.jpg", "2.png", "4.png", "5.jpg", "6.png", "deep/3.png"]
    for index, name in enumerate(names):
        expected = decode.decode(folder / name)
        np.testing.assert_array_equal(np.asarray(read.load(index)), np.asarray(expected))
    sizes, hashes = (np.load(tmp_path / "out" / name) for name in (records.SIZES, records.HASHES))
    assert sizes.tolist() == [[31, 20], [31, 21], [31, 22], [31, 24], [31, 25], [31, 26], [31, 23]]
    assert [row.tobytes() for row in hashes] == [
        hashlib.sha256((folder / name).read_bytes()).digest() for name in names
    ]


def test_large_pictures_are_scaled_down(folder: pathlib.Path, tmp_path: pathlib.Path):
    packing.pack(folder, tmp_path / "out", size=22, workers=1)
    read = records.Records(tmp_path / "out", option="source")
    sizes = {read.name(index): read.load(index).size for index in range(len(read))}
    assert sizes["2.png"] == (31, 22) and sizes["0.png"] == (31, 20)
    assert sizes["6.png"] == (round(31 * 22 / 26), 22)
    scaled = decode.decode(folder / "6.png").resize((26, 22), Image.Resampling.LANCZOS)
    # Noise is hardest on JPEG.
    last = next(index for index in range(len(read)) if read.name(index) == "6.png")
    assert np.abs(np.asarray(read.load(last), np.float32) - np.asarray(scaled, np.float32)).mean() < 8


def test_what_is_packed_is_not_packed_again(folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch):
    first = packing.pack(folder, tmp_path / "out", shard=3, workers=1)
    monkeypatch.setattr(packing.concurrent.futures, "ProcessPoolExecutor", None)
    assert packing.pack(folder, tmp_path / "out", shard=3) == first


def test_other_pictures_or_sizes_are_refused(folder: pathlib.Path, tmp_path: pathlib.Path):
    packing.pack(folder, tmp_path / "out", workers=1)
    with pytest.raises(types.InputError, match="records of other pictures"):
        packing.pack(folder, tmp_path / "out", size=16)
    (folder / "0.png").rename(folder / "new.png")
    with pytest.raises(types.InputError, match="records of other pictures"):
        packing.pack(folder, tmp_path / "out")
    with pytest.raises(types.InputError, match="is not empty"):
        packing.pack(folder, folder)


def test_a_folder_without_a_readable_picture_is_refused(tmp_path: pathlib.Path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/x.png").write_bytes(b"no picture")
    with pytest.raises(types.InputError, match=r"none of the pictures can be read: .*x\.png"):
        packing.pack(tmp_path / "bad", tmp_path / "out", workers=1)


@pytest.mark.slow
def test_a_kill_loses_no_finished_shard_and_the_result_is_the_same(folder: pathlib.Path, tmp_path: pathlib.Path):
    big = tmp_path / "big"
    big.mkdir()
    content = (folder / "6.png").read_bytes()
    for number in range(4_000):
        (big / f"{number:05d}.png").write_bytes(content)
    code = f"from gqst.data import packing; packing.pack({str(big)!r}, __import__('pathlib').Path('out'), shard=100)"
    program = tmp_path / "program.py"
    program.write_text(f"if __name__ == '__main__':\n    {code}\n")
    environment = {**os.environ, "PYTHONPATH": str(conftest.ROOT)}
    start = [sys.executable, str(program)]
    with subprocess.Popen(start, cwd=tmp_path, env=environment, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while len(list((tmp_path / "out").glob("*.npz"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
        process.wait()
        # The workers, which are of its group, end by themselves.
        with pytest.raises(ProcessLookupError):
            while time.monotonic() < deadline:
                os.killpg(process.pid, 0)
                time.sleep(0.05)
    finished = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.npz")}
    assert 3 <= len(finished) < 40 and not (tmp_path / "out" / records.INDEX).exists()
    with pytest.raises(types.InputError, match="packing has not ended"):
        records.Records(tmp_path / "out", option="source")
    shards = {name.removesuffix(".npz") for name in finished}
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in shards}
    subprocess.run(start, cwd=tmp_path, env=environment, check=True)
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in shards} == before
    packing.pack(big, tmp_path / "whole", shard=100)
    assert _contents(tmp_path / "out") == _contents(tmp_path / "whole")


def test_the_command_packs_the_folders_of_a_data_set(folder: pathlib.Path, tmp_path: pathlib.Path, capsys):
    for name in ("trainA", "trainB"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "mine" / name / "x.png")
    command.main([str(tmp_path / "mine"), str(folder), str(tmp_path / "packed"), "--workers", "1"])
    told = capsys.readouterr().out
    assert f"left out: {folder / '4.5.png'}: it is not a picture" in told and "trainB: 1 packed, 0.0 MiB" in told
    assert sorted(path.name for path in (tmp_path / "packed").iterdir()) == ["pictures", "trainA", "trainB"]
    with pytest.raises(types.InputError, match="several folders are called pictures"):
        command.main([str(folder), str(folder), str(tmp_path / "twice")])


@pytest.mark.parametrize("name", [records.INDEX, records.NAMES, "pictures-00000.array_record"])
def test_a_damaged_file_is_one_sentence(folder: pathlib.Path, tmp_path: pathlib.Path, name: str):
    packing.pack(folder, tmp_path / "out", workers=1)
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises((types.InputError, decode.UnreadableError), match=r"is damaged|out/0\.png"):
        records.Records(tmp_path / "out", option="source").load(0)


def test_an_index_of_a_later_format_is_refused(folder: pathlib.Path, tmp_path: pathlib.Path):
    packing.pack(folder, tmp_path / "out", workers=1)
    path = tmp_path / "out" / records.INDEX
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(types.InputError, match="newer gqst"):
        records.Records(tmp_path / "out", option="source")
