"""A fit without batch normalization, in float64: `linear_fit.main()`, once for each of PROCESSES.

Prints the weights and the errors. Without batch statistics, which are each process's own, any number of
processes must come to the same.
"""

import functools
import json
import os
import sys

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from resnet_lab.data import Synthetic
from resnet_lab.runs.quiet import silence
from resnet_lab.schedule import MultiStep
from resnet_lab.tasks.classification import Classifier


def fit(processes: int) -> None:
    silence()
    torch.manual_seed(0)
    data = Synthetic(
        root="", train_images=101, test_images=37, image_size=8, batch_size=16, crop_padding=2, flip=True
    )
    data.prepare()
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-4)
    classifier = Classifier(net, optimizer, functools.partial(MultiStep, milestones=[10], gamma=0.1), 10)
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy=DDPStrategy(process_group_backend="gloo", broadcast_buffers=False) if processes > 1 else "auto",
        plugins=[LightningEnvironment()],
        precision="64-true",
        max_epochs=2,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False),
    )
    trainer.fit(classifier, data)
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        errors = {tag: float(value) for tag, value in trainer.callback_metrics.items()}
        weights = {name: tensor.flatten().tolist() for name, tensor in net.state_dict().items()}
        print(json.dumps({"errors": errors, "weights": weights}))


def main() -> None:
    """With PROCESSES on the command line."""
    fit(int(sys.argv[1]))
