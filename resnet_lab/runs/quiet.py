"""Library warnings that do not apply here."""

import logging
import warnings

HARMLESS = (
    # images in memory need no workers
    ".*does not have many workers.*",
    # a curve has one point per evaluation, not one every so many steps
    ".*smaller than the logging interval.*",
    ".*LeafSpec.*",
    # a cluster's machine can also be used directly
    ".*`srun` command is available.*",
    # frozen parts, and frozen batch normalization
    ".*in eval mode at the start of training.*",
    # its replacement would mix the processes' buffers at the start
    ".*`broadcast_buffers` is deprecated.*",
)


def silence() -> None:
    for pattern in HARMLESS:
        warnings.filterwarnings("ignore", pattern)
    for library in ("pytorch_lightning", "lightning_fabric", "faster_coco_eval"):
        logging.getLogger(library).setLevel(logging.WARNING)
