"""All logged values of a run in one file."""

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from resnet_lab.files import open_plain, read_regular, write_atomically
from resnet_lab.runs.directory import MOST_METRICS

COLUMNS = ("step", "tag", "value")


class CSV(Logger):
    """Write every logged value, those of callbacks too, to values.csv in the run's directory: step, tag, value.

    Rows after `iteration` are dropped, because the run resumes there.
    """

    name, version = "csv", ""

    def __init__(self, directory: Path, iteration: int) -> None:
        super().__init__()
        self.path, self.iteration = directory / "values.csv", iteration
        self.begun = False

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if not self.begun:
            self._begin()
        with open_plain(self.path, "a+") as file:
            csv.writer(file, lineterminator="\n").writerows((step, tag, value) for tag, value in metrics.items())

    @rank_zero_only
    def log_hyperparams(self, params: Any, *rest: Any, **more: Any) -> None:
        """Nothing: the run's config has them."""

    def _begin(self) -> None:
        rows = []
        if self.path.exists():
            whole_lines = read_regular(self.path, MOST_METRICS).rpartition("\n")[0]
            rows = [
                line for line in whole_lines.splitlines()[1:] if int(line.partition(",")[0] or 0) <= self.iteration
            ]
        write_atomically(self.path, "".join(f"{line}\n" for line in [",".join(COLUMNS), *rows]))
        self.begun = True
