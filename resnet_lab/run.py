"""One run, from its frozen config to its record: `python -m resnet_lab.run RUN_DIRECTORY`.

Every training happens in such a process of its own, started by the commands; so one run cannot harm
another, and the processes of a distributed run repeat nothing but this.
"""

import importlib
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from typing import Any

from omegaconf import OmegaConf

from resnet_lab.checks import UserError
from resnet_lab.provenance import provenance
from resnet_lab.record import EXIT_INTERRUPTED, Run, now
from resnet_lab.signals import Interrupted, handle_signals, raise_interrupted, stop_with_parent

log = logging.getLogger("resnet_lab")

JOBS = {"train": "resnet_lab.training", "throughput": "resnet_lab.throughput"}


def main() -> None:
    handle_signals(raise_interrupted)
    try:
        if "LOCAL_RANK" not in os.environ:
            stop_with_parent()
        sys.exit(start(Run(sys.argv[1])))
    except Interrupted:
        sys.exit(EXIT_INTERRUPTED)


def start(run: Run) -> int:
    """Run the config in the directory as its owner, or as a further process of a distributed run."""
    config: Any = OmegaConf.to_container(OmegaConf.load(run.config_path))
    set_up_logging(run)
    if int(os.environ.get("LOCAL_RANK", 0)) or int(os.environ.get("RANK", 0)):
        perform(run, config)
        return 0
    try:
        with run.ownership():
            return execute(run, config)
    except BlockingIOError as error:
        log.error("%s", error)
        return 1


def execute(run: Run, config: dict[str, Any]) -> int:
    """Do the job, say in the record how it ended, and return the exit code."""
    before = run.record()
    spent = before.get("seconds", 0) if before.get("status") in ("running", "interrupted") else 0
    run.update(status="running", error=None, traceback=None, started=now(), config=config, **provenance())
    started = time.perf_counter()

    def finish(status: str, **facts: Any) -> None:
        handle_signals(signal.SIG_IGN)  # what is left to do takes no time, and must be done
        seconds = round(spent + time.perf_counter() - started, 2)
        run.update(status=status, ended=now(), seconds=seconds, **facts)

    try:
        facts = perform(run, config)
    except Interrupted as stop:
        finish("interrupted", error=str(stop))
        log.warning("interrupted: %s", stop)
        return EXIT_INTERRUPTED
    except UserError as error:
        finish("failed", error=str(error))
        log.error("%s", error)
        return 1
    except Exception as error:
        finish("failed", error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
        log.exception("failed")
        return 1
    finish("completed", **facts)
    return 0


def perform(run: Run, config: dict[str, Any]) -> dict[str, Any]:
    """Do the config's job; return facts for the record."""
    job = importlib.import_module(JOBS[config["job"]])
    # after the import, which sets the level
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    facts: dict[str, Any] = job.perform(run, config)
    return facts


def set_up_logging(run: Run) -> None:
    """To the console and to train.log, unless the console is that file already."""
    console = logging.StreamHandler()
    handlers: list[logging.Handler] = [console]
    if sys.stderr.isatty():
        console.addFilter(lambda record: record.name != "resnet_lab.callbacks")  # the bar shows these
    if not (run.log_path.exists() and os.path.samestat(os.fstat(2), run.log_path.stat())):
        handlers.append(logging.FileHandler(run.log_path))
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=handlers
    )
    # images in memory need no workers; a curve is a point an evaluation, not one every so many steps
    for harmless in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",
        ".*LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", harmless)


if __name__ == "__main__":
    main()
