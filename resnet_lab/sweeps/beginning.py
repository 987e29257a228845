"""Checks of a run that need torch, made before its directory is. Imported only where one of them applies."""

from typing import Any

from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import hash_of
from resnet_lab.runs.quiet import silence

OPTIONS = ("weights_sha256", "freeze", "callbacks")

_fit: set[str] = set()  # what has passed already: a sweep's jobs are often alike


def check_start(config: dict[str, Any]) -> None:
    """Refuse weights that cannot be read or do not fit the net, frozen parts that it does not have, and callbacks
    that do not accept their settings.

    A run that has a checkpoint resumes from it.

    Raises:
        UserError: one of these is found.
    """
    run = Run(config["run_dir"])
    tried = hash_of([config.get(key) for key in ("model", "data", "weights_head", *OPTIONS)])
    if (
        not any(config.get(key) for key in OPTIONS)
        or tried in _fit
        or (run.has_checkpoint() and not config["force"])
    ):
        return
    from resnet_lab.training.job import build_all, build_callbacks  # torch
    from resnet_lab.weights.start import start_from

    silence()
    start_from(build_all(config)[1].net, config)
    build_callbacks(config)
    _fit.add(tried)
