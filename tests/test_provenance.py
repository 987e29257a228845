"""What the record says of where its numbers come from."""

from pathlib import Path

import pytest
import torch

from resnet_lab.runs import provenance
from resnet_lab.training import kernels
from resnet_lab.training.job import warn_of_emulation

XEON = """processor\t: 0
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R)
flags\t\t: fpu sse4_1 avx2 fma avx avx512f amx_tile hypervisor

processor\t: 1
model name\t: another
"""


@pytest.fixture
def xeon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(XEON)
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "cpuinfo")


@pytest.mark.usefixtures("xeon")
def test_the_kernels_are_told_apart_by_processor_libraries_and_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    found = kernels.kernels(torch.device("cpu"))
    assert found["processor"] == "Intel(R) Xeon(R)"
    assert found["model"] == "6/143"
    assert found["instructions"] == "sse4_1 avx avx2 fma avx512f amx_tile"
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["environment"]["MKL_CBWR"] == "COMPATIBLE"
    assert found["deterministic"] is False
    assert found["gpu"] is None
    if torch.backends.mkldnn.is_available():
        assert found["onednn"] in torch.__config__.show()
    if torch.backends.mkl.is_available():
        assert found["mkl"] in torch.__config__.show()


@pytest.mark.parametrize(
    ("instruction", "told"), [("avx512_bf16", True), ("amx_bf16", True), ("avx512_vnni", False)]
)
def test_a_processor_that_would_emulate_bfloat16_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instruction: str, told: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(XEON.replace("hypervisor", instruction))
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "cpuinfo")
    assert kernels.has_bf16(torch.device("cpu")) is told


@pytest.mark.usefixtures("xeon")
@pytest.mark.parametrize(("precision", "warned"), [("bf16-mixed", True), ("bf16-true", True), ("32-true", False)])
def test_emulated_bfloat16_is_warned_of(caplog: pytest.LogCaptureFixture, precision: str, warned: bool) -> None:
    warn_of_emulation({"precision": precision}, torch.device("cpu"))
    assert (f"trainer.precision={precision} is slower here than 32-true" in caplog.text) is warned


def test_a_gpu_has_its_name_its_libraries_and_what_they_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a GPU, {device}")
    gpu = kernels.kernels(torch.device("cuda", 0))["gpu"]
    assert gpu["name"] == "a GPU, cuda:0"
    assert {"cuda", "cudnn", "matmul_precision", "convolution_precision"} < set(gpu)
    assert gpu["cudnn_benchmark"] is gpu["cudnn_deterministic"] is False


def test_the_driver_is_read_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "NVIDIA", tmp_path / "version")
    assert provenance.gpu_driver() is None
    line = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder)\n"
    (tmp_path / "version").write_text(line + "GCC version:  gcc version 12.2.0\n")
    assert provenance.gpu_driver() == "570.86.15"


def test_a_checkout_that_git_does_not_open_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (provenance.commit() or {}).keys() == {"commit", "dirty"}
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert provenance.commit() is None


def test_versions_are_those_of_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = provenance.versions()
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert {"torchvision", "pytorch-lightning", "omegaconf", "scipy", "torchcodec"} <= set(found)
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "never-to-be-installed"))
    assert set(provenance.versions()) == {"torch"}
