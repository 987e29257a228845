"""What a run begins with, tried before its directory is made. Imports torch only where it is needed for that."""

from typing import Any

from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import hash_of
from resnet_lab.runs.quiet import silence

_fit: set[str] = set()  # what was tried already: the jobs of a sweep are often alike


def check_start(config: dict[str, Any]) -> None:
    """Refuse weights that cannot be read or do not fit the net, and frozen parts that it does not have.

    A run that has a checkpoint resumes from that.

    Raises:
        UserError: there are such.
    """
    run = Run(config["run_dir"])
    tried = hash_of([config[key] for key in ("model", "data", "weights_sha256", "weights_head", "freeze")])
    nothing = config["weights"] is None and not config["freeze"]
    if nothing or tried in _fit or (run.has_checkpoint() and not config["force"]):
        return
    from resnet_lab.training.job import build_all  # torch
    from resnet_lab.weights.start import start_from

    silence()
    start_from(build_all(config)[1].net, config)
    _fit.add(tried)
