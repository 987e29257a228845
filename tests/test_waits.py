"""How often a training step waits for the device: whenever it reads a number from it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from torch.utils._python_dispatch import TorchDispatchMode

from resnet_lab.runs.directory import Run
from resnet_lab.runs.worker import execute
from resnet_lab.training import job, watching

Tiny = Callable[..., tuple[Run, dict[str, Any]]]

EVERY = 50  # iterations between two checks of the loss
# operations that end with a number, or with a shape that depends on numbers; a tensor made of the host's numbers
# is sent from memory that is not pinned
WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "_unique2", "lift_fresh")
READING = ("tolist", "cpu")  # which on a CPU are no operations


class Waits(TorchDispatchMode):
    """Note the operations for which a GPU would be waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.noted: list[str] = []
        for name in READING:
            monkeypatch.setattr(torch.Tensor, name, self.noting(name))

    def noting(self, name: str) -> Callable[..., Any]:
        usual = getattr(torch.Tensor, name)

        def noted(*args: Any, **more: Any) -> Any:
            self.noted.append(name)
            return usual(*args, **more)

        return noted

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.noted += [name] if name in WAITING else []
        return func(*args, **(kwargs or {}))


class PerIteration(Callback):
    """How many waits there were in each iteration, with the callbacks and the loading before it."""

    def __init__(self, waits: Waits) -> None:
        self.waits, self.counts = waits, []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.counts.append(list(self.waits.noted))
        self.waits.noted.clear()


@pytest.mark.parametrize(
    "recipe",
    [
        (),
        ("data.crop_padding=2", "data.flip=true", "data.std=[0.3,0.3,0.2]", "callbacks=ema"),
        (
            "optimizer=sgd_nesterov",
            "schedule=cosine_warmup",
            "label_smoothing=0.1",
            "trainer.precision=bf16-mixed",
        ),
    ],
    ids=["as it is", "augmented", "regularized"],
)
def test_a_step_waits_once_in_50(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, recipe: tuple[str, ...]) -> None:
    monkeypatch.setattr(watching, "LOOK_EVERY", 600.0)  # which looks once a second, however many steps that is
    waits = Waits(monkeypatch)
    watched = PerIteration(waits)
    monkeypatch.setattr(
        job, "build_callbacks", lambda config, usual=job.build_callbacks: [*usual(config), watched]
    )
    run, config = tiny("data.train_images=960", "iterations=60", *recipe)
    with waits:
        assert execute(run, config) == 0
    steps = dict(enumerate(watched.counts))
    assert {step: found for step, found in steps.items() if found and step % EVERY} == {}
    assert len(steps[EVERY]) == 1
