"""A run's directory: its files and the rules for them. Standard library only.

outputs/<experiment_name>/<run_name>/seed<k>/
    record.json        what ran, how it ended, final errors
    metrics.csv        one row per evaluation, after `step` iterations; `lr` is the rate of the last of them
    checkpoints/       last.ckpt and the one before it; weights of the iterations in analyze_at
    train.log  .hydra/ TensorBoard's events
    .progress.json     how far training is, while it lasts (resnet_lab.runs.progress)

Besides the config, the `command` (the overrides as typed) and the errors, record.json says what the digits of the
results depend on:
    kernels            the CPU, the GPU, their libraries and settings (resnet_lab.training.kernels)
    versions           of Python and of all packages that touch pixels, nets or configs
    processes threads device channels_last compile strategy
    machine git        of which only machine.processor changes digits; interop_threads change none
    data               which images: their sha256 and how many
    earlier            stretches of a run that was resumed elsewhere: all of the above `until` an iteration, and
                       the `changes` after it
    accepted_changes   those that change digits, one line each: runtime.accept_changes=true let them pass
"""

import contextlib
import csv
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from resnet_lab.checks import UserError
from resnet_lab.files import FULL, check_plain, open_plain, read_json, read_regular, sync, write_atomically
from resnet_lab.runs.jobs import trains
from resnet_lab.text import one_line

EXIT_IN_USE = 73  # only of a launcher's job: another launch was faster
RESERVE = 1 << 16  # bytes that the lock file reserves for the record, in case the disk fills up
PATIENCE = 2.0  # seconds until a directory counts as in use
# A limit on what is read, so that a file that someone else made spoils no other run.
MOST_METRICS = 1 << 26  # bytes; half a million evaluations


