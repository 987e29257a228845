"""What a GPU does at once, as far as it shows without one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from runs import curve, weights
from torch import nn

from resnet_lab.runs.directory import Run
from resnet_lab.runs.worker import execute
from resnet_lab.training import job, watching
from resnet_lab.training.acceleration import compile_net, fused
from resnet_lab.training.job import build_all

Tiny = Callable[..., tuple[Run, dict[str, Any]]]
Composed = Callable[..., dict[str, Any]]


class NoWaiting(Callback):
    """Have torch raise an error where an iteration from `first` to before `last` waits for the GPU."""

    def __init__(self, first: int, last: int) -> None:
        self.modes = {first: "error", last: "default"}

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if mode := self.modes.get(trainer.global_step):
            torch.cuda.set_sync_debug_mode(mode)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.accelerator=gpu",),
        ("trainer.accelerator=auto", "optimizer=adamw"),
        ("trainer.accelerator=cuda", "trainer.precision=bf16-mixed"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("cuda")
def test_on_a_gpu_the_optimizer_is_fused(composed: Composed, overrides: tuple[str, ...]) -> None:
    config = composed(*overrides)
    assert fused(config) == {"fused": True}
    _, module = build_all(config)
    optimizer = module.configure_optimizers()["optimizer"]
    assert [group["fused"] for group in optimizer.param_groups] == [True]


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.accelerator=cpu",),
        ("+optimizer.foreach=true",),
        ("+optimizer.fused=false",),
        ("+trainer.gradient_clip_val=1.0", "trainer.precision=bf16-mixed"),
        ("trainer.precision=16-mixed",),
        ("optimizer._target_=torch.optim.RMSprop",),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("cuda")
def test_where_it_cannot_be_or_was_told_otherwise_it_is_not(
    composed: Composed, overrides: tuple[str, ...]
) -> None:
    assert fused(composed("trainer.accelerator=gpu", *overrides)) == {}


def test_without_a_gpu_it_is_not(composed: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert fused(composed("trainer.accelerator=auto")) == {}


@pytest.mark.parametrize(
    ("how", "settings"),
    [(False, []), (True, [{}]), ("reduce-overhead", [{"mode": "reduce-overhead", "dynamic": False}])],
)
def test_a_net_is_compiled_as_it_is_said(
    how: bool | str, settings: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **given: seen.append(given))
    compile_net(nn.Linear(1, 1), how)
    assert seen == settings


@pytest.mark.slow
def test_a_net_compiled_so_trains_and_evaluates_on_batches_of_all_sizes(tiny: Tiny) -> None:
    """As far as a CPU shows: it has no CUDA graphs."""
    run, config = tiny("runtime.compile=reduce-overhead")  # 40 images in batches of 16, the last of 8
    assert execute(run, config) == 0
    assert run.record()["compile"] == "reduce-overhead"


@pytest.mark.gpu
@pytest.mark.parametrize("more", [(), ("optimizer=adamw",), ("callbacks=[ema,gradient_norms]",)], ids=" ".join)
def test_cuda_graphs_train_the_same_net(tiny: Tiny, more: tuple[str, ...]) -> None:
    """On batches of 16 and, at the end of each epoch, 8 images: often enough for a graph of either."""
    few = ("trainer=gpu", "iterations=30", "optimizer.lr=0.001", *more)
    usual, compiled = (
        tiny(*few, f"runtime.compile={how}", f"run_name=compile-{how}") for how in ("false", "reduce-overhead")
    )
    assert execute(*usual) == execute(*compiled) == 0
    for mine, others in zip(curve(compiled[0]), curve(usual[0]), strict=True):
        assert float(mine["train_loss"]) == pytest.approx(float(others["train_loss"]), rel=1e-3)
    mine = weights(compiled[0])
    for name, tensor in weights(usual[0]).items():
        torch.testing.assert_close(mine[name], tensor, rtol=1e-2, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("compiling", ["false", "reduce-overhead"])
def test_no_step_waits_for_the_gpu(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, compiling: str) -> None:
    """By torch's own count of what waits; iterations 10 to 49, so that all is compiled and nothing is checked."""
    monkeypatch.setattr(watching, "LOOK_EVERY", 600.0)
    monkeypatch.setattr(job, "build_callbacks", lambda config: [NoWaiting(10, 49)])
    run, config = tiny(
        *("trainer=gpu", "data.train_images=960", "iterations=60", "data.crop_padding=2", "data.flip=true"),
        *(f"runtime.compile={compiling}", "mixup=0.2"),
    )
    try:
        assert execute(run, config) == 0, run.record()["error"]
    finally:
        torch.cuda.set_sync_debug_mode("default")
