"""The kernels that compute a run's numbers; processor and settings choose among several for each operation."""

import os
import re
from typing import Any

import torch

from resnet_lab.runs.provenance import cpu_fact, processor

# processor flags, under Linux's names, by which the libraries choose their code
INSTRUCTIONS = (
    "sse4_1",
    "avx",
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "asimd",
    "sve",
    "sve2",
    "bf16",
    "i8mm",
)
# those by which oneDNN computes convolutions in bfloat16, which it emulates without them
BF16 = ("avx512_bf16", "amx_bf16")
NO_BF16 = f"the device has no instructions for bfloat16 (on a CPU {' or '.join(BF16)})"
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "OPENBLAS_CORETYPE",
    "NVIDIA_TF32_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
)


def kernels(device: torch.device) -> dict[str, Any]:
    """Everything that chooses the kernels of a run on this device, for its record.

    `processor`, `model` and `instructions` are the CPU's; `cpu_capability` is torch's choice among them; `onednn`,
    `mkl` and `blas` are the libraries that torch was built with (None: without); `environment` holds the variables
    that configure them; `gpu` is None on a CPU.
    """
    built = torch.__config__.show()
    return {
        "processor": processor(),
        "model": "/".join(cpu_fact(name) for name in ("cpu family", "model")).strip("/"),
        "instructions": instructions(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": captured(r"MKL-DNN v(\S+)", built),
        "onednn_enabled": torch.backends.mkldnn.enabled,
        "mkl": captured(r"Math Kernel Library Version (\S+)", built),
        "blas": captured(r"BLAS_INFO=(\w+)", built),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "gpu": gpu(device) if device.type == "cuda" else None,
    }


def instructions() -> str:
    found = flags()
    return " ".join(name for name in INSTRUCTIONS if name in found)


def flags() -> list[str]:
    return (cpu_fact("flags") or cpu_fact("Features")).split()


def has_bf16(device: torch.device) -> bool:
    """Whether the device itself computes in bfloat16, so that this is faster than float32.

    torch's own `torch.ops.mkldnn._is_mkldnn_bf16_supported` also accepts CPUs with AVX-512 that emulate it.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return not {*BF16}.isdisjoint(flags())


def gpu(device: torch.device) -> dict[str, Any]:
    """The GPU, its libraries and their settings; a precision of tf32 is below that of float32."""
    cudnn = torch.backends.cudnn
    return {
        "name": torch.cuda.get_device_name(device),
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version(),  # type: ignore[no-untyped-call]
        "matmul_precision": torch.backends.cuda.matmul.fp32_precision,
        "convolution_precision": cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        "cudnn_benchmark": cudnn.benchmark,
        "cudnn_deterministic": cudnn.deterministic,
    }


def captured(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found[1] if found else None
