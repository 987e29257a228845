"""What one run leaves behind, and the rules of its directory. Standard library only.

outputs/<experiment_name>/<run_name>/seed<k>/
    record.json        what ran, how it ended, final errors
    metrics.csv        one row per evaluation, after `step` iterations; `lr` is the rate of the last of them
    checkpoints/       last.ckpt and the one before it
    train.log  .hydra/ TensorBoard's events

In record.json, beside the config and the errors, stands what the digits depend on:
    kernels            the CPU, the GPU, their libraries and settings (resnet_lab.training.kernels)
    versions           of Python and of all packages that touch pixels, nets or configs
    processes threads device channels_last compile strategy
    machine git        of which only machine.processor changes digits; interop_threads change none
    data               which images: their sha256 and their numbers
    earlier            stretches of a run that was resumed elsewhere: all of the above as it was `until` an
                       iteration, and the `changes` then
    accepted_changes   those that change digits, a line each: runtime.accept_changes=true let them pass
"""

import contextlib
import csv
import errno
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, TextIO

from resnet_lab.checks import UserError
from resnet_lab.files import (
    check_plain,
    open_plain,
    open_regular,
    read_json,
    read_regular,
)
from resnet_lab.text import one_line

EXIT_IN_USE = 73  # of a launcher's job alone: another launch was faster
FULL = (errno.ENOSPC, errno.EDQUOT)
RESERVE = 1 << 16  # bytes that the lock file holds for the record, should the disk fill up
PATIENCE = 2.0  # seconds until a directory counts as in use
# Limits on what is read of a file, so that one that somebody else made costs no more than its own run.
MOST_METRICS = 1 << 26  # bytes; half a million evaluations
MOST_PLANNED = 10_000  # runs of an experiment
MOST_EVALUATIONS = 1_000  # in one file

# Where and how a run is executed; everything else identifies it. A measurement of speed is about the runtime.
UNRESOLVED = {"hydra", "run_name", "run_dir"}  # these follow from the identity
EXECUTION = {
    "": {"seed", "experiment_name", "run_name", "run_dir", "output_root", "force", "runtime", "hydra", "verdict"},
    "data": {"root", "num_workers", "prefetch", "allow_unreadable", "max_images", "max_pixels"},
    "trainer": {"accelerator", "devices", "num_nodes", "strategy", "profiler"},
}


def run_name(config: dict[str, Any]) -> str:
    """A readable name and a short hash of what identifies the run."""
    return f"{label(config)}-{hash_of(identity(config))}"


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that makes it another experiment, whatever the seed and machine."""
    execution = EXECUTION[""] - ({"runtime"} if config.get("job") == "throughput" else set())
    kept = {key: value for key, value in config.items() if key not in execution}
    for block in ("data", "trainer"):
        if isinstance(kept.get(block), dict):
            kept[block] = {k: v for k, v in kept[block].items() if k not in EXECUTION[block]}
    if isinstance(kept.get("data"), dict):
        kept["data"] = identity_of_data(kept["data"], config["data"].get("root"))
    return kept


def identity_of_data(data: dict[str, Any], root: Any) -> dict[str, Any]:
    target = data.get("_target_")
    # these came into the YAML when runs had names already: null leaves the names as they are
    unsaid = {"subset"} if target == "resnet_lab.data.ImageNet" else {"subset", "std"}
    said = {key: value for key, value in data.items() if value is not None or key not in unsaid}
    # wherever the folder is, its name tells one set of images from another
    return said | ({"root": Path(str(root)).name} if target == "resnet_lab.data.ImageFolder" else {})


def same_run(before: Any, config: dict[str, Any]) -> bool:
    """Whether a record's config asks for the same run as this one."""
    return isinstance(before, dict) and not run_differences(before, config)


