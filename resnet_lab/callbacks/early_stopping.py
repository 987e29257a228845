"""The end of a training whose held-out error has stopped falling."""

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping as LightningEarlyStopping

from resnet_lab.checks import check_at_least


class EarlyStopping(LightningEarlyStopping):
    """Stop after `patience` evaluations in a row without a held-out error below the lowest by `min_delta` points.

    It needs `data.holdout`: else the validation error is the test error.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(self, patience: int = 10, min_delta: float = 0.0) -> None:
        check_at_least(1, patience=patience)
        if not 0 <= min_delta < 100:
            raise ValueError(f"min_delta must be from 0 to 100 points, got {min_delta}")
        super().__init__("val/error", min_delta=min_delta, patience=patience, check_on_train_epoch_end=False)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self.wait_count >= self.patience:  # resumed after it had stopped
            trainer.should_stop = True
