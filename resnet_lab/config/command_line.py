"""The common entry of all commands that take Hydra's overrides: Hydra itself, under the lab's rules."""

import argparse
import functools
import os
from collections.abc import Callable
from typing import Any

from hydra import version
from hydra._internal import utils
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from resnet_lab import __version__, trust
from resnet_lab.checks import UserError
from resnet_lab.config import help, hydra_block
from resnet_lab.config.compose import CONF, register_resolvers, resolved
from resnet_lab.config.hydra_errors import sentence
from resnet_lab.endings import one_sentence

MODES = ("run", "multirun", "cfg", "info", "shell_completion")  # of Hydra's options

Task = Callable[[DictConfig], Any]


def run_command(perform: Callable[[dict[str, Any]], Any], name: str) -> None:
    """Call `perform` with conf/<name>.yaml as changed on the command line, resolved and checked."""

    def task(cfg: DictConfig) -> Any:
        return perform(resolved(cfg, name))

    run_hydra(task, name)


def run_hydra(task: Task, config_name: str) -> None:
    """Call the task with conf/<config_name>.yaml as changed on the command line.

    This is `hydra.main` with one more option, and it ends as every command of the lab does.
    """
    command = "resnet-lab" if config_name == "train" else f"resnet-lab-{config_name}"
    os.environ["PYTHONSAFEPATH"] = "1"  # child processes import nothing from the current folder
    register_resolvers()
    hydra_block.register()
    help.register()
    version.setbase("1.3")
    parser = arguments()
    args = parser.parse_intermixed_args()
    with one_sentence(command):
        check_one_mode(args)
        if args.experimental_rerun is not None:
            raise UserError("--experimental-rerun would unpickle a file, which can run code; type the overrides")
        trust.admit(args.trust_package)
        # Hydra's own would print errors in its own way
        utils.run_and_report = lambda func: func()
        try:
            utils._run_hydra(
                args=args,
                args_parser=parser,
                task_function=as_ours(task, args.trust_package, command),
                config_path=CONF,
                config_name=config_name,
            )
        except CompactHydraException as error:
            raise UserError(sentence(error)) from error


def check_one_mode(args: argparse.Namespace) -> None:
    """Refuse two options of which each says what the command is to do."""
    given = [f"--{name.replace('_', '-')}" for name in MODES if getattr(args, name)]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} do not go together; give one of them")


def arguments() -> argparse.ArgumentParser:
    parser = utils.get_args_parser()
    shown: Any = parser._option_string_actions["--version"]
    shown.version, shown.help = f"resnet-lab {__version__}", "Show the lab's version and exit"
    trust.add_flag(parser, "Let the config name code in a package of your own; repeatable")
    return parser


def as_ours(task: Task, packages: list[str], command: str) -> Task:
    """The task, made to trust the packages on whichever machine one of Hydra's launchers calls it."""

    @functools.wraps(task)
    def called(cfg: DictConfig) -> Any:
        trust.admit(packages)
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # its launcher must see errors
            return task(cfg)
        with one_sentence(command):  # caught here, before Hydra announces the error with a line of its own
            return task(cfg)

    return called
