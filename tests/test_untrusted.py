"""Configs, records and folders from somebody else are data: what they may say, and what they can never do."""

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from resnet_lab import trust
from resnet_lab.checks import UserError
from resnet_lab.config.build import build
from resnet_lab.config.compose import CONF, freeze
from resnet_lab.data import CIFAR10, CIFAR100, MNIST
from resnet_lab.eval import opened
from resnet_lab.evaluation.chosen import Stored
from resnet_lab.models.timm_nets import from_timm
from resnet_lab.runs.directory import Run
from resnet_lab.runs.start import command, environment
from resnet_lab.runs.worker import execute
from resnet_lab.sweeps.slurm import Task

SHELL = "_target_: torch.utils.collect_env.run, command: 'touch pwned'"
COMMANDS = ("train", "analyze", "eval", "info", "export")


@pytest.fixture(autouse=True)
def _nothing_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_admitted", [])


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., Any]:
    """The config of `resnet-lab --config-dir FOLDER experiment=theirs OVERRIDES`, whose file has this text."""

    def loaded(text: str, *overrides: str) -> Any:
        write(tmp_path / "theirs/experiment/theirs.yaml", f"# @package _global_\n{text}\n")
        place = f"hydra.searchpath=[{tmp_path / 'theirs'}]"
        with initialize_config_dir(CONF, version_base="1.3"):
            return compose("train", [place, "experiment=theirs", *overrides], return_hydra_config=True)

    return loaded


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("block", "named"),
    [
        (f"callbacks: {{x: {{{SHELL}}}}}", "hydra.callbacks.x"),
        ("callbacks: {x: {_target_: pathlib.Path.unlink, _args_: [a]}}", "hydra.callbacks.x"),
        ("callbacks: {x: {y: [{_target_: io.open, file: a, mode: w}]}}", "hydra.callbacks.x"),
        ("callbacks: {x: '${model}'}", "hydra.callbacks.x"),
        ("job: {env_set: {PYTHONPATH: /folder}}", "hydra.job.env_set.PYTHONPATH"),
        ("job: {env_copy: [HOME]}", "hydra.job.env_set.HOME"),
        ("job: {chdir: true}", "hydra.job.chdir"),
        ("run: {dir: /anywhere}", "hydra.run.dir"),
        ("sweep: {dir: /anywhere}", "hydra.sweep.dir"),
        ("sweep: {subdir: ../../anywhere}", "hydra.sweep.subdir"),
        ("output_subdir: sub", "hydra.output_subdir"),
        ("job_logging: {handlers: {x: {class: logging.FileHandler, filename: a}}}", "hydra.job_logging.handlers"),
        (
            "hydra_logging: {handlers: {x: {class: logging.handlers.SysLogHandler}}}",
            "hydra.hydra_logging.handlers",
        ),
        ("hydra_logging: {formatters: {x: {'()': os.system}}}", "hydra.hydra_logging.formatters"),
        ("env: {x: 1}", "hydra.env.x"),
        ("overrides: {hydra: ['hydra.run.dir=/anywhere']}", "hydra.overrides"),
        ("overrides: {task: ['seed=1']}", "hydra.overrides"),
        (f"launcher: {{on_failure: {{{SHELL}}}}}", "hydra.launcher.on_failure._target_"),
        (f"launcher: {{n_jobs: [1, {{x: {{{SHELL}}}}}]}}", "hydra.launcher.n_jobs.1.x._target_"),
        ("launcher: {on_failure: '${theirs}'}", "hydra.launcher.on_failure._target_"),
        (r"launcher: {on_failure: '\${theirs}'}", "hydra.launcher.on_failure must be"),
        ("launcher: {_target_: torch.utils.collect_env.run, command: x}", "hydra.launcher._target_"),
        ("launcher: {_target_: '${theirs._target_}'}", "hydra.launcher._target_"),
        (f"sweeper: {{params: {{seed: {{{SHELL}}}}}}}", "hydra.sweeper.params.seed._target_"),
        ("sweeper: {_target_: os.system}", "hydra.sweeper._target_"),
    ],
)
def test_a_file_cannot_have_hydra_run_or_write_anything(
    experiment: Callable[..., Any], block: str, named: str
) -> None:
    with pytest.raises(UserError) as refused:
        experiment(f"hydra: {{mode: MULTIRUN, {block}}}\ntheirs: {{{SHELL}}}")
    assert str(refused.value).startswith(named)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("choice", "setting", "named"),
    [
        ("slurm", "setup: [touch pwned]", "hydra.launcher.setup.0 cannot be set by a file"),
        ("slurm", "additional_parameters: {wrap: touch pwned}", "hydra.launcher.additional_parameters.wrap"),
        ("slurm", "submitit_folder: /anywhere", "hydra.launcher.submitit_folder"),
        ("slurm", r'comment: "x\ntouch pwned"', "hydra.launcher.comment must be one line"),
        ("submitit_local", "submitit_folder: /anywhere", "hydra.launcher.submitit_folder"),
    ],
)
def test_a_file_cannot_reach_the_shell_of_a_cluster(
    experiment: Callable[..., Any], choice: str, setting: str, named: str
) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(UserError, match=re.escape(named)):
        experiment(f"hydra: {{launcher: {{{setting}}}}}", f"hydra/launcher={choice}")


