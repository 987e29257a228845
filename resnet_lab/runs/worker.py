"""One of a run's training processes, started by its supervisor: `python -m resnet_lab.runs.worker DIRECTORY`."""

import copy
import importlib
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from typing import Any

from omegaconf import OmegaConf

from resnet_lab import trust
from resnet_lab.checks import UserError, check_safe
from resnet_lab.endings import with_place
from resnet_lab.files import no_space, open_plain
from resnet_lab.runs.bar import CLEAR
from resnet_lab.runs.directory import Run, now
from resnet_lab.runs.jobs import JOBS
from resnet_lab.runs.processes import SCRATCH, rank
from resnet_lab.runs.provenance import provenance
from resnet_lab.runs.quiet import silence
from resnet_lab.runs.signals import (
    EXIT_INTERRUPTED,
    PARENT,
    Interrupted,
    end,
    end_with_parent,
    handle_signals,
    ignore_signals,
    leave,
)
from resnet_lab.text import visible

log = logging.getLogger("resnet_lab")

SHOWN_BY_BAR = ("resnet_lab.training.callbacks", "resnet_lab.training.watching")


def main() -> None:
    handle_signals(leave)
    end_with_parent(signal.SIGKILL, int(os.environ[PARENT]))
    directory, *_ = trust.take(sys.argv[1:])
    # the folder that multiprocessing would make, and leave behind if this process is killed
    multiprocessing.current_process()._config["tempdir"] = os.environ[SCRATCH]  # type: ignore[attr-defined]
    run = Run(directory)
    config: Any = OmegaConf.to_container(OmegaConf.load(run.config_path))
    set_up_logging(run)
    code = execute(run, config)
    logging.shutdown()
    sys.stdout.flush()
    end(code)


def execute(run: Run, config: dict[str, Any]) -> int:
    """Do the job, record how it ended, and return the exit code."""
    resumes = run.has_checkpoint()
    spent = run.record().get("seconds", 0) if resumes else 0
    started = time.perf_counter()

    def tell(**facts: Any) -> None:
        if rank() == 0:
            run.update(**facts)

    def finish(status: str, **facts: Any) -> None:
        ignore_signals()  # what is left takes no time, and must be done
        tell(status=status, ended=now(), seconds=round(spent + time.perf_counter() - started, 2), **facts)

    try:
        check_safe()
        # a resumed run keeps its earlier provenance until it is known to resume here
        tell(started=now(), config=config, **({} if resumes else provenance()))
        finish("completed", **perform(run, config))
        return 0
    except Interrupted as stop:
        finish("interrupted", error=str(stop))
        log.warning("interrupted: %s", stop)
        return EXIT_INTERRUPTED
    except UserError as error:
        finish("failed", error=str(error), traceback=None)
        log.error("%s", error)
        return 1
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        remedy = explain(error, run)
        finish("failed", error=remedy or told, traceback=traceback.format_exc())
        if remedy:
            log.error("%s", remedy)
        else:
            log.exception("%s; the traceback is in %s", with_place(error), run.log_path)
        return 1


def explain(error: Exception, run: Run) -> str | None:
    """The error, and the remedy where it is known."""
    told = f"{type(error).__name__}: {error}"
    if full := no_space(error, run.directory):
        return full
    if isinstance(error, MemoryError) or any(sign in told for sign in ("OutOfMemory", "can't allocate memory")):
        return f"out of memory ({told.splitlines()[0]}); try a smaller data.batch_size or more trainer.devices"
    return None


def perform(run: Run, config: dict[str, Any]) -> dict[str, Any]:
    """Do the config's job; return facts for the record."""
    job = importlib.import_module(JOBS[config["job"]].module)
    silence()  # again, as the import sets the level
    facts: dict[str, Any] = job.perform(run, config)
    return facts


class Visible(logging.Formatter):
    """Makes control characters, which file names may hold, visible instead of obeyed."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


class Brief(Visible):
    """Leaves out the traceback, which train.log has."""

    def format(self, record: logging.LogRecord) -> str:
        without = copy.copy(record)
        without.exc_info = without.exc_text = None
        return super().format(without)


class OverBar(Brief):
    """Overwrites the bar, which is redrawn below."""

    def format(self, record: logging.LogRecord) -> str:
        return CLEAR + super().format(record)


def set_up_logging(run: Run) -> None:
    """Log to the console and to train.log, unless the console is that file already."""
    console = logging.StreamHandler()
    handlers: list[logging.Handler] = [console]
    if sys.stderr.isatty():
        console.addFilter(lambda record: record.name not in SHOWN_BY_BAR)
    if not (run.log_path.exists() and os.path.samestat(os.fstat(2), run.log_path.stat())):
        handlers.append(logging.StreamHandler(open_plain(run.log_path, "a+")))
    who = f"process {rank()}: " if rank() else ""
    for handler in handlers:
        form = Brief if handler is console and len(handlers) > 1 else Visible
        form = OverBar if handler is console and sys.stderr.isatty() else form
        handler.setFormatter(form(f"%(asctime)s {who}%(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING if rank() else logging.INFO, handlers=handlers)
    logging.raiseExceptions = False  # a full disk must not end a run through its log
    silence()


if __name__ == "__main__":
    main()
