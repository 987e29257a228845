"""MLflow, in a local folder."""

import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.utilities import rank_zero_only

from resnet_lab.checks import library
from resnet_lab.loggers.known import keep, known


class MLflow(MLFlowLogger):
    """Log to mlruns/ in the folder of all experiments, `output_root`, whatever the environment says of servers.

    A resumed run continues as the same run there. What was logged between the last checkpoint and a kill is
    there twice, with the same values.

    Raises:
        UserError: MLflow is not installed.
    """

    def __init__(self, directory: Path, iteration: int, experiment: str, title: str) -> None:
        library("mlflow", "logger=mlflow", "mlflow")
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = (
            "true"  # which processes of a sweep can write at once, unlike a database
        )
        self.known = directory / "mlflow_run_id"
        folder = directory.parents[2] / "mlruns"
        super().__init__(
            experiment, title, tracking_uri=folder.absolute().as_uri(), run_id=known(self.known, iteration)
        )

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any]) -> None:  # type: ignore[override]
        keep(self.known, str(self.run_id))
        super().log_hyperparams(params)

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        if status != "success":  # nothing follows; after the training there is the test
            super().finalize(status)

    @rank_zero_only
    def finish(self) -> None:
        super().finalize("success")