def test_a_file_sets_limits_of_a_cluster_and_the_command_line_the_rest(experiment: Callable[..., Any]) -> None:
    pytest.importorskip("submitit")
    typed = ("hydra/launcher=slurm", "hydra.launcher.setup=[module load cuda]", "+hydra.launcher.use_srun=false")
    launcher = experiment("hydra: {launcher: {timeout_min: 9, partition: gpu}}", *typed).hydra.launcher
    assert (launcher.timeout_min, launcher.partition, launcher.setup[0]) == (9, "gpu", "module load cuda")


def test_a_launcher_of_somebodys_own_is_not_taken(experiment: Callable[..., Any], tmp_path: Path) -> None:
    write(tmp_path / "theirs/hydra/launcher/evil.yaml", "_target_: hydra_plugins.evil.Launcher\n")
    with pytest.raises(
        UserError, match=r"hydra/launcher=evil is neither the lab's nor that of an installed plugin"
    ):
        experiment("", "hydra/launcher=evil")
    # but settings of ours under a name of one's own are
    write(tmp_path / "theirs/hydra/launcher/mine.yaml", "defaults: [pool, _self_]\nn_jobs: 3\n")
    assert experiment("", "hydra/launcher=mine").hydra.launcher.n_jobs == 3


def test_what_chooses_a_sweep_is_free(experiment: Callable[..., Any]) -> None:
    block = "{mode: MULTIRUN, launcher: {n_jobs: 2, on_failure: stop}, sweeper: {params: {seed: '0,1'}}}"
    cfg = experiment(f"hydra: {block}", "hydra.launcher.n_jobs=1")
    assert (cfg.hydra.launcher.n_jobs, cfg.hydra.sweeper.params.seed) == (1, "0,1")


@pytest.fixture
def optuna() -> Iterator[None]:
    """The default config of hydra-optuna-sweeper, as far as it matters here."""
    node = {
        "_target_": "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper",
        **{"sampler": {"_target_": "optuna.samplers.TPESampler", "seed": None}, "storage": None, "n_trials": 20},
        **{"custom_search_space": None, "params": None},
    }
    ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=node)
    yield
    del ConfigStore.instance().repo["hydra"]["sweeper"]["optuna.yaml"]


@pytest.mark.usefixtures("optuna")
@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("n_trials: 3, params: {seed: 'range(3)'}, sampler: {seed: 1}", ""),
        ("sampler: {_target_: optuna.samplers.RandomSampler}", ""),
        ("sampler: {_target_: os.system}", "hydra.sweeper.sampler._target_"),
        ("sampler: {_target_: optuna.samplers._base.os.system}", "hydra.sweeper.sampler._target_"),
        (f"sampler: {{seed: {{{SHELL}}}}}", "hydra.sweeper.sampler.seed._target_"),
        ("custom_search_space: os.system", "hydra.sweeper.custom_search_space"),
        ("storage: 'sqlite:////anywhere'", "hydra.sweeper.storage"),
    ],
)
def test_a_sweeper_takes_its_samplers_alone(experiment: Callable[..., Any], setting: str, named: str) -> None:
    text = f"defaults: [{{override /hydra/sweeper: optuna}}]\nhydra: {{sweeper: {{{setting}}}}}"
    if not named:
        assert experiment(text).hydra.sweeper._target_.endswith("OptunaSweeper")
        return
    with pytest.raises(UserError, match=re.escape(named)):
        experiment(text)


