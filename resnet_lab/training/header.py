"""What a run says of itself before it trains."""

from datetime import datetime
from pathlib import Path
from typing import Any

from resnet_lab.config.tasks import ERRORS, name_of
from resnet_lab.runs.directory import Run
from resnet_lab.runs.swept import title


def header(
    run: Run, config: dict[str, Any], facts: dict[str, Any], epoch: int, checkpoint: Path | None, step: int
) -> list[str]:
    """The lines.

    Args:
        facts: those of the record.
        epoch: iterations in one.
        checkpoint: the one to resume from, at iteration `step`; None to start anew.
    """
    data = facts["data"]
    held_out = "held out" if config["data"]["holdout"] else "the test images"
    processes, threads = facts["processes"], counted(facts["threads"], "thread")
    several = f"{processes} processes of " if processes > 1 else ""
    resumes = f", resumed from {step:,} (saved {saved(checkpoint)})" if checkpoint else ""
    return [
        f"{title(config)}, seed {config['seed']}: {facts['parameters']:,} parameters",
        *([f"task: {task}. {ERRORS[task]}"] if (task := name_of(config)) in ERRORS else []),
        f"folder: {run.directory}",
        *([f"weights: {facts['weights']['note']}"] if "weights" in facts else []),
        *([f"not trained: {', '.join(config['freeze'])}"] if config.get("freeze") else []),
        f"{data['name']}: {data['train_images']:,} training images, {data['val_images']:,} validation images "
        f"({held_out})",
        f"{facts['device']}: {several}{threads}",
        f"{counted(config['iterations'], 'iteration')}, {epoch:,} an epoch{resumes}",
    ]


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("s" if number != 1 else "")


def saved(checkpoint: Path) -> str:
    """When the checkpoint was saved, in local time as the log has it."""
    return datetime.fromtimestamp(checkpoint.stat().st_mtime).isoformat(" ", "minutes")
