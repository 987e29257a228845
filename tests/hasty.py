"""`resnet-lab` that looks at what it shows more often than once a second, which a tiny run may last no longer."""

from resnet_lab import train
from resnet_lab.sweeps.table import JobsTable
from resnet_lab.training import watching


def main() -> None:
    watching.LOOK_EVERY = JobsTable.EVERY = 0.05
    train.main()
