"""Every command ends with one sentence: a mistake with its remedy, a bug with the file that has its traceback."""

import errno
import importlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from omegaconf import OmegaConf
from runs import only_run

from resnet_lab import __version__
from resnet_lab.checks import UserError
from resnet_lab.endings import message_of, one_sentence

# what each command does once its arguments are read, and arguments that lead there
WORK = {
    "train": ("resnet_lab.sweeps.command.prepare", ()),
    "eval": ("resnet_lab.eval.perform", ()),
    "info": ("resnet_lab.info.describe", ()),
    "export": ("resnet_lab.export.check_source", ("output=x.pth",)),
    "report": ("resnet_lab.report.write_report", (".",)),
}


@pytest.fixture(autouse=True)
def logs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def fail(error: Exception) -> Callable[..., Any]:
    def failing(*_: Any) -> None:
        raise error

    return failing


@pytest.mark.parametrize("module", WORK)
def test_a_bug_is_one_line_and_its_traceback_is_kept(
    main: Callable[..., str], module: str, logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, arguments = WORK[module]
    monkeypatch.setattr(work, fail(ValueError("operands could not\nbe broadcast")))
    said = main(module, *arguments)
    command = "resnet-lab" if module == "train" else f"resnet-lab-{module}"
    (log,) = logs.iterdir()
    assert re.fullmatch(
        f"{command}: unexpected ValueError: operands could not be broadcast "
        rf"\(.*test_endings.py, line \d+\); the traceback is in {log}",
        said,
    )
    assert log.read_text().startswith("Traceback (most recent call last)")
    assert log.read_text().endswith("ValueError: operands could not\nbe broadcast\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", WORK)
def test_a_mistake_is_one_line_and_leaves_nothing(
    main: Callable[..., str], module: str, logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, arguments = WORK[module]
    monkeypatch.setattr(work, fail(UserError("that is\nnot so")))
    assert main(module, *arguments).endswith(": that is not so")
    assert [*logs.iterdir(), *tmp_path.iterdir()] == []


def test_a_full_disk_is_no_bug() -> None:
    with pytest.raises(SystemExit, match=r"x: no space left for FILE .*; free some"), one_sentence("x"):
        raise OSError(errno.ENOSPC, "No space left on device", "FILE")


def test_what_does_not_end_a_command_keeps_its_traceback_too(logs: Path) -> None:
    assert message_of("x", UserError("not so")) == "not so"
    assert list(logs.iterdir()) == []
    try:
        fail(KeyError("x"))()
    except KeyError as error:
        said = message_of("x", error)
    (log,) = logs.iterdir()
    assert said.endswith(f"the traceback is in {log}")


def test_without_a_place_for_the_log_the_traceback_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(SystemExit, match=r"x: unexpected KeyError: 'k' \(.*\)$"), one_sentence("x"):
        raise KeyError("k")
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("module", WORK)
def test_every_command_tells_the_labs_version(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["resnet-lab", "--version"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"resnet_lab.{module}").main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"resnet-lab {__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["modle=x"], "modle is not a key of the config; did you mean model?"),
        (["model.depht=20"], "model.depht is not a key of the config; did you mean model.depth?"),
        (["depth=20"], "depth is not a key of the config; did you mean model.depth?"),
        (["model.depth.x=20"], "model.depth.x is not a key of the config; model.depth is a value and has no keys"),
        (["+modle=x"], "modle is not a key of the config; did you mean model?"),
        (["model=resnet"], "model=resnet does not exist; did you mean model=cifar_resnet?"),
        (["model=a,b"], "model=a,b has several values; add -m to run them all"),
        (["+model.depth=8"], "model.depth is in the config already; write model.depth=8 without +"),
        (
            ["output_root=out put=1"],
            "output_root=out put=1 cannot be read (mismatched input '=' expecting <EOF>); ",
        ),
        (["nonsense"], "nonsense cannot be read ("),
        (["--help", "nonsense"], "nonsense cannot be read ("),
        (["--config-name", "nope"], "there is no config nope"),
        (["-m", "hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs must be a positive integer, got 0"),
        (
            ["-m", "hydra.launcher.on_failure=no"],
            "hydra.launcher.on_failure must be one of continue, stop; got 'no'",
        ),
    ],
)
def test_hydras_complaints_are_a_sentence_with_the_remedy(
    main: Callable[..., str], words: list[str], said: str, tmp_path: Path
) -> None:
    told = main("train", *words)
    assert told.startswith(f"resnet-lab: {said}")
    assert "\n" not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.depth=21"], "model: depth must be 6n+2 (8, 14, 20, ...; the paper's are 20, "),
        (["model=imagenet_resnet", "model.depth=20"], "model: depth must be one of 18, 34, 50, 101, 152, got 20"),
        (
            ["model.layers_per_block=3", "model.depth=14"],
            "model: depth must be 9n+2 with layers_per_block=3 (11, ",
        ),
        (["model.layers_per_block=4"], "model: layers_per_block must be one of 1, 2, 3, got 4"),
        (["model.shortcut=D"], "model: shortcut must be one of none, A, B, C; got 'D'"),
        (["model=cifar_preact", "model.shortcut=none"], "model: shortcut must be one of A, B, C; got 'none'"),
        (["model.norm=layer"], "model: norm must be one of batch, none; got 'layer'"),
        (["model.activation=gelu"], "model: activation must be one of relu, sigmoid, tanh; got 'gelu'"),
        (["model.initialization=kaiming"], "model: initialization must be one of he, xavier, normal, dirac, "),
        (["model.initialization=zero_last"], "model: initialization=zero_last needs shortcut=A, B or C and "),
        (["+model.dpth=20"], "model.dpth is not a setting of resnet_cifar; did you mean model.depth?"),
        (["optimizer.lr=abc"], "optimizer.lr must be a number, got 'abc'"),
        (["optimizer._target_=torch.optim.SDG"], "optimizer._target_: there is no 'torch.optim.SDG'"),
        (
            ["schedule._target_=torch.optim.lr_scheduler.StepLR"],
            "schedule.milestones is not a setting of StepLR; leave it out (~schedule.milestones); it ",
        ),
        (["+trainer.logger=x"], "trainer.logger is not a setting here; "),
        (["trainer=gpu"], "trainer.accelerator=gpu needs a GPU, and this machine shows none; take trainer=cpu"),
        (["trainer=ddp"], "trainer.accelerator=gpu needs a GPU, and this machine shows none; take trainer=cpu"),
        (["trainer.num_nodes=2"], "trainer.num_nodes=2 needs a launcher for several machines: "),
    ],
)
@pytest.mark.parametrize("sweep", [False, True])
def test_what_can_be_known_is_refused_before_anything_is_written(
    main: Callable[..., str],
    words: list[str],
    said: str,
    sweep: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main("train", *words, *(["-m", "seed=0,1"] if sweep else [])).startswith(f"resnet-lab: {said}")
    assert list(tmp_path.iterdir()) == []


def test_of_a_sweep_the_last_job_is_checked_before_the_first_starts(
    main: Callable[..., str], tmp_path: Path
) -> None:
    assert "got 21" in main("train", "-m", "model.depth=8,21")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("eval", ["protocl=ten_crop"], "protocl is not a key of the config; did you mean protocol?"),
        ("eval", ["runs=x", "+protocol.side=3"], "protocol.side is not a setting here; there are name"),
        ("eval", ["runs=x", "ensemble=2"], "ensemble must be true or false, got 2"),
        (
            "eval",
            ["runs=x", "trainer.devices='2'"],
            "trainer.devices must be a number, a list of GPUs or auto, got",
        ),
        ("eval", ["runs=x", "+trainer.logger=x"], "trainer.logger is not a setting here; "),
        ("info", ["model.depth=9"], "model: depth must be 6n+2 "),
        ("info", ["detial=layers"], "detial is not a key of the config; did you mean detail?"),
        ("info", ["format=xml"], "format must be one of text, json, svg; got 'xml'"),
        ("export", ["output=x", "padding=left"], "padding must be one of both, end; got 'left'"),
    ],
)
def test_every_command_refuses_before_it_begins(
    main: Callable[..., str], module: str, words: list[str], said: str, tmp_path: Path
) -> None:
    assert main(module, *words).startswith(f"resnet-lab-{module}: {said}")
    assert list(tmp_path.iterdir()) == []


