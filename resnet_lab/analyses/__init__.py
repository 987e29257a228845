"""What can be measured on a net: one function per analysis, from a net and its data to rows.

An analysis is called with `net`, `data` (`ImageData`) and its own settings, and returns rows: a list of flat dicts
with the same keys, whose values are numbers or text. It leaves the net, the files and torch's random state as they
were, and draws random numbers from a generator of its own. A YAML in conf/analysis names it.

One with an argument `initial` is also given the net with the weights that its run began with, or None. One with an
argument `done` yields its rows one by one; `done` are those that it yielded before it was
interrupted, in their order.
"""

from resnet_lab.analyses.additions import addition_grows, gradient_identity
from resnet_lab.analyses.auxiliary import auxiliary
from resnet_lab.analyses.constructed import constructed
from resnet_lab.analyses.costs import costs
from resnet_lab.analyses.easier import easier
from resnet_lab.analyses.ensemble import ensemble
from resnet_lab.analyses.gates import gates
from resnet_lab.analyses.interpolation import interpolation
from resnet_lab.analyses.landscape import landscape
from resnet_lab.analyses.lesions import lesion, lesions
from resnet_lab.analyses.paths import paths
from resnet_lab.analyses.receptive_field import receptive_field
from resnet_lab.analyses.responses import responses
from resnet_lab.analyses.roughness import roughness
from resnet_lab.analyses.shattered import shattered
from resnet_lab.analyses.signals import signals

__all__ = [
    "addition_grows",
    "auxiliary",
    "constructed",
    "costs",
    "easier",
    "ensemble",
    "gates",
    "gradient_identity",
    "interpolation",
    "landscape",
    "lesion",
    "lesions",
    "paths",
    "receptive_field",
    "responses",
    "roughness",
    "shattered",
    "signals",
]
