"""Paths in buckets, and what is done with them, against servers that speak the protocols of S3 and Google Cloud."""

import errno
import http.server
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from gqst import overrides, pack, storage, stylize, types
from gqst.data import packing, records, sources
from gqst.inference import inputs
from gqst.pictures import decode, files, folders
from gqst.runtime import lock
from tests import conftest

PHOTOS = conftest.ROOT / "gqst/data/demo/photos"


@pytest.fixture(params=["gs", "s3"])
def bucket(request, buckets, tmp_path) -> pathlib.Path:
    """A folder of its own in a bucket."""
    return storage.path(f"{request.param}://runs/{tmp_path.name}")


def _mirror(remote: pathlib.Path) -> storage.Mirror:
    return storage.Mirror(remote, last="END", ignored=".unfinished", wanted=lambda name: name != "own", every=1e9)


class _Failing:
    """A file system that takes no file."""

    def __init__(self, error: Exception):
        self._error = error

    def put_file(self, local, remote):
        raise self._error


def test_paths_on_disk_stay_what_they_are():
    assert storage.path("runs/one") == pathlib.Path("runs/one")
    assert not storage.is_remote(pathlib.Path("gs:/bucket"))
    assert storage.absolute(pathlib.Path("runs")) == pathlib.Path.cwd() / "runs"


def test_other_schemes_are_refused():
    with pytest.raises(types.InputError, match=r"^ftp://host/x: buckets are named gs://... or s3://..., not ftp://$"):
        storage.path("ftp://host/x")


def test_a_missing_package_is_named_with_what_brings_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(types.InputError, match=r's3://b/x needs s3fs: pip install "gqst\[s3\]"'):
        storage.path("s3://b/x")


@pytest.mark.parametrize("switch", [None, "true"])
def test_tensorflow_does_not_take_over_buckets(monkeypatch, switch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: find("json" if name == "tensorflow" else name))
    monkeypatch.delenv("EPATH_USE_TF", raising=False)
    if switch is not None:
        monkeypatch.setenv("EPATH_USE_TF", switch)
    with pytest.raises(types.InputError, match=r"^s3://b/x: TensorFlow is installed, .* set EPATH_USE_TF=false before"):
        storage.path("s3://b/x")
    for switch in ("false", "0", "No"):
        monkeypatch.setenv("EPATH_USE_TF", switch)
        assert storage.is_remote(storage.path("s3://b/x"))


def test_a_path_in_a_bucket_joins_and_is_absolute(bucket):
    assert str(bucket / "a" / "b.png").startswith(f"{str(bucket)[:2]}://runs/")
    assert storage.is_remote(bucket) and storage.absolute(bucket) == bucket


def test_files_are_found_by_relative_path_and_copied(bucket, tmp_path):
    (bucket / "a" / "b.txt").write_text("one")
    (bucket / "c.txt").write_text("three")
    assert storage.find(bucket) == {"a/b.txt": 3, "c.txt": 5}
    assert storage.find(bucket / "a") == {"b.txt": 3}
    assert storage.find(bucket / "absent") == {}
    storage.fetch(bucket, ["a/b.txt"], tmp_path / "copy")
    assert [p.read_text() for p in (tmp_path / "copy").rglob("*.txt")] == ["one"]


def test_a_copy_is_kept_until_the_folder_changes(bucket, tmp_path, monkeypatch):
    def copied(*names):
        copy = storage.Cached(bucket, tmp_path)
        copy.fetch(names)
        return copy.local

    for name in ("a", "b", "c"):
        (bucket / name).write_text("old")
    local = copied("a", "b", "absent")
    assert sorted(p.name for p in local.iterdir()) == ["a", "b"]
    with monkeypatch.context() as patch:
        patch.setattr(storage, "fetch", lambda folder, names, local: pytest.fail(str(names)))
        assert copied("a") == copied("b") == local
    (bucket / "b").write_text("new")
    changed = copied("a", "b")
    assert {p.name: p.read_text() for p in changed.iterdir()} == {"a": "old", "b": "new"}
    assert {p.name: p.read_text() for p in local.iterdir()} == {"a": "old", "b": "old"}


def test_an_output_appears_whole_or_not_at_all(bucket):
    with pytest.raises(RuntimeError), files.atomic(bucket / "x.txt") as part:
        part.write_text("half")
        raise RuntimeError
    assert storage.find(bucket) == {}
    files.write_text(bucket / "x.txt", "whole")
    assert (bucket / "x.txt").read_text() == "whole"


