"""Nets as ONNX, verified with ONNX Runtime."""

import contextlib
import copy
import io
import warnings
from typing import Any

import torch
from torch import nn

from resnet_lab.checks import UserError, library
from resnet_lab.models.count import check_takes_images

TOLERANCE = 1e-4  # of the largest logit: ONNX Runtime sums in another order


def onnx_content(net: nn.Module, shape: tuple[int, int, int] | None) -> bytes:
    if shape is None:
        raise ValueError("shape must be an image's (C, H, W) for onnx, got None")
    for name in ("onnx", "onnxscript"):
        library(name, "onnx")
    runtime = library("onnxruntime", "onnx")
    net = copy.deepcopy(net).cpu().float().eval()
    check_takes_images(net, shape)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
            program = torch.onnx.export(
                net,
                (torch.zeros(2, *shape),),
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
        assert program is not None
        content: bytes = program.model_proto.SerializeToString()
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:
        cause = str(error.__cause__ or error).partition("\n")[0]
        raise UserError(f"the net cannot be written as onnx for images of shape {shape}: {cause}") from error
    check_logits(net, session, shape)
    return content


@torch.no_grad()
def check_logits(net: nn.Module, session: Any, shape: tuple[int, int, int]) -> None:
    """Raise UserError unless the session reproduces the net's logits on batches of 1 and 3 random images."""
    random = torch.Generator().manual_seed(0)
    for images in (torch.randn(n, *shape, generator=random) for n in (1, 3)):
        expected = net(images)
        found = torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
        difference = float((found - expected).abs().max())
        allowed = TOLERANCE * float(expected.abs().max())
        if not difference <= allowed:  # unlike >, this also catches NaN
            raise UserError(
                f"ONNX Runtime's logits for {len(images)} random images are {difference:.2g} from the net's, and "
                f"{allowed:.2g} is allowed; nothing is written"
            )
