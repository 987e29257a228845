"""A run's TensorBoard events, written into its own directory."""

from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import TensorBoardLogger


class TensorBoard(TensorBoardLogger):
    """Events directly in `directory`; those after `iteration` are void, because the run resumes there."""

    def __init__(self, directory: Path, iteration: int) -> None:
        # also at iteration 0: a run that starts anew may have ended before its first checkpoint
        purge: dict[str, Any] = {"purge_step": iteration + 1}
        super().__init__(directory, name="", version="", default_hp_metric=False, **purge)

    @rank_zero_only
    def save(self) -> None:
        # the parent also writes a file of hyperparameters; ours are in the run's config
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        # fit and test end one after the other; closing in between would start a second file of events
        self.experiment.flush()