class Run:
    """One run directory."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.record_path = self.directory / "record.json"
        self.metrics_path = self.directory / "metrics.csv"
        self.log_path = self.directory / "train.log"
        self.config_path = self.directory / ".hydra" / "config.yaml"
        self.checkpoint_path = self.directory / "checkpoints" / "last.ckpt"
        self.lock_path = self.directory / ".lock"
        self.progress_path = self.directory / ".progress.json"

    def record(self) -> dict[str, Any]:
        """The record; {} if there is none yet.

        Raises:
            UserError: it is damaged.
        """
        if not self.record_path.exists():
            return {}
        try:
            record: dict[str, Any] = dict(read_json(self.record_path))
        except (ValueError, TypeError) as error:
            raise damaged(self.record_path, error) from error
        return record

    def update(self, **facts: Any) -> None:
        """Add facts to the record; a reader sees the old one or the new one, whole."""
        text = json.dumps(self.record() | facts, indent=2) + "\n"
        try:
            write_atomically(self.record_path, text)
        except OSError as error:
            if error.errno not in FULL or not self.lock_path.exists():
                raise
            os.truncate(self.lock_path, 0)  # there must be space to record how a run ended
            write_atomically(self.record_path, text)

    def status(self) -> str:
        """`missing`, `running`, `completed`, `failed` or `interrupted`."""
        status = str(self.record().get("status", "missing"))
        # a process that was killed could not say so
        return "interrupted" if status == "running" and self.owner() is None else status

    def is_complete(self) -> bool:
        """Whether the record says so and, if the run trains, the curve ends where the config says it does."""
        record = self.record()
        config = record.get("config")
        if record.get("status") != "completed" or not isinstance(config, dict):
            return False
        if not trains(config):
            return True
        last = [int(row["step"]) for row in self.metrics()[-1:]] or [0]
        return last == [record.get("iterations")] == [end_of(record)]

    def owner(self) -> str | None:
        """The process that runs in this directory now, or None."""
        if not self.lock_path.exists():
            return None
        with open_plain(self.lock_path, "r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return one_line(file.read(RESERVE).strip()) or "another process"
        return None

    @contextlib.contextmanager
    def ownership(self) -> Iterator[int]:
        """Hold the directory exclusively; yield the lock's descriptor. The system releases the lock when the last
        process that has the descriptor is gone, however it ended.

        Raises:
            BlockingIOError: another process holds it.
        """
        with self._locked() as file:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename} since {now()}\n".ljust(RESERVE))
            file.flush()
            yield file.fileno()

    def _locked(self) -> TextIO:
        """Open and lock the lock file, patiently: killed processes, and onlookers, hold it for an instant."""
        patience = time.monotonic() + PATIENCE
        while True:
            self.directory.mkdir(parents=True, exist_ok=True)
            file = open_plain(self.lock_path, "a+")
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # the directory may have been set aside in between, and the lock with it
                if os.path.samestat(os.fstat(file.fileno()), self.lock_path.stat()):
                    return file
            file.close()
            if time.monotonic() > patience:
                raise BlockingIOError(f"{self.directory} is in use by {self.owner()}")
            time.sleep(0.05)

    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from, or what is left of one."""
        return self.checkpoint_path.exists() or previous(self.checkpoint_path).exists()

    def kept_path(self, iteration: int) -> Path:
        """The path of an iteration's weights, which are kept for analyses."""
        return self.checkpoint_path.with_name(f"iteration-{iteration}.ckpt")

    def remove_leftovers(self) -> None:
        """Remove temporary files of writers that were killed."""
        written = (self.record_path, self.metrics_path, self.config_path, self.checkpoint_path, self.progress_path)
        for path in (*written, self.checkpoint_path.with_name("iteration-*.ckpt")):
            for leftover in path.parent.glob(f".{path.name}.*"):
                leftover.unlink(missing_ok=True)
        self.progress_path.unlink(missing_ok=True)

    def set_aside(self) -> Path:
        """Move the directory to a hidden place beside it, so that a new run can start."""
        aside = self.directory.with_name(f".{self.directory.name}-until-{now().replace(':', '')}")
        os.replace(self.directory, aside)
        return aside

    def check_writable(self) -> None:
        """Raise UserError where a run would write through a link into somebody else's file."""
        for path in (self.metrics_path, self.log_path):
            check_plain(path)
        if self.config_path.parent.is_symlink():
            raise UserError(f"{self.config_path.parent} is a symbolic link; remove it")

    def metrics(self) -> list[dict[str, str]]:
        """The rows of metrics.csv; a last line that a kill cut off is left out.

        Raises:
            UserError: the file is damaged.
        """
        if not self.metrics_path.exists():
            return []
        try:
            whole_lines = read_regular(self.metrics_path, MOST_METRICS).rpartition("\n")[0]
            rows = list(csv.DictReader(whole_lines.splitlines()))
            if any(None in row or None in row.values() or int(row["step"]) < 1 for row in rows):
                raise ValueError("a row is incomplete")
        except (ValueError, KeyError, csv.Error) as error:
            raise damaged(self.metrics_path, error) from error
        return rows

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Append a row; it is on disk when this returns."""
        header = [] if self.metrics_path.exists() else [",".join(row)]
        with open_plain(self.metrics_path, "a+") as file:
            file.writelines(f"{line}\n" for line in [*header, ",".join(map(str, row.values()))])
            file.flush()
            sync(file.fileno())

    def keep_metrics_until(self, step: int) -> None:
        """Drop the rows after `step`, which a resumed run will write again."""
        rows = [row for row in self.metrics() if int(row["step"]) <= step]
        if not rows:
            self.metrics_path.unlink(missing_ok=True)
            return
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        write_atomically(self.metrics_path, "".join(f"{line}\n" for line in lines))


def end_of(record: dict[str, Any]) -> Any:
    """The iteration at which a completed run ended: the last one planned, or where a callback stopped it."""
    planned, stopped = record["config"].get("iterations"), record.get("stopped_early")
    return stopped if isinstance(stopped, int) and isinstance(planned, int) and 0 < stopped < planned else planned


def previous(checkpoint: Path) -> Path:
    """The path of the checkpoint before this one."""
    return checkpoint.with_name(f"previous-{checkpoint.name}")


def chained(digest: str, row: Mapping[str, Any]) -> str:
    """The checksum of a curve's rows up to this one, given that of the rows before it ('' if there are none)."""
    line = ",".join(f"{name}={value}" for name, value in row.items())
    return hashlib.sha256(f"{digest}\n{line}".encode()).hexdigest()


def damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is damaged ({type(error).__name__}: {error}); repair it, or set its folder aside and start anew "
        "with force=true"
    )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