def test_a_mirror_takes_what_is_there_and_copies_what_changes(bucket):
    (bucket / "log").write_text("1\n")
    (bucket / "own").write_text("not mirrored")
    (bucket / "5" / "END").write_text("")
    mirror = _mirror(bucket)
    assert (mirror.local / "log").read_text() == "1\n" and not (mirror.local / "own").exists()
    with (mirror.local / "log").open("a") as file:
        file.write("2\n")
    (mirror.local / "6.unfinished").mkdir()
    (mirror.local / "6.unfinished" / "data").write_text("")
    (mirror.local / ".log.part").write_text("")
    shutil.rmtree(mirror.local / "5")
    mirror.close()
    assert storage.find(bucket) == {"log": 4, "own": 12}
    assert not mirror.local.exists()


def test_a_folder_is_copied_at_once_when_it_is_complete_and_its_end_is_last(bucket, monkeypatch):
    copied = []
    real = storage.filesystem(bucket)

    class Noted:
        def put_file(self, local, remote):
            copied.append(remote.rpartition("/")[2])
            real.put_file(local, remote)

    mirror = _mirror(bucket)
    monkeypatch.setattr(storage, "filesystem", lambda place: Noted())
    (mirror.local / "7").mkdir()
    for name in ("A", "Z", "END"):
        (mirror.local / "7" / name).write_text(name)
    deadline = time.monotonic() + 60
    while not real.exists(f"{bucket}/7/END"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert copied[-1] == "END" and sorted(copied) == ["A", "END", "Z"]
    mirror.close()


def test_what_cannot_be_copied_at_the_end_is_kept(bucket, monkeypatch):
    mirror = _mirror(bucket)
    (mirror.local / "log").write_text("1\n")
    monkeypatch.setattr(storage, "filesystem", lambda place: _Failing(PermissionError("Access Denied")))
    with pytest.raises(types.InputError, match="Access Denied; what could not be copied is in ") as raised:
        mirror.close()
    left = pathlib.Path(str(raised.value).rpartition(" ")[2])
    assert (left / "log").read_text() == "1\n"
    shutil.rmtree(left)


def test_a_second_run_in_the_same_bucket_is_refused(bucket, monkeypatch):
    monkeypatch.setattr(lock, "_EVERY", 0.3)
    monkeypatch.setattr(lock, "_STALE", 30.0)
    with lock.held(bucket):
        with pytest.raises(types.InputError, match=f"is in use by process {os.getpid()} on "), lock.held(bucket):
            pass
        assert list(storage.find(bucket)) == [".lock"]
    assert storage.find(bucket) == {}


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_a_lock_without_a_sign_of_life_is_taken_over(bucket, monkeypatch, how):
    monkeypatch.setattr(lock, "_EVERY", 0.3)
    monkeypatch.setattr(lock, "_STALE", 1.0 if how == "silent" else 1e9)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    holder = {**lock._self(), "process": ended.pid, "id": "0", "beats": 3}
    if how == "silent":
        holder["space"] = "another"
    (bucket / ".lock").write_text(json.dumps(holder))
    with lock.held(bucket):
        assert json.loads((bucket / ".lock").read_text())["process"] == os.getpid()


def test_the_lock_of_a_run_on_disk_that_was_copied_is_taken_over(bucket, monkeypatch):
    monkeypatch.setattr(lock, "_EVERY", 0.3)
    monkeypatch.setattr(lock, "_STALE", 1.0)
    (bucket / ".lock").write_text("process 4711 on laptop\n")
    with lock.held(bucket):
        assert json.loads((bucket / ".lock").read_text())["process"] == os.getpid()


def test_a_lock_that_was_taken_over_is_left_alone_and_ends_the_run(bucket, monkeypatch, caplog):
    monkeypatch.setattr(lock, "_EVERY", 0.3)
    asked = []
    monkeypatch.setattr(lock.os, "kill", lambda process, number: asked.append((process, number)))
    other = {**lock._self(), "process": 1, "host": "new", "id": "1", "beats": 0}
    with lock.held(bucket):
        (bucket / ".lock").write_text(json.dumps(other))
        deadline = time.monotonic() + 30
        while not asked and time.monotonic() < deadline:
            time.sleep(0.05)
    assert asked == [(os.getpid(), signal.SIGTERM)]
    assert f"{bucket} was taken over by process 1 on new: this run stops" in caplog.text
    assert json.loads((bucket / ".lock").read_text()) == other


def test_a_folder_that_is_not_complete_is_not_taken_and_goes(bucket):
    (bucket / "checkpoints" / "20" / "state" / "data").write_text("half")
    (bucket / "checkpoints" / "10" / "END").write_text("")
    mirror = _mirror(bucket)
    assert [p.name for p in (mirror.local / "checkpoints").iterdir()] == ["10"]
    mirror.close()
    assert storage.find(bucket) == {"checkpoints/10/END": 0}


def test_a_bucket_that_is_gone_loses_nothing(bucket, monkeypatch):
    mirror = _mirror(bucket)
    (mirror.local / "log").write_text("1\n")
    gone = _Failing(FileNotFoundError("The specified bucket does not exist"))
    monkeypatch.setattr(storage, "filesystem", lambda place: gone)
    with pytest.raises(types.InputError, match=f"does not exist; what could not be copied is in {mirror.local}"):
        mirror.close()
    shutil.rmtree(mirror.local)


def test_what_is_not_taken_is_told_once(bucket, monkeypatch, caplog):
    mirror = _mirror(bucket)
    (mirror.local / "log").write_text("1\n")
    with monkeypatch.context() as patch:
        patch.setattr(storage, "filesystem", lambda place: _Failing(PermissionError("Access Denied")))
        mirror.try_to_push()
        mirror.try_to_push()
    assert caplog.text.count("does not take files now (Access Denied): trying again") == 1
    mirror.close()
    assert storage.find(bucket) == {"log": 2}


def test_a_folder_goes_by_its_own_name_not_by_a_pattern(bucket):
    for name in ("run[1]/20/END", "run[1]/20/data", "run1/20/END"):
        storage.filesystem(bucket).pipe_file(f"{bucket}/{name}", b"")
    storage.move(bucket / "run[1]" / "20", bucket / "aside", first="END")
    assert sorted(storage.find(bucket)) == ["aside/END", "aside/data", "run1/20/END"]


def test_a_path_that_pathlib_has_mangled_is_refused():
    with pytest.raises(types.InputError, match=r"^gs:/b/run: give a path in a bucket as text"):
        storage.path(pathlib.Path("gs://b/run"))


def test_outputs_never_make_a_bucket(buckets):
    with pytest.raises(FileNotFoundError):
        files.write(storage.path("s3://mistyped/a.png"), files.Picture(np.zeros((4, 4, 3), np.uint8)))
    assert not storage.filesystem("s3://mistyped").exists("mistyped")


def test_pictures_in_a_bucket_are_those_on_disk(bucket):
    here = folders.listing(PHOTOS / "test", option="source")
    for path in here.paths:
        storage.filesystem(bucket).put_file(str(path), f"{bucket}/photos/deep/{path.name}")
    (bucket / "photos" / ".hidden.jpg").write_text("")
    (bucket / "photos" / "raw.dng").write_text("")
    (bucket / "photos" / "bad.png").write_text("no picture")
    there = folders.listing(str(bucket / "photos"), option="source")
    assert [there.name(i) for i in range(len(there))] == ["bad.png", *(f"deep/{p.name}" for p in here.paths)]
    assert [len(paths) for paths in there.left_out.values()] == [1]
    for index in range(len(here)):
        np.testing.assert_array_equal(np.asarray(there.load(index + 1)), np.asarray(here.load(index)))
    with pytest.raises(decode.UnreadableError, match=f"{bucket}/photos/bad.png: it is not a picture"):
        there.load(0)
    cfg = overrides.load("cyclegan", "data=folders", f"data.source={bucket}/photos", f"data.target={PHOTOS}/test")
    split = sources.load(cfg)
    held_out = split.validation.sizes if split.validation else (0, 0)
    assert tuple(np.add(split.train.sizes, held_out)) == (len(there), len(here))
    with pytest.raises(types.InputError, match=f"there is no folder {bucket}/absent"):
        folders.listing(str(bucket / "absent"), option="source")


def test_packing_into_a_bucket_goes_on_and_shards_are_copied_once(bucket, tmp_path, monkeypatch):
    def unfinished(*args):
        raise KeyboardInterrupt

    packing.pack(PHOTOS / "test", tmp_path / "packed", shard=2, workers=1)
    with monkeypatch.context() as patch:
        patch.setattr(packing, "_join", unfinished)
        with pytest.raises(KeyboardInterrupt):
            packing.pack(PHOTOS / "test", bucket, shard=2, workers=1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(types.InputError, match="packing has not ended"):
        records.Records(bucket, option="root")
    (bucket / f"{records.shard_name(0)}.npz").unlink()
    (bucket / records.shard_name(1)).write_bytes(b"kept")
    packing.pack(PHOTOS / "test", bucket, shard=2, workers=1)
    # What was finished is not written again.
    assert (bucket / records.shard_name(1)).read_bytes() == b"kept"
    names = sorted(path.name for path in (tmp_path / "packed").iterdir())
    storage.filesystem(bucket).put_file(
        str(tmp_path / "packed" / records.shard_name(1)), f"{bucket / records.shard_name(1)}"
    )
    assert {name: (bucket / name).read_bytes() for name in storage.find(bucket)} == {
        name: (tmp_path / "packed" / name).read_bytes() for name in names
    }
    here, there = (records.Records(root, option="root") for root in (tmp_path / "packed", bucket))
    assert [there.name(i) for i in range(len(there))] == [here.name(i) for i in range(len(here))]
    assert not list((tmp_path / "cache").rglob("*.array_record"))
    np.testing.assert_array_equal(np.asarray(there.load(2)), np.asarray(here.load(2)))
    assert [path.name for path in (tmp_path / "cache").rglob("*.array_record")] == [records.shard_name(1)]
    monkeypatch.setattr(storage, "fetch", lambda folder, names, local: pytest.fail(str(names)))
    np.testing.assert_array_equal(np.asarray(there.load(3)), np.asarray(here.load(3)))
    records.Records(bucket, option="root").load(2)


def test_a_picture_that_a_bucket_does_not_give_ends_packing(bucket, tmp_path):
    with pytest.raises(FileNotFoundError):
        packing._record(bucket / "gone.png", None)
    with pytest.raises(decode.UnreadableError):
        packing._record(tmp_path / "gone.png", None)


def test_a_failed_copy_leaves_nothing(bucket, tmp_path, monkeypatch):
    class Full:
        def get_file(self, remote, local):
            pathlib.Path(local).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "filesystem", lambda place: Full())
    with pytest.raises(OSError, match="No space left"):
        storage.fetch(bucket, ["a"], tmp_path / "copy")
    assert not list((tmp_path / "copy").iterdir())


def test_the_command_packs_from_a_bucket_into_a_bucket(bucket, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        storage.filesystem(bucket).put_file(str(_picture(tmp_path / name)), f"{bucket}/from/trainA/{name}")
    pack.main([f"{bucket}/from", f"{bucket}/to", "--workers", "1"])
    assert f"{bucket}/to/trainA: 2 packed" in capsys.readouterr().out
    assert records.INDEX in storage.find(bucket / "to" / "trainA")


def _picture(path):
    Image.new("RGB", (8, 8)).save(path)
    return path


def test_patterns_in_a_bucket_name_their_files(bucket):
    for name in ("a.jpg", "b.png", "in/c.jpg"):
        (bucket / name).write_text("")
    found = inputs.collect([f"{bucket}/*.jpg", f"{bucket}/in"], bucket / "out")
    assert [(str(job.source), str(job.output)) for job in found.jobs] == [
        (f"{bucket}/a.jpg", f"{bucket}/out/a.jpg"),
        (f"{bucket}/in/c.jpg", f"{bucket}/out/c.jpg"),
    ]


@pytest.mark.slow
def test_stylise_from_a_bucket_and_to_it(bucket, tmp_path):
    source = sorted((PHOTOS / "test").iterdir())[0]
    storage.filesystem(bucket).put_file(str(source), f"{bucket}/in/{source.name}")
    flags = ["--style", "scream", "--max-size", "64", "--output"]
    assert stylize.main([*flags, str(tmp_path), "--input", str(source)]) == 0
    there = [*flags, f"{bucket}/out", "--input", f"{bucket}/in", "--json", f"{bucket}/report.json"]
    assert stylize.main(there) == 0
    assert (bucket / "out" / source.name).read_bytes() == (tmp_path / source.name).read_bytes()
    assert json.loads((bucket / "report.json").read_text())["pictures"][0]["output"] == f"{bucket}/out/{source.name}"
    with pytest.raises(types.InputError, match="the result exists already"):
        stylize.main(there)
    assert stylize.main([*there, "--skip-existing"]) == 0


class _Refusing(http.server.BaseHTTPRequestHandler):
    """A bucket that may not be written to."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *arguments):
        pass


@pytest.mark.slow
def test_a_bucket_that_refuses_writes_is_told_in_one_sentence(environment, buckets):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as refusing:
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        where = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{refusing.server_address[1]}"}
        command = [sys.executable, "-m", "gqst.train", "--config", "cyclegan", "--workdir", "s3://closed/run"]
        done = subprocess.run(command, env=environment | buckets | where, capture_output=True, text=True)
        refusing.shutdown()
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "gqst: error: cannot write to s3://closed/run: Access Denied; give the bucket's credentials, or choose another "
        "--workdir"
    ]


def test_a_server_that_is_not_there_is_told_in_one_sentence(environment, buckets):
    where = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{conftest.free_port()}"}
    command = [sys.executable, "-m", "gqst.report", "s3://runs/one"]
    done = subprocess.run(command, env=environment | buckets | where, capture_output=True, text=True)
    assert done.returncode == 2
    assert "the bucket cannot be used: Could not connect to the endpoint URL" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
