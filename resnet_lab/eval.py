"""`resnet-lab-eval`: stored weights against their records, or by one of the paper's protocols."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_lab.checks import UserError
from resnet_lab.config import tasks
from resnet_lab.config.command_line import run_command
from resnet_lab.endings import message_of
from resnet_lab.evaluation.chosen import Stored, as_list, checked_record, chosen, fit_to_evaluate, say
from resnet_lab.runs.identity import hash_of, hash_of_run
from resnet_lab.runs.noted import evaluations, note_evaluation
from resnet_lab.runs.processes import CORES, NO_GPU, lacks_gpu
from resnet_lab.runs.quiet import silence

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from resnet_lab.data import ImageData
    from resnet_lab.evaluation.stored import Subject
    from resnet_lab.tasks.module import TaskModule

# Errors are counts over a number of images, so a true one comes back to the last digit.
TOLERANCE = 1e-9
# As many as the run had, so that sums are taken in the same order, as far as a machine can start them.
MOST_THREADS = max(CORES, 64)


def _task(config: dict[str, Any]) -> None:
    try:
        sys.exit(perform(config))
    except RuntimeError as error:
        if "LOCAL_RANK" not in os.environ:
            raise
        # the other processes' errors only repeat this one
        raise UserError(f"one of the processes ended: {str(error).splitlines()[0]}") from error


def perform(config: dict[str, Any]) -> int:
    """Evaluate what the config names, and return the exit code.

    Raises:
        UserError: settings that do not fit, or weights that cannot be evaluated.
    """
    if lacks_gpu(config["trainer"]):
        raise UserError(NO_GPU.format(config["trainer"]["accelerator"]))
    recorded = config["protocol"].get("name") == "recorded"
    if (config["runs"] is None) == (config["weights"] is None):
        raise UserError("runs=PATH or weights=FILE must be given, one of them alone")
    if config["weights"] is not None:
        if config["ensemble"]:
            raise UserError("ensemble=true goes with runs, and not with weights=FILE")
        return evaluate_weights(config)
    if config.get("model") or config.get("data"):
        raise UserError("model and data go with weights=FILE; runs have their own")
    if recorded and config["ensemble"]:
        raise UserError("ensemble=true needs a protocol: center_crop, ten_crop or multi_scale")
    found, whole = chosen(config["runs"])
    if recorded:
        outcomes = [hold_against_record(stored, config["trainer"]) for stored in found]
        return 0 if all(outcomes) and whole else 1
    return evaluate_runs(found, config) or int(not whole)


def hold_against_record(stored: Stored, trainer: dict[str, Any]) -> bool | None:
    """Print each error as recorded and as evaluated now; return whether all agree, None if there are none."""
    run = stored.run
    try:
        record = checked_record(run)
        if run.status() != "completed":
            say(f"{run.directory}: {run.status()}, nothing to evaluate")
            return None
        if not record["iterations"]:
            say(f"{run.directory}: a net at initialization, nothing to evaluate")
            return True
        errors = evaluate(stored, record, trainer)
        differ = {key for key, error in errors.items() if not abs(float(record[key]) - error) < TOLERANCE}
    except Exception as error:  # whatever an edited record leads to; the other runs are to be evaluated
        say(f"{run.directory}: {message_of('resnet-lab-eval', error)}")
        return False
    say(f"{run.directory}: {'NOT as recorded' if differ else 'as recorded'}")
    for key, value in errors.items():
        say(f"  {key} {value:.4f} %" + (f", recorded as {record[key]}" if key in differ else ""))
    return not differ


def evaluate(stored: Stored, record: dict[str, Any], settings: dict[str, Any]) -> dict[str, float]:
    """The errors of the stored weights, in percent, under the record's names.

    Raises:
        UserError: the weights are damaged, or not of the last iteration, or the images are others.
    """
    subject, module = opened(stored, record)
    if subject.iteration != record["iterations"]:
        raise UserError(f"the weights are of iteration {subject.iteration}, not {record['iterations']}")
    data = subject.data
    data.prepare()
    trainer = make_trainer(settings | {"precision": record["config"]["trainer"]["precision"]})
    trainer.test(module, data, verbose=False)
    values = dict(trainer.callback_metrics)
    trainer.validate(module, data, verbose=False)
    values |= trainer.callback_metrics
    names = {"train_error_clean": "train_clean/error", "val_error": "val/error", "test_error": "test/error"}
    names |= {tag.replace("/", "_"): tag for tag in values if tag.startswith("test/") and tag != "test/loss"}
    return {key: float(values[name]) for key, name in names.items() if name in values}


def opened(stored: Stored, record: dict[str, Any]) -> tuple["Subject", "TaskModule"]:
    """The net with the stored weights, and the module that it was trained as, compiled if it was.

    Raises:
        UserError: the weights are damaged or of another run.
    """
    import torch  # not needed for --help

    from resnet_lab.evaluation.stored import open_run
    from resnet_lab.training.job import build_module

    silence()
    torch.set_num_threads(min(record["threads"], MOST_THREADS))
    subject = open_run(stored.checkpoint)
    return subject, build_module(subject.config, subject.data, subject.net)


def make_trainer(settings: dict[str, Any]) -> "Trainer":
    from resnet_lab.config.build import build

    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer: Trainer = build("trainer", settings, use_distributed_sampler=False, **quiet)
    return trainer


def evaluate_runs(found: list[Stored], config: dict[str, Any]) -> int:
    """Each run by the protocol, or all as one ensemble; the errors go beside the records.

    Raises:
        UserError: an ensemble has too few complete runs.
    """
    complete = fit_to_evaluate(found, config["runs"])
    failed = int(len(complete) < len(found))
    if len(complete) < (2 if config["ensemble"] else 1):
        raise UserError(f"runs={config['runs']} has {len(complete)} complete runs, too few")
    prepared: dict[str, ImageData] = {}  # reading them and taking their mean can take long
    if config["ensemble"]:
        evaluate_ensemble(complete, config, prepared)
        return failed
    for stored in complete:
        path = stored.run.directory / "evaluations.json"
        try:
            evaluations(path)  # a damaged one is to be told of before the work is done
            member, fact = make_member(stored, prepared)
            note_evaluation(path, evaluate_and_print([member], config["protocol"], config["trainer"]) | fact)
        except Exception as error:  # the other runs are to be evaluated
            say(f"{stored.run.directory}: {message_of('resnet-lab-eval', error)}")
            failed = 1
    return failed


def evaluate_ensemble(complete: list[Stored], config: dict[str, Any], prepared: dict[str, "ImageData"]) -> None:
    """Average all runs' scores.

    Raises:
        UserError: a run is there twice, or there is no folder among those given that has them all.
    """
    directories = [str(stored.run.directory) for stored in complete]
    folder = Path(os.path.commonpath(directories))
    given = [Path(path).expanduser().resolve() for path in as_list(config["runs"])]
    if not any(folder.is_relative_to(path) for path in given) and len({p.parent for p in given}) > 1:
        raise UserError(
            f"the errors of an ensemble are noted in the folder that has all its runs, and {folder} is not in "
            "runs; give one folder that has them all"
        )
    evaluations(folder / "ensembles.json")
    members, facts = zip(*(make_member(stored, prepared) for stored in complete), strict=True)
    if len({fact["run"] for fact in facts}) < len(facts):
        raise UserError(f"runs={config['runs']} has a run twice, which makes no ensemble")
    names = [os.path.relpath(directory, folder) for directory in directories]
    result = evaluate_and_print(list(members), config["protocol"], config["trainer"])
    result |= {"members": names, "of": list(facts)}
    note_evaluation(folder / "ensembles.json", result)


def make_member(stored: Stored, prepared: dict[str, "ImageData"]) -> tuple["Subject", dict[str, Any]]:
    """The net with its stored weights, and of which run and iteration they are."""
    subject, _ = opened(stored, stored.run.record())
    tasks.check_classifies(subject.config, "protocols are")
    images = hash_of([subject.config["data"], subject.data.expected_checksum])
    data = prepared.setdefault(images, subject.data)
    data.prepare()
    fact = {"run": hash_of_run(subject.config), "iteration": subject.iteration, "weights": subject.digest}
    return subject._replace(data=data), fact


def evaluate_weights(config: dict[str, Any]) -> int:
    """The weights in a file, which has no record: for the model and the data of the config.

    Raises:
        UserError: model or data is missing, or the file does not fit them.
    """
    from resnet_lab.evaluation.stored import open_weights

    if not config.get("model") or not config.get("data"):
        raise UserError("weights=FILE needs model=... and data=...")
    weights = config["weights"]
    if not isinstance(weights, str):
        raise UserError(f"weights must be a path (in quotes, if it is a number), got {weights!r}")
    silence()
    subject = open_weights(Path(weights).expanduser(), config["model"], config["data"])
    say(subject.note)
    subject.data.prepare()
    recorded = config["protocol"].get("name") == "recorded"  # which a file of weights is not
    protocol = {"name": "center_crop", "shorter_side": None} if recorded else config["protocol"]
    evaluate_and_print([subject], protocol, config["trainer"])
    return 0


def evaluate_and_print(
    members: list["Subject"], settings: dict[str, Any], trainer: dict[str, Any]
) -> dict[str, Any]:
    """Evaluate one net or an ensemble by a protocol of these settings; print and return its errors."""
    from resnet_lab.evaluation import protocols

    protocol = protocols.make_protocol(settings, members[0].data)
    if caution := protocols.caution(protocol, members[0].data):
        say(f"warning: {caution}")
    result = protocols.evaluate(members, protocol, make_trainer(trainer))
    name = members[0].name if len(members) == 1 else f"ensemble of {len(members)}"
    say(f"{name}: {protocols.protocol_label(protocol.facts)}, {result['images']} images")
    for key in ("error", "error_top5"):
        if key in result:
            say(f"  {key} {result[key]:.4f} %")
    if result["unreadable"]:
        say(f"  {len(result['unreadable'])} images could not be read and are left out")
    return result


def main() -> None:
    run_command(_task, "eval")


if __name__ == "__main__":
    main()
