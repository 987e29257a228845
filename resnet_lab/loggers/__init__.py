"""Where the values of a run are logged, beside its metrics.csv: conf/logger.

A logger is one of Lightning's. It is given, as far as its constructor takes them, the run's `directory`, the
`iteration` that the run begins or resumes at, its `experiment` and its `title`.
"""

from resnet_lab.loggers.csv import CSV
from resnet_lab.loggers.mlflow import MLflow
from resnet_lab.loggers.tensorboard import TensorBoard
from resnet_lab.loggers.wandb import WandB

__all__ = ["CSV", "MLflow", "TensorBoard", "WandB"]
