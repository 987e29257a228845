"""`resnet-lab-eval`: evaluate the stored weights of runs again, and hold the errors against their records."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from resnet_lab.checks import UserError, check_safe
from resnet_lab.compose import CONF, check_keys, register_resolvers, to_plain
from resnet_lab.quiet import silence
from resnet_lab.record import Run, hash_of_run
from resnet_lab.report.results import find_runs

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

# Errors are counts over a number of images, so a true one comes back to the last digit.
TOLERANCE = 1e-9


@hydra.main(version_base="1.3", config_path=CONF, config_name="eval")
def _task(cfg: DictConfig) -> None:
    try:
        check_safe()
        check_keys(cfg, "eval")
        outcomes = [hold_against_record(Run(path), to_plain(cfg.trainer)) for path in chosen(cfg.runs)]
    except (UserError, ValueError) as error:
        sys.exit(f"resnet-lab-eval: {error}")
    sys.exit(0 if True in outcomes and False not in outcomes else 1)


def chosen(runs: str | Iterable[str]) -> list[Path]:
    """The run directories at and under the paths.

    Raises:
        UserError: there are none.
    """
    paths = [Path(path).expanduser() for path in ([runs] if isinstance(runs, str) else runs)]
    if missing := [str(path) for path in paths if not path.exists()]:
        raise UserError(f"runs: {missing[0]} does not exist")
    found = sorted({run for path in paths for run in find_runs(path.resolve()) if Run(run).record_path.exists()})
    if not found:
        raise UserError(f"runs: there are none in {', '.join(map(str, paths))}")
    return found


def hold_against_record(run: Run, trainer: dict[str, Any]) -> bool | None:
    """Print each error as recorded and as evaluated now; return whether all agree, None if there are none."""
    try:
        record = run.record()
        if run.status() != "completed" or record["config"].get("job") != "train":
            print(f"{run.directory}: {run.status()}, nothing to evaluate")
            return None
        errors = evaluate(run, record, trainer)
        differ = {key for key, error in errors.items() if not abs(float(record[key]) - error) < TOLERANCE}
    except Exception as error:  # whatever an edited record leads to; the other runs are to be evaluated
        print(f"{run.directory}: {type(error).__name__}: {error}")
        return False
    print(f"{run.directory}: {'NOT as recorded' if differ else 'as recorded'}")
    for key, value in errors.items():
        print(f"  {key} {value:.4f} %" + (f", recorded as {record[key]}" if key in differ else ""))
    return not differ


def evaluate(run: Run, record: dict[str, Any], settings: dict[str, Any]) -> dict[str, float]:
    """The errors of the stored weights, in percent, under the record's names.

    Raises:
        UserError: the weights are damaged, or not of the last iteration, or the images are others.
    """
    import torch  # not needed for --help

    from resnet_lab.build import build
    from resnet_lab.checkpoint import read_checkpoint
    from resnet_lab.training import build_all

    silence()
    checkpoint = read_checkpoint(run.checkpoint_path) if run.checkpoint_path.exists() else None
    if checkpoint is None:
        raise UserError(f"{run.checkpoint_path} is missing or damaged")
    if checkpoint["global_step"] != record["iterations"]:
        raise UserError(f"the weights are of iteration {checkpoint['global_step']}, not {record['iterations']}")
    if checkpoint["callbacks"]["Curves"]["run"] != hash_of_run(record["config"]):
        raise UserError("the weights are not of the config in the record")
    torch.set_num_threads(record["threads"])
    data, classifier = build_all(record["config"])
    data.prepare()
    if data.checksum != record["data"]["sha256"]:
        raise UserError(f"the images are not those of the record (sha256 {data.checksum[:12]})")
    classifier.load_state_dict(checkpoint["state_dict"])
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    settings = settings | {"precision": record["config"]["trainer"]["precision"]}
    trainer: Trainer = build("trainer", settings, use_distributed_sampler=False, **quiet)
    trainer.test(classifier, data, verbose=False)
    values = dict(trainer.callback_metrics)
    trainer.validate(classifier, data, verbose=False)
    values |= trainer.callback_metrics
    names = {"train_error_clean": "train_clean/error", "val_error": "val/error", "test_error": "test/error"}
    names |= {"test_error_top5": "test/error_top5"} if "test/error_top5" in values else {}
    return {key: float(values[name]) for key, name in names.items()}


def main() -> None:
    register_resolvers()
    _task()


if __name__ == "__main__":
    main()