@pytest.mark.parametrize("module", COMMANDS)
def test_every_command_refuses_on_the_command_line_too(
    main: Callable[..., str], module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = f"+hydra.callbacks.x={{{SHELL.replace(': ', ':')}}}"
    for words in (
        [callback],
        [callback, "-m"],
        [callback, "--cfg", "job"],
        [callback, "--cfg", "hydra", "--resolve"],
        [callback, "--help"],
        ["+hydra.job.env_set.PYTHONPATH=/folder"],
        ["hydra.run.dir=/anywhere"],
        ["hydra.output_subdir=sub"],
        ["hydra.searchpath=[pkg://antigravity]"],
    ):
        said = main(module, *words) + capsys.readouterr().err
        assert re.search(r"hydra\.(callbacks|job|run|output_subdir|searchpath)", said), (words, said)
        assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert "antigravity" not in sys.modules
    assert "would unpickle a file" in main(module, "--experimental-rerun", "job.pickle")


def test_a_folder_of_configs_is_refused_in_any_command(
    main: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "theirs"
    for group in ("experiment", "model"):
        write(theirs / group / "evil.yaml", f"# @package _global_\nhydra: {{callbacks: {{x: {{{SHELL}}}}}}}\n")
    write(theirs / "primary.yaml", "defaults: [train]\nhydra: {searchpath: ['pkg://antigravity']}\n")
    write(
        theirs / "experiment/jobs.yaml", '# @package _global_\nhydra: {sweeper: {params: {+hydra.verbose: "a"}}}\n'
    )
    swept = (
        "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {+hydra.job.env_set.PYTHONPATH: /x}}}\n"
    )
    write(theirs / "experiment/swept.yaml", swept)
    for module, *words in (
        ("train", "experiment=evil"),
        ("train", "experiment=evil", "-m", "seed=0,1"),
        ("train", "experiment=swept"),
        ("train", "experiment=swept", "hydra/launcher=basic"),
        ("train", "--config-name", "primary"),
        *((module, "model=evil") for module in COMMANDS),
    ):
        said = main(module, "--config-dir", str(theirs), *words) + capsys.readouterr().err
        assert re.search(r"hydra\.(callbacks\.x|job\.env_set|searchpath)", said), (module, words, said)
    # Hydra notes the sweep before it composes the jobs
    written = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert {path for path in written if not path.startswith("theirs")} <= {"outputs/default/multirun.yaml"}
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("block", "target"),
    [
        ("model", "antigravity.fly"),
        ("model", "venv.__main__.x"),
        ("model", "theirs.net"),
        ("model", "os.system"),
        ("model", "torch.utils.collect_env.run"),
        ("model", "resnet_lab"),
        ("model", "resnet_lab.models"),
        ("model", "resnet_lab.models.timm_nets.from_timm"),
        ("model", "resnet_lab.models.timm_nets.timm.create_model"),
        ("model", "resnet_lab.models.torchvision_nets.fully_convolutional"),
        ("model", "resnet_lab.models.torchvision_nets.models.vgg16"),
        ("model", "resnet_lab.models.blocks.BasicBlock"),
        ("model", "resnet_lab.models..vgg"),
        ("model", "resnet_lab.data.Digits"),
        ("model", "torch.optim.SGD"),
        ("model", 5),
        ("model", None),
        ("data", "resnet_lab.models.vgg"),
        ("data", "resnet_lab.data.files.download"),
        ("data", "resnet_lab.data.files.tempfile.mkdtemp"),
        ("data", "resnet_lab.data.batches.Images"),
        ("data", "resnet_lab.data.datasets.torchvision_datasets.CIFAR10"),
        ("data", "torchvision.datasets.FakeData"),
        ("optimizer", "torch.optim.lr_scheduler.StepLR"),
        ("optimizer", "torch.optim.sgd.torch.save"),
        ("optimizer", "resnet_lab.schedule.MultiStep"),
        ("schedule", "torch.optim.SGD"),
        ("schedule", "resnet_lab.schedule.check_positive"),
        ("schedule", "torch.optim.lr_scheduler.Tensor"),
        ("trainer", "pytorch_lightning.LightningModule"),
        ("trainer", "pytorch_lightning.strategies.DDPStrategy"),
        ("trainer", "pytorch_lightning.callbacks.ModelCheckpoint"),
    ],
)
def test_a_block_takes_its_own_kind_and_imports_nothing_to_refuse(
    block: str, target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "theirs.py", "raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    with pytest.raises(UserError, match=rf"{block}._target_"):
        build(block, {"_target_": target, "_partial_": True})
    assert {name for name in set(sys.modules) - before if not name.startswith(("resnet_lab.", "torch."))} == set()


@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "resnet_lab.models.resnet_cifar", "depth": 8, "_args_": [1]},
        {"_target_": "resnet_lab.models.resnet_cifar", "depth": 8, "_partial_": True},
        {"_target_": "resnet_lab.models.resnet_cifar", "depth": {"_target_": "builtins.print"}},
        {"_target_": "resnet_lab.models.resnet_cifar", "depth": [{"_target_": "resnet_lab.models.vgg"}]},
        {"_target_": "resnet_lab.models.resnet_cifar", "depth": "${oc.env:HOME}"},
        {"depth": 8},
    ],
)
def test_a_record_has_no_way_round(config: dict[str, Any]) -> None:
    with pytest.raises(UserError) as refused:
        build("model", config)
    assert os.environ["HOME"] not in str(refused.value)


