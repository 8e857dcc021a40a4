"""Targets, and the tables and files that describe them."""

import importlib.util
import json
import re
import subprocess
import sys
import zipfile

import jax
import pytest

from gqst import types
from gqst.plan import hardware
from tests import conftest

SMALL = (*conftest.SMALL_RESNET, "generator.filters=4", "batch_size=4")
DEVICES = conftest.ROOT / "gqst" / "plan" / "devices"

# Of stream_executor.GpuDeviceInfoProto: what XLA cannot do without.
NEEDED = {
    "threads_per_block_limit",
    "threads_per_warp",
    "shared_memory_per_block",
    "shared_memory_per_core",
    "threads_per_core_limit",
    "core_count",
    "fpus_per_core",
    "block_dim_limit_x",
    "block_dim_limit_y",
    "block_dim_limit_z",
    "memory_bandwidth",
    "l2_cache_size",
    "clock_rate_ghz",
    "device_memory_size",
    "shared_memory_per_block_optin",
    "cuda_compute_capability",
    "registers_per_core_limit",
    "registers_per_block_limit",
}
# What the XLA of JAX 0.10.2 knows besides, as far as the files use it: it refuses a text with any other field.
KNOWN = NEEDED | {
    "scalar_unit_description",
    "matrix_unit_description",
    "thread_dim_limit_x",
    "thread_dim_limit_y",
    "thread_dim_limit_z",
    "device_vendor",
    "platform_version",
    "model_str",
    "device_address_bits",
    "pcie_bandwidth",
    "ecc_enabled",
    "name",
    "driver_version",
    "runtime_version",
    "compile_time_toolkit_version",
    "dnn_version",
    "cub_version",
    "device_interconnect_info",
}


def _parse(text: str) -> dict:
    """A message in protobuf's text form; a field that is repeated keeps its last value."""
    tokens = iter(re.findall(r'"[^"]*"|[{}]|[\w.+-]+', re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)))

    def message() -> dict:
        fields = {}
        for token in tokens:
            if token == "}":
                break
            value = next(tokens)
            fields[token] = message() if value == "{" else value.strip('"')
        return fields

    return message()


def test_every_gpu_has_its_file():
    assert {path.stem for path in DEVICES.glob("*.txtpb")} == set(hardware.GPUS)


@pytest.mark.parametrize("kind", list(hardware.GPUS))
def test_the_fields_of_a_description(kind):
    target = _parse(hardware.gpu_description(kind))
    assert set(target) <= {
        "gpu_device_info",
        "platform_name",
        "runtime_version",
        "dnn_version_info",
        "device_description_str",
    }
    assert target["platform_name"] == "CUDA" and kind.upper() in target["device_description_str"]
    assert set(target["gpu_device_info"]) >= NEEDED and set(target["gpu_device_info"]) <= KNOWN


# By NVIDIA's data sheets and its table of compute capabilities.
@pytest.mark.parametrize(
    ("kind", "capability", "cores", "gigabytes", "bandwidth"),
    [
        ("h100", "9.0", 132, 80, 3.35e12),
        ("a100", "8.0", 108, 40, 1.555e12),
        ("l4", "8.9", 58, 24, 300e9),
        ("t4", "7.5", 40, 16, 320e9),
    ],
)
def test_a_description_is_of_its_gpu(kind, capability, cores, gigabytes, bandwidth):
    info = _parse(hardware.gpu_description(kind))["gpu_device_info"]
    version = info["cuda_compute_capability"]
    assert f"{version['major']}.{version.get('minor', 0)}" == capability
    assert int(info["core_count"]) == cores
    chip = hardware._gpu_chip(kind, hardware.gpu_description(kind))
    assert chip.memory == 0.75 * int(info["device_memory_size"])
    assert chip.memory / 0.75 == pytest.approx(gigabytes * 2**30, rel=0.02)
    assert chip.bandwidth == pytest.approx(bandwidth, rel=0.01)


def test_a_description_without_a_number_that_is_needed():
    with pytest.raises(ValueError, match="no memory_bandwidth"):
        hardware._number("gpu_device_info { }", "memory_bandwidth")


