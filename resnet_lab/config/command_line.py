"""What the commands that take Hydra's overrides share: Hydra itself, with the lab's rules for what it is given."""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from omegaconf import DictConfig

from resnet_lab import trust
from resnet_lab.checks import UserError
from resnet_lab.config import hydra_block
from resnet_lab.config.compose import CONF, register_resolvers


def run_command(task: Callable[[DictConfig], Any], config_name: str) -> None:
    """Call the task with conf/<config_name>.yaml as the command line changes it; an error is one sentence.

    This is `hydra.main` with an option more.
    """
    os.environ["PYTHONSAFEPATH"] = "1"  # no process that this one starts looks for modules in the current folder
    register_resolvers()
    hydra_block.register()
    version.setbase("1.3")
    parser = get_args_parser()
    parser.add_argument(
        trust.FLAG,
        action="append",
        default=[],
        metavar="PACKAGE",
        help="Let the config name nets, datasets, optimizers, schedules in a package of your own; repeatable",
    )
    args = parser.parse_intermixed_args()
    try:
        if args.experimental_rerun is not None:
            raise UserError("--experimental-rerun would unpickle a file, which can run code; give the overrides")
        trust.admit(args.trust_package)
        _run_hydra(
            args=args,
            args_parser=parser,
            task_function=trusting(task, args.trust_package),
            config_path=CONF,
            config_name=config_name,
        )
    except UserError as error:
        name = "resnet-lab" if config_name == "train" else f"resnet-lab-{config_name}"
        sys.exit(f"{name}: {error}")


def trusting(task: Callable[[DictConfig], Any], packages: list[str]) -> Callable[[DictConfig], Any]:
    """The task, which trusts the packages on whatever machine a launcher of Hydra's calls it."""

    @functools.wraps(task)
    def trusted(cfg: DictConfig) -> Any:
        trust.admit(packages)
        return task(cfg)

    return trusted