@pytest.mark.parametrize("name", ["hf-hub:evil/model", "hf_hub:evil/model", "local-dir:/tmp", "resnet18"])
def test_timm_is_asked_for_two_nets_alone(name: str) -> None:
    with pytest.raises(ValueError, match="name must be one of inception_v4, inception_resnet_v2"):
        from_timm(name, 3, 10, "imagenet")


@pytest.mark.parametrize(
    "override",
    [
        "model._target_=os.system",
        "data.root={_target_:resnet_lab.data.files.tempfile.mkdtemp}",
        "optimizer.lr=${oc.env:SECRET}",
        "output_root=/tmp/${oc.env:SECRET,none}",
        "output_root='${oc.env:RESNET_LAB_DATA,${oc.env:SECRET}}'",
        "output_root='${oc.decode:${oc.env:SECRET}}'",
        r"output_root='\${oc.env:SECRET}'",
    ],
)
def test_a_config_is_refused_before_anything_is_written(
    experiment: Callable[..., Any], override: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    cfg = experiment("seed: 1", override)
    with pytest.raises(UserError, match=r"_target_|oc\.env|must not hold") as refused:
        freeze(cfg)
    assert "hunter2" not in str(refused.value)
    assert "UserError" not in str(refused.value)


@pytest.mark.parametrize("module", ["eval", "info", "export"])
def test_no_command_reads_the_environment_for_a_file(
    main: Callable[..., str], module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    said = main(
        module,
        "model=cifar_plain",
        "data=digits",
        "data.root=${oc.env:SECRET}",
        *["output=x"] * (module == "export"),
    )
    assert "oc.env:SECRET} is not read" in said
    assert "hunter2" not in said


def test_our_own_variable_is_read(composed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_LAB_DATA", "/images")
    assert composed("data=cifar10")["data"]["root"] == "/images"
    monkeypatch.delenv("RESNET_LAB_DATA")
    assert composed("data=cifar10")["data"]["root"] == "~/.cache/resnet_lab"


def test_a_run_takes_no_module_from_the_current_folder(tmp_path: Path, tiny: Callable[..., Any]) -> None:
    for name in ("csv", "queue", "random", "torch", "resnet_lab"):
        write(tmp_path / f"{name}.py", "open('pwned', 'w').close()\n")
    run, config = tiny()
    ended = subprocess.run(
        command(run, config), cwd=tmp_path, env=environment(config), capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert not (tmp_path / "pwned").exists()
    inner = [sys.executable, "-c", "import csv, random"]  # what starts a process of its own
    subprocess.run(inner, cwd=tmp_path, env=environment(config), check=True)
    assert not (tmp_path / "pwned").exists()


def test_to_evaluate_a_record_downloads_nothing(
    tmp_path: Path, tiny: Callable[..., tuple[Run, dict[str, Any]]]
) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    subject, _ = opened(Stored(run, run.checkpoint_path), run.record())
    assert not subject.data.may_download
    for dataset in (CIFAR10, CIFAR100, MNIST):
        data = dataset(root=str(tmp_path / "outside/deep"))
        data.may_download = False
        with pytest.raises(UserError, match=r"is not in .*/outside/deep, and evaluating a run downloads nothing"):
            data.prepare()
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        *(
            (name, "is for a package of your own")
            for name in ("os", "builtins", "antigravity", "torch", "hydra", "timm", "usercustomize")
        ),
        ("resnet_lab", "is for a package of your own"),
        ("my_nets.tiny", "must be the name of a top-level package"),
        ("../my_nets", "must be the name of a top-level package"),
        ("", "must be the name of a top-level package"),
        ("__main__", "must be the name of a top-level package"),
        ("no_such_nets", "there is no such package; put the folder that has it on PYTHONPATH"),
    ],
)
def test_only_a_package_of_ones_own_can_be_trusted(main: Callable[..., str], name: str, said: str) -> None:
    assert said in main("train", "--trust-package", name)
    assert trust.arguments() == []


NETS = """
import torch
from torch import nn
from torch.optim import SGD
from resnet_lab.data import ImagesInMemory
from resnet_lab.data.batches import Images
from resnet_lab.schedule import MultiStep


def tiny(in_channels, num_classes, width=4):
    return nn.Sequential(nn.Conv2d(in_channels, width, 3), nn.Flatten(), nn.LazyLinear(num_classes)).eval()


class Linear(nn.Sequential):
    def __init__(self, in_channels, num_classes, pixels=36):
        super().__init__(nn.Flatten(), nn.Linear(in_channels * pixels, num_classes))


class Halves(ImagesInMemory):
    in_channels, num_classes, image_size = 1, 2, 6

    def load(self):
        def part(count):
            labels = torch.arange(count) % 2
            return Images((labels * 200).to(torch.uint8)[:, None, None, None].expand(-1, 1, 6, 6).clone(), labels)

        return part(32), part(8)


class Once(MultiStep):
    pass


class Careful(SGD):
    pass


def nothing(in_channels, num_classes):
    return None
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package and configs of somebody's own: their folder is on the path, and mine/conf has the configs."""
    write(tmp_path / "mine/my_nets/__init__.py", NETS)
    write(tmp_path / "mine/conf/model/own.yaml", "_target_: my_nets.Linear\npixels: 36\n")
    data = "{_target_: my_nets.Halves, root: '', batch_size: 16, eval_batch_size: 8, holdout: 0, mean: per_pixel}"
    write(tmp_path / "mine/conf/data/own.yaml", f"{data}\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "mine"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(tmp_path / "mine")
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_nets"]:  # another test's
        monkeypatch.delitem(sys.modules, name)
    return tmp_path / "mine"


def test_nets_and_datasets_of_ones_own_train_where_the_command_line_says_so(
    own: Path,
    tmp_path: Path,
    resnet_lab: Callable[..., Any],
    main: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine = ["--config-dir", str(own / "conf"), "model=own", "data=own"]
    optimizer = ["optimizer._target_=my_nets.Careful", "schedule._target_=my_nets.Once"]
    words = [*mine, *optimizer, "iterations=6", "runtime.threads=1"]
    said = main("train", *words)
    assert "model._target_ must be" in said or "data._target_ must be" in said
    assert said.endswith("to use your own code, add --trust-package my_nets")
    assert not (tmp_path / "outputs").exists()

    # a sweep in the pool, of a run with two processes
    ended = resnet_lab("train", "--trust-package", "my_nets", *words, "-m", "seed=0", "trainer=ddp_cpu")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (path,) = tmp_path.glob("outputs/*/*/seed0/record.json")
    record = Run(path.parent).record()
    assert record["status"] == "completed"
    assert record["processes"] == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trust, "_admitted", ["my_nets"])
        assert record["trusted_packages"] == trust.facts()
    assert "my_nets" not in str({key: record["config"][key] for key in ("runtime", "run_dir", "output_root")})

    # the record opens no door for those that come later
    assert "add --trust-package my_nets" in main("train", *words, "trainer=ddp_cpu")
    assert main("export", f"run={path.parent}", "output=net.pth").endswith("add --trust-package my_nets")
    main("eval", f"runs={path.parent}")
    assert "add --trust-package my_nets" in capsys.readouterr().out
    assert resnet_lab("eval", "--trust-package", "my_nets", f"runs={path.parent}").returncode == 0


def test_the_door_is_no_wider_than_the_package(own: Path) -> None:
    facts = {"in_channels": 1, "num_classes": 2}
    with pytest.raises(UserError, match="add --trust-package my_nets"):
        build("model", {"_target_": "my_nets.Linear"}, **facts)
    trust.admit(["my_nets"])
    assert type(build("model", {"_target_": "my_nets.Linear"}, **facts)).__name__ == "Linear"
    write(own / "my_nets/broken.py", "raise SystemExit(0)\n")
    write(own / "my_nets_of_others.py", "raise SystemExit(0)\n")
    for target, said in (
        ("my_nets.torch.save", "there is no"),
        ("my_nets.SGD", "must be"),
        ("my_nets.Halves", "must be"),
        ("my_nets.nothing", "made a NoneType instead of a Module"),
        ("my_nets.broken.net", r"cannot be imported \(SystemExit\(0\)\)"),
        ("my_nets.absent", "there is no"),
        ("my_nets_of_others.net", "add --trust-package my_nets_of_others"),
        ("os.system", "must be"),
    ):
        with pytest.raises(UserError, match=said):
            build("model", {"_target_": target}, **facts)


def test_no_file_opens_the_door(
    own: Path, experiment: Callable[..., Any], main: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("trust_package: my_nets", "runtime: {trust_package: my_nets}", "hydra: {trust_package: my_nets}"):
        with pytest.raises(Exception, match="trust_package"):
            freeze(experiment(text))
    with pytest.raises(UserError, match="add --trust-package my_nets"):
        freeze(experiment("model: {_target_: my_nets.Linear}"))
    said = main("info", "hydra.searchpath=[pkg://my_nets]") + capsys.readouterr().err
    assert "add --trust-package my_nets" in said


def test_trust_goes_to_each_process_by_its_command_line(own: Path, tiny: Callable[..., Any]) -> None:
    write(own / "more_nets.py", "")
    run, config = tiny()
    before = command(run, config)
    trust.admit(["my_nets", "more_nets", "my_nets"])
    words = ["--trust-package=my_nets", "--trust-package=more_nets"]
    assert command(run, config) == [*before, *words]
    assert pickle.loads(pickle.dumps(Task(config, []))).trusted == words
    trust._admitted.clear()
    assert trust.take(["DIR", *words, "HASH"]) == ["DIR", "HASH"]
    assert trust.arguments() == words


def test_the_record_knows_the_code_that_was_trusted(own: Path) -> None:
    trust.admit(["my_nets"])
    before = trust.facts()
    assert before["my_nets"]["version"] is None
    write(own / "my_nets/__pycache__/x.py", "")
    write(own / "my_nets/notes.txt", "")
    assert trust.facts() == before
    write(own / "my_nets/more.py", "")
    assert trust.facts() != before


@pytest.mark.parametrize(
    "target",
    ["os.system", "torch.optim.SGD", "resnet_lab.schedule.check_positive", "torch.optim.lr_scheduler.partial", 5],
)
@pytest.mark.parametrize("key", ["schedules", "more", "schedules.0.schedules"])
def test_a_chain_takes_schedules_alone(target: Any, key: str) -> None:
    inner = {"_target_": target, "_partial_": True}
    chain: dict[str, Any] = {"_target_": "resnet_lab.schedule.Chain", "_partial_": True, "milestones": []}
    if key == "schedules.0.schedules":
        inner = {**chain, "schedules": [inner]}
    config = chain | {key.partition(".")[0]: [inner]}
    with pytest.raises(UserError, match="schedule"):
        build("schedule", config)