def run_differences(before: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """What makes another run of a config than of the one before."""
    old, new = (identity(c) | {"seed": c.get("seed")} for c in (before, config))
    return differences(old, new)


def hash_of_run(config: dict[str, Any]) -> str:
    """Of all that makes it this run, the seed included."""
    return hash_of(identity(config) | {"seed": config.get("seed")})


def differences(before: Any, after: Any, name: str = "") -> list[str]:
    """Where two resolved configs differ, as `model.depth=20 (was 56)`."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [f"{name}={after!r} (was {before!r})"]
    found = []
    for key in sorted(before.keys() | after.keys()):
        found += differences(before.get(key), after.get(key), f"{name}.{key}".lstrip("."))
    return found


def hash_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def label(config: dict[str, Any]) -> str:
    """For people: `plain-20`, `resnet-56-A`, or a function's own name and what makes its nets differ."""
    model = config["model"]
    name = str(model.get("_target_", "")).rpartition(".")[2]
    shortcut = model.get("shortcut")
    if name.startswith("resnet_"):
        name = "plain" if shortcut == "none" else "resnet"
    words = [name, model.get("depth"), shortcut if shortcut != "none" else None, model.get("module")]
    words += ["bn"] if model.get("batch_norm") is True else []
    return sanitize("-".join(str(word) for word in words if word is not None))


def sanitize(name: str) -> str:
    """The name as one path component of letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80] or "unnamed"


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

    def record(self) -> dict[str, Any]:
        """The record, or {} where there is none yet.

        Raises:
            UserError: it is damaged; so for the curves below.
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
            os.truncate(self.lock_path, 0)  # how a run ended must find space
            write_atomically(self.record_path, text)

    def status(self) -> str:
        """`missing`, `running`, `completed`, `failed` or `interrupted`."""
        status = str(self.record().get("status", "missing"))
        # a process that was killed could not say so
        return "interrupted" if status == "running" and self.owner() is None else status

    def is_complete(self) -> bool:
        """Whether the record says so and, of a training, the curve ends where the config says that it does."""
        record = self.record()
        config = record.get("config")
        if record.get("status") != "completed" or not isinstance(config, dict):
            return False
        if config.get("job", "train") != "train":
            return True
        last = [int(row["step"]) for row in self.metrics()[-1:]]
        return last == [record.get("iterations")] == [config.get("iterations")]

    def owner(self) -> str | None:
        """Who runs in this directory now, or None."""
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
        """Exclusive use of the directory, as the descriptor of the lock; the system ends it when no
        process that has the descriptor is left, however they die.

        Raises:
            BlockingIOError: somebody else has it.
        """
        with self._locked() as file:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename} since {now()}\n".ljust(RESERVE))
            file.flush()
            yield file.fileno()

    def _locked(self) -> TextIO:
        """The lock file, locked; processes that were just killed, and those who look, have it for an instant."""
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
        """Whether there is one to go on from, or what is left of one."""
        return self.checkpoint_path.exists() or previous(self.checkpoint_path).exists()

    def remove_leftovers(self) -> None:
        """What writers that were killed left beside the files."""
        for path in (self.record_path, self.metrics_path, self.config_path, self.checkpoint_path):
            for leftover in path.parent.glob(f".{path.name}.*"):
                leftover.unlink()

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
        """The rows of metrics.csv; a last line that was cut off by a kill is left out."""
        if not self.metrics_path.exists():
            return []
        try:
            whole_lines = read_regular(self.metrics_path, MOST_METRICS).rpartition("\n")[0]
            rows = list(csv.DictReader(whole_lines.splitlines()))
            if any(None in row or None in row.values() or int(row["step"]) < 1 for row in rows):
                raise ValueError("a row is not whole")
        except (ValueError, KeyError, csv.Error) as error:
            raise damaged(self.metrics_path, error) from error
        return rows

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add a row and have it on the disk before returning."""
        header = [] if self.metrics_path.exists() else [",".join(row)]
        with open_plain(self.metrics_path, "a+") as file:
            file.writelines(f"{line}\n" for line in [*header, ",".join(map(str, row.values()))])
            file.flush()
            sync(file.fileno())

    def keep_metrics_until(self, step: int) -> None:
        """Drop the rows after `step`, which a resumed run is going to write again."""
        rows = [row for row in self.metrics() if int(row["step"]) <= step]
        if not rows:
            self.metrics_path.unlink(missing_ok=True)
            return
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        write_atomically(self.metrics_path, "".join(f"{line}\n" for line in lines))


def previous(checkpoint: Path) -> Path:
    """Where the checkpoint before that one is."""
    return checkpoint.with_name(f"previous-{checkpoint.name}")


def chained(digest: str, row: Mapping[str, Any]) -> str:
    """The checksum of a curve's rows up to this one, from that of the rows before it (of none: '')."""
    line = ",".join(f"{name}={value}" for name, value in row.items())
    return hashlib.sha256(f"{digest}\n{line}".encode()).hexdigest()


def damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} is damaged ({type(error).__name__}: {error}); mend it, or set its folder aside and start anew "
        "with force=true"
    )


def write_atomically(path: Path, *content: str | bytes | memoryview) -> None:
    """Put a whole new file at `path`; a link that is there is replaced, and what it leads to is left alone."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)  # or a link that was put there would be followed
    try:
        with beside.open("xb") as file:
            file.writelines(part.encode() if isinstance(part, str) else part for part in content)
            file.flush()
            sync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def no_space(error: Exception, where: object) -> str | None:
    """What helps against a full disk, where that is what went wrong."""
    if not isinstance(error, OSError) or error.errno not in FULL:
        return None
    return f"no space left for {where} ({type(error).__name__}: {error}); free some, and the same command goes on"


def sync(descriptor: int) -> None:
    """Have what was written on the disk, where the filesystem can promise that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def add_to_plan(experiment: Path, directories: list[str]) -> None:
    """Note in the experiment's plan.json which runs were asked for, so that a missing one is missed."""
    experiment.mkdir(parents=True, exist_ok=True)
    with open_plain(experiment / ".plan.lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two sweeps may add at once
        plan = planned(experiment) | {os.path.relpath(directory, experiment) for directory in directories}
        write_atomically(experiment / "plan.json", json.dumps(sorted(plan), indent=2) + "\n")


def planned(experiment: Path) -> set[str]:
    """The run directories asked for, relative to the experiment's."""
    path = experiment / "plan.json"
    if not path.exists():
        return set()
    try:
        plan = read_json(path)
        if not isinstance(plan, list) or not all(isinstance(run, str) and is_inside(run) for run in plan):
            raise ValueError("not a list of folders in it")
        if len(plan) > MOST_PLANNED:
            raise ValueError(f"more than {MOST_PLANNED} runs")
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove it and run the sweep's command again") from error
    return set(plan)


def is_inside(name: str) -> bool:
    """Whether it leads nowhere out of the folder it is relative to."""
    path = PurePath(name)
    return "\0" not in name and not path.is_absolute() and ".." not in path.parts


def note_evaluation(path: Path, result: dict[str, Any]) -> None:
    """Add an evaluation to the file; one of the same protocol and weights is replaced."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    key = {"protocol", "run", "iteration", "weights", "members", "of"}
    with open_plain(path.with_name(f".{path.name}.lock"), "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two evaluations may end at once
        kept = [e for e in evaluations(path) if {k: e.get(k) for k in key} != {k: result.get(k) for k in key}]
        write_atomically(path, json.dumps([*kept, result | {"evaluated": now()}], indent=2) + "\n")


def digest_of(checkpoint: Path) -> str:
    """The checksum that a checkpoint of ours begins with, in hexadecimal."""
    with open_regular(checkpoint) as file:
        return file.read(32).hex()


def evaluations(path: Path) -> list[dict[str, Any]]:
    """What `resnet-lab-eval` has noted there, or nothing."""
    if not path.exists():
        return []
    try:
        found: list[dict[str, Any]] = read_json(path)
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise ValueError("not a list of evaluations")
        if len(found) > MOST_EVALUATIONS:
            raise ValueError(f"more than {MOST_EVALUATIONS} evaluations")
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove it and evaluate again") from error
    return found
