"""Hydra's sweeper, made to check all jobs of a sweep before it writes anything."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from resnet_lab.files import unusable
from resnet_lab.sweeps.launcher import SweepLauncher


class CheckingSweeper(BasicSweeper):
    """`hydra/sweeper=basic`: every combination of the values, in batches where there is a limit."""

    def split_arguments(  # type: ignore[override]  # it needs the launcher, and Hydra does not
        self, overrides: Any, max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """The overrides of each job in each batch.

        Raises:
            UserError: a job cannot run, or the sweep's folder cannot be made.
        """
        batches: list[list[list[str]]] = BasicSweeper.split_arguments(overrides, max_batch_size)
        if not isinstance(self.launcher, SweepLauncher):
            return batches
        jobs = [job for batch in batches for job in batch]
        self.launcher.check(jobs)
        self._make_folder()
        return [jobs]  # whose number at once is the launcher's, and of which one that fails stops no other

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose the jobs, unless this launcher has done so already."""
        if not isinstance(self.launcher, SweepLauncher):
            super().validate_batch_is_legal(batch)

    def _make_folder(self) -> None:
        folder = Path(self.config.hydra.sweep.dir)  # type: ignore[union-attr]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unusable(folder, error) from error
