"""Plain and residual networks side by side: the experiments of "Deep Residual Learning" (arXiv:1512.03385).

`resnet_lab.load(path)` opens a finished run, `resnet_lab.runs("outputs")` is a table of runs.
"""

import sys
from types import ModuleType
from typing import Any

from resnet_lab import runs

__all__ = ("load", "runs")
__version__ = "0.1.0"


class _Runs(ModuleType):
    """The package `runs`, which can be called as well: an import of one of its modules makes `resnet_lab.runs` the
    package, so that a function of that name would be lost."""

    def __call__(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        from resnet_lab.notebook import runs

        return runs(*args, **kwargs)


sys.modules[runs.__name__].__class__ = _Runs


def __getattr__(name: str) -> Any:
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from resnet_lab.notebook import load  # Hydra and more, for which no command has to wait

    return load
