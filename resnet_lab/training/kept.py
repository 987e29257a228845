"""The weights of chosen iterations, kept for analyses."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import hash_of_run
from resnet_lab.training.checkpoint import VerifiedCheckpointIO, is_of, read_checkpoint


class KeepWeights(Callback):
    """Write the net's weights after each iteration that `analyze_at` names, beside the checkpoints.

    As in a checkpoint, running statistics are the mean over the processes.

    What is there of this run already stays: a run that is resumed passes through the same weights again.
    """

    def __init__(self, run: Run, config: dict[str, Any]) -> None:
        self.run, self.config = run, config
        self.iterations = {place for place in config.get("analyze_at") or () if place != "last"}

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:  # type: ignore[override]
        step = trainer.global_step
        if step not in self.iterations:
            return
        weights = {name: tensor for name, tensor in module.state_dict().items() if name.startswith("net.")}
        for name, buffer in module.named_buffers():
            if name in weights and buffer.is_floating_point():
                weights[name] = trainer.strategy.reduce(buffer.clone(), reduce_op="mean")
        if not trainer.is_global_zero:
            return
        path = self.run.kept_path(step)
        there = read_checkpoint(path) if path.is_file() else None
        if there is None or not is_of(self.config, there):
            path.unlink(missing_ok=True)
            kept = {"state_dict": weights, "global_step": step, "run": hash_of_run(self.config)}
            VerifiedCheckpointIO().save_checkpoint(kept, path)
