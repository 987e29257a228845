"""Callbacks of Lightning that a run may have beside the lab's own: conf/callbacks.

A callback finds the run's directory in `trainer.default_root_dir`, its images in `trainer.datamodule`, and its
loggers in `trainer.loggers`. What its `state_dict` returns is in the checkpoints.
"""

from resnet_lab.callbacks.early_stopping import EarlyStopping
from resnet_lab.callbacks.ema import EMA
from resnet_lab.callbacks.gradient_norms import GradientNorms
from resnet_lab.callbacks.image_grid import ImageGrid

__all__ = ["EMA", "EarlyStopping", "GradientNorms", "ImageGrid"]
