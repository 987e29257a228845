"""The run's TensorBoard events, written into its own directory."""

from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import TensorBoardLogger


class RunEvents(TensorBoardLogger):
    """Events straight in `directory`; those after iteration `step` are void, as the run goes on from there."""

    def __init__(self, directory: Path, step: int) -> None:
        # also at step 0: a run that is begun anew may have ended before its first checkpoint
        purge: dict[str, Any] = {"purge_step": step + 1}
        super().__init__(directory, name="", version="", default_hp_metric=False, **purge)

    @rank_zero_only
    def save(self) -> None:
        # The parent's also writes a file of hyperparameters; ours are in the run's config.
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        # Fit and test end one after the other; closing in between would start a second file of events.
        self.experiment.flush()
