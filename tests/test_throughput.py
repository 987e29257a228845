"""What the job `throughput` measures, and on what."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from resnet_lab.benchmarks import rounds, throughput
from resnet_lab.benchmarks.convolutions import pass_through
from resnet_lab.benchmarks.throughput import BareLoop, ConvolutionFloor, Fit, Stopwatch, UsualLoader
from resnet_lab.checks import UserError
from resnet_lab.runs.directory import Run
from resnet_lab.runs.worker import execute
from resnet_lab.training.job import build_all
from resnet_lab.training.kernels import NO_BF16

Tiny = Callable[..., tuple[Run, dict[str, Any]]]
CONTENDERS = ["fit", "bare loop", "usual loader", "convolution floor"]
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


def test_several_devices_are_refused(tiny: Tiny) -> None:
    run, config = tiny(*SMALL)
    config["trainer"] |= {"devices": 2}
    with pytest.raises(UserError, match="job=throughput compares loops on one device, got 2"):
        throughput.perform(run, config)


class Calls(TorchDispatchMode):
    """Note what torch computes, with shape, memory layout and precision of the tensors that go in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen[f"{func} {[described(value) for value in args]}"] += 1
        return func(*args, **(kwargs or {}))


def described(value: Any) -> Any:
    return (tuple(value.shape), value.stride(), value.dtype) if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_the_floor_computes_the_convolutions_of_an_iteration_and_nothing_else(
    tiny: Tiny, precision: str, channels_last: bool
) -> None:
    layout = f"runtime.channels_last={channels_last}"
    _, config = tiny(*SMALL, "model.shortcut=B", "model.width=16", f"trainer.precision={precision}", layout)
    data, _ = build_all(config)
    data.prepare()
    loop, floor = BareLoop(config, data, steps=5), ConvolutionFloor(config, data, steps=5)
    with Calls() as trained:
        loop.step(*loop.batch)
    with Calls() as alone:
        pass_through(floor.convolutions)
    assert alone.seen == Counter({call: n for call, n in trained.seen.items() if "convolution" in call})
    assert alone.seen.total() == 2 * 9


def test_the_floor_leaves_out_the_gradients_of_frozen_weights(tiny: Tiny) -> None:
    _, config = tiny(*SMALL, "freeze=[stem,stage1]")
    data, _ = build_all(config)
    data.prepare()
    floor = ConvolutionFloor(config, data, steps=5)
    assert [len(one.wanted()) for one in floor.convolutions] == [0, 0, 0, 1, 2, 2, 2]
    assert floor.turn() > 0


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_the_floor_has_the_precision_of_the_trainer(tiny: Tiny, precision: str, dtype: torch.dtype) -> None:
    _, config = tiny(*SMALL, f"trainer.precision={precision}")
    data, _ = build_all(config)
    data.prepare()
    found = {tensor.dtype for one in ConvolutionFloor(config, data, 5).convolutions for tensor in one.wanted()}
    assert found == {dtype}


@pytest.mark.parametrize(
    ("precision", "in_hardware", "reason"),
    [
        ("32-true", True, None),
        ("32-true", False, NO_BF16),
        ("bf16-mixed", True, "trainer.precision=bf16-mixed has all of them in it"),
    ],
)
def test_bfloat16_is_compared_where_it_can_gain(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, precision: str, in_hardware: bool, reason: str | None
) -> None:
    monkeypatch.setattr(rounds, "ROUNDS", 1)
    monkeypatch.setattr(throughput, "has_bf16", lambda device: in_hardware)
    monkeypatch.setattr(UsualLoader, "turn", lambda self: 1.0)  # whose workers take time to start
    run, config = tiny(*SMALL, f"trainer.precision={precision}")
    assert execute(run, config) == 0
    record = run.record()
    assert list(record["images_per_second"]) == [*CONTENDERS, "fit in bf16"]
    assert record["left_out"] == ({"fit in bf16": reason} if reason else {})
    assert ("fit / fit in bf16" in record["ratios"]) == (reason is None)
    table = (run.directory / "throughput.md").read_text()
    assert ("| fit in bf16 | left out |  |" in table) == (reason is not None)
    assert rounds.markdown_table(rounds.read_rounds((run.directory / "rounds.csv").read_text())) == table


def test_a_net_without_convolutions_has_no_floor(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "convolutions_of", lambda net, images: [])
    _, config = tiny(*SMALL)
    data, _ = build_all(config)
    data.prepare()
    contenders, left_out = throughput.further_contenders(config, data, steps=5)
    assert "convolution floor" not in contenders
    assert left_out["convolution floor"] == "the net has no convolutions"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_all_that_is_compared_trains_on_the_gpu(tiny: Tiny, precision: str) -> None:
    _, config = tiny(*SMALL, "trainer=gpu", f"trainer.precision={precision}")
    data, _ = build_all(config)
    data.prepare()
    loops = [BareLoop(config, data, 5), UsualLoader(config, data, 5)]
    contenders = [Fit(config, 5), *loops, ConvolutionFloor(config, data, 5)]
    assert all(contender.turn() > 0 for contender in contenders)
    assert {next(loop.net.parameters()).device.type for loop in loops} == {"cuda"}
