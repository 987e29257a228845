"""What the job `throughput` measures, and on what."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from resnet_lab.benchmarks import throughput
from resnet_lab.benchmarks.throughput import BareLoop, Fit, Stopwatch, UsualLoader
from resnet_lab.runs.directory import Run
from resnet_lab.runs.worker import execute
from resnet_lab.training.job import build_all

Tiny = Callable[..., tuple[Run, dict[str, Any]]]
SMALL = ("job=throughput", "data.train_images=128", "iterations=2")


def test_a_stopwatch_waits_for_the_device_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Any] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append(device))
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: events.append("read") or float(len(events)))
    gpu = torch.device("cuda")
    stopwatch = Stopwatch(gpu, steps=7)
    for _ in range(7):
        stopwatch.on_train_batch_end()
    assert events == [gpu, "read", gpu, "read"]
    assert stopwatch.speed(batch_size=16) == 16 * 4 / 2


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_the_loops_have_the_precision_of_the_trainer(tiny: Tiny, precision: str, dtype: torch.dtype) -> None:
    _, config = tiny(*SMALL, f"trainer.precision={precision}")
    data, _ = build_all(config)
    data.prepare()
    loop = BareLoop(config, data, steps=3)
    seen = []
    loop.net.register_forward_hook(lambda net, inputs, logits: seen.append(logits.dtype))
    loop.step(*loop.batch)
    assert seen == [dtype]
    assert next(loop.net.parameters()).grad.dtype == torch.float32  # type: ignore[union-attr]


def test_another_precision_is_refused(tiny: Tiny) -> None:
    run, config = tiny(*SMALL, "trainer.precision=bf16-true")
    assert execute(run, config) == 1
    assert run.record()["error"] == (
        "job=throughput compares loops in trainer.precision=32-true or bf16-mixed, got 'bf16-true'"
    )


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_all_that_is_compared_trains_on_the_gpu(tiny: Tiny, precision: str) -> None:
    _, config = tiny(*SMALL, "trainer=gpu", f"trainer.precision={precision}")
    data, _ = build_all(config)
    data.prepare()
    loops = [BareLoop(config, data, 5), UsualLoader(config, data, 5)]
    contenders = [Fit(config | {"iterations": 5}), *loops]
    assert all(contender.turn() > 0 for contender in contenders)
    assert {next(loop.net.parameters()).device.type for loop in loops} == {"cuda"}