@pytest.mark.slow
def test_the_descriptions_are_in_the_wheel(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", tmp_path, conftest.ROOT], check=True)
    (wheel,) = tmp_path.glob("gqst-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [*(f"{kind}.txtpb" for kind in hardware.GPUS), "README.md"]
    assert {f"gqst/plan/devices/{name}" for name in files} <= names


# Google Cloud's page on v5p says 2,575 GiB/s (earlier 2,765 GB/s, which is the same); JAX has 2,460 GB/s.
DIFFERENT_FROM_JAX = {("v5p", "bandwidth"): 2460e9}


@pytest.mark.parametrize("kind", list(hardware.TPUS))
def test_tpus_are_what_jax_says_of_them(kind):
    tpu = pytest.importorskip("jax.experimental.pallas.tpu")
    if not hasattr(tpu, "get_tpu_info_for_chip"):
        pytest.skip(f"jax {jax.__version__} has no get_tpu_info_for_chip")
    version = tpu.ChipVersion(kind)
    # JAX's figures are for one core. A v5p's two cores are one device; a v4's are two, as for XLA ahead of time.
    cores = 2 if kind == "v5p" else 1
    info = tpu.get_tpu_info_for_chip(version, cores)
    chip = hardware.TPUS[kind]
    assert chip.flops == chip.flops_float32 == pytest.approx(cores * info.bf16_ops_per_second, rel=0.01)
    # Part of the memory is the runtime's.
    assert 0.95 * cores * info.hbm_capacity_bytes < chip.memory <= cores * info.hbm_capacity_bytes
    bandwidth = cores * info.mem_bw_bytes_per_second
    if (kind, "bandwidth") in DIFFERENT_FROM_JAX:
        assert bandwidth == DIFFERENT_FROM_JAX[kind, "bandwidth"]
        assert chip.bandwidth == pytest.approx(2575 * 2**30, rel=1e-3)
    else:
        assert chip.bandwidth == pytest.approx(bandwidth, rel=0.01)


@pytest.mark.parametrize("target", ["v9", "h100:0", "v5e:big", "tpu", ""])
def test_targets_that_do_not_exist(target):
    with pytest.raises(types.InputError, match=r"there is no target .* there are: v5e:2x2"):
        hardware.find(target)


@pytest.mark.parametrize(
    ("target", "module", "extra"), [("v5e", "libtpu", "plan"), ("h100", "jax_cuda12_plugin", "plan-cuda")]
)
def test_a_compiler_that_is_not_installed(monkeypatch, target, module, extra):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find(name))
    with pytest.raises(types.InputError, match=rf"pip install 'gqst\[{extra}\]'"):
        hardware.find(target)


@pytest.mark.parametrize(
    ("target", "variable"), [("v5e:2x2", "TPU_SKIP_MDS_QUERY"), ("h100", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK")]
)
@pytest.mark.parametrize("is_set", [False, True])
def test_a_compiler_that_does_not_start_names_the_missing_environment(monkeypatch, target, variable, is_set):
    def fail(*args, **options):
        raise RuntimeError("no such device\nand a long story")

    monkeypatch.setattr(hardware, "_require", lambda *needed: None)
    monkeypatch.setattr(hardware.topologies, "get_topology_desc", fail)
    if is_set:
        monkeypatch.setenv(variable, "1")
    else:
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(types.InputError) as caught:
        hardware.find(target)
    advice = "" if is_set else f"; set {variable}=1 before JAX is imported, as gqst.plan does"
    assert str(caught.value) == f"cannot compile for {target}: no such device{advice}"


def test_the_library_sets_no_environment():
    for path in (conftest.ROOT / "gqst").rglob("*.py"):
        if path.name != "__main__.py":
            assert not re.search(r"environ(\.setdefault|\.update|\[[^]]*\] =)|putenv", path.read_text()), path


def _estimate(run, folder, target: str) -> dict:
    arguments = ["--config", "cyclegan", "--set", *SMALL, "--target", target, "--no-search", "--json", "estimate.json"]
    done = run("gqst.plan", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "estimate.json").read_text())


@pytest.mark.slow  # a TPU's compiler takes minutes; only where it is installed
def test_a_step_for_a_tpu(run, tmp_path):
    pytest.importorskip("libtpu")
    estimated = _estimate(run, tmp_path, "v5e:2x2")
    assert estimated["fits"] and estimated["devices"] == 4 and estimated["compiled"]["program"] > 0
    assert estimated["seconds"] is not None


@pytest.mark.slow  # likewise; it shows that XLA takes the description
@pytest.mark.parametrize("kind", list(hardware.GPUS))
def test_a_step_for_a_gpu(run, tmp_path, kind):
    pytest.importorskip("jax_cuda12_plugin")
    estimated = _estimate(run, tmp_path, kind)
    assert estimated["fits"] and estimated["seconds"] is not None
