"""Weights & Biases, offline."""

import uuid
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from resnet_lab.checks import library
from resnet_lab.loggers.known import keep, known


class WandB(WandbLogger):
    """Log to wandb/ in the run's directory; `wandb sync` uploads it, the lab never does.

    A resumed run continues under the same id, in a folder of its own. What was logged between the last
    checkpoint and a kill is there twice, with the same values.

    Args:
        project: name of the project; None for the experiment's.

    Raises:
        UserError: wandb is not installed.
    """

    def __init__(
        self, directory: Path, iteration: int, experiment: str, title: str, project: str | None = None
    ) -> None:
        wandb = library("wandb", "logger=wandb", "wandb")
        self.known = directory / "wandb" / "id"
        settings = wandb.Settings(console="off", silent=True, x_disable_meta=True, x_disable_stats=True)
        super().__init__(
            title,
            directory,
            offline=True,
            id=known(self.known, iteration) or uuid.uuid4().hex[:8],
            project=project or experiment,
            settings=settings,
        )

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any]) -> None:  # type: ignore[override]
        keep(self.known, str(self._id))
        super().log_hyperparams(params)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if status != "success":  # nothing follows; after the training there is the test
            self.finish()

    @rank_zero_only
    def finish(self) -> None:
        self.experiment.finish()
