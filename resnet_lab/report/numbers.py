"""The numbers that the paper prints, in paper.csv: the one place that they are typed in.

Errors in percent as they are printed; multiply-adds in billions; parameters with their M. `table` is the paper's:
2 and 3 are ten-crop errors on the ImageNet validation images, 4 is fully convolutional at several scales, 5 are
ensembles on the test images, 6 is CIFAR-10. Names of nets: plain-34, resnet-34-B (ImageNet), resnet-20 (CIFAR-10).
"""

import csv
from functools import cache
from pathlib import Path

PAPER = Path(__file__).with_name("paper.csv")


@cache
def paper_numbers() -> dict[tuple[int, str, str], str]:
    """Table, net and measure to the number as it is printed."""
    with PAPER.open(newline="") as file:
        return {(int(row["table"]), row["net"], row["measure"]): row["value"] for row in csv.DictReader(file)}


def paper_number(table: int, net: str, measure: str) -> str | None:
    """The number as it is printed, or None where the paper gives none."""
    return paper_numbers().get((table, net, measure))