def test_of_a_bug_in_a_run_the_log_has_the_traceback_and_the_screen_a_line(
    resnet_lab: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_nets.py").write_text("def tiny(in_channels, num_classes):\n    return {}['k']\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    own = ("--trust-package", "broken_nets", "model._target_=broken_nets.tiny")
    settings = OmegaConf.load(ROOT / "conf/model/cifar_plain.yaml").keys() - {"_target_"}
    ended = resnet_lab("train", *own, *(f"~model.{key}" for key in settings))
    run = only_run(tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].endswith(
        f"unexpected KeyError: 'k' ({tmp_path}/broken_nets.py, line 2); the traceback is in {run.log_path}"
    )
    assert "Traceback" not in ended.stderr
    assert "Traceback (most recent call last)" in run.log_path.read_text()
    assert run.record()["traceback"].endswith("KeyError: 'k'\n")


def test_a_reader_that_has_gone_is_no_bug(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "from resnet_lab.endings import one_sentence\nwith one_sentence('x'):\n"]
    words[-1] += "    for _ in range(100000):\n        print('a line')"
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_two_modes_at_once_are_refused_by_name(main: Callable[..., str]) -> None:
    assert (
        main("train", "--cfg", "job", "--run")
        == "resnet-lab: --run and --cfg do not go together; give one of them"
    )
