"""What a config may say, and what becomes of one that says something else."""

import functools
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_class
from omegaconf import OmegaConf

from resnet_lab.checks import UserError
from resnet_lab.config.compose import CONF, resolved
from resnet_lab.config.ranges import SHAPES
from resnet_lab.config.tasks import ANNOTATED
from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import identity
from resnet_lab.runs.start import prepare
from resnet_lab.runs.worker import execute
from resnet_lab.sweeps.launcher import check_distinct
from resnet_lab.sweeps.pool import PoolLauncher, share_out
from resnet_lab.training.job import build_all

Composed = Callable[..., dict[str, Any]]
NAMES = json.loads((Path(__file__).parent / "golden/run_names.json").read_text())
EXPERIMENTS = sorted(path.stem for path in Path(CONF).glob("experiment/*.yaml"))


@pytest.mark.parametrize("module", ["train", "report", "analyze", "eval", "info", "export"])
def test_what_only_composes_or_reports_imports_no_torch(module: str) -> None:
    code = f"import sys, resnet_lab.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def shown(*overrides: str) -> dict[str, Any]:
    """The config of `resnet-lab OVERRIDES`; that weights are there is not asked of it."""
    with initialize_config_dir(CONF, version_base="1.3"):
        return resolved(compose("train", list(overrides)), "train")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_composes_under_its_name(name: str) -> None:
    config = shown(f"experiment={name}")
    assert config["experiment_name"] == name
    # another name leaves stored and committed runs behind; change one only on purpose
    assert config["run_name"] == NAMES[name]


@functools.cache
def sweep_of(experiment: str) -> dict[str, Any]:
    """What the experiment asks of Hydra: its mode and its sweep."""
    with initialize_config_dir(CONF, version_base="1.3"):
        block = compose("train", [f"experiment={experiment}"], return_hydra_config=True).hydra
    return {"mode": block.mode, "params": OmegaConf.to_container(block.sweeper.params or OmegaConf.create())}


def axes_of(experiment: str) -> list[list[str]]:
    """What an experiment sweeps over, but for the seed: for each option its overrides."""
    swept = sweep_of(experiment)["params"]
    parsed = OverridesParser.create().parse_overrides([f"{k}={v}" for k, v in swept.items() if k != "seed"])
    return [
        [f"{o.key_or_group}={v}" for v in o.sweep_string_iterator()] if o.is_sweep_override() else [o.input_line]
        for o in parsed
    ]


def jobs_of(experiment: str) -> Iterator[dict[str, Any]]:
    """The frozen configs of an experiment's sweep for one seed, one by one."""
    for values in itertools.product(*axes_of(experiment)):
        yield shown(f"experiment={experiment}", *values)


def corners_of(experiment: str) -> list[dict[str, Any]]:
    """The frozen configs with each option at its first value, and with one of them at its last."""
    axes = axes_of(experiment)
    first = [values[0] for values in axes]
    others = [[*first[:i], values[-1], *first[i + 1 :]] for i, values in enumerate(axes) if len(values) > 1]
    return [shown(f"experiment={experiment}", *values) for values in [first, *others]]


def kept_by_smoke(job: dict[str, Any]) -> dict[str, Any]:
    """The net but for its width, the recipe but for its counts of iterations."""
    model = {key: value for key, value in job["model"].items() if key != "width"}
    schedule = {key: value for key, value in job["schedule"].items() if not isinstance(value, int | list)}
    return {"model": model, "optimizer": job["optimizer"], "schedule": schedule, "job": job["job"]}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_smoke_shrinks_the_experiment_before_it_and_runs_no_other(name: str) -> None:
    assert sweep_of(f"[{name},smoke]") == sweep_of(name)
    whole, small = corners_of(name), corners_of(f"[{name},smoke]")
    assert list(map(kept_by_smoke, small)) == list(map(kept_by_smoke, whole))
    assert len({job["run_name"] for job in small}) == len({job["run_name"] for job in whole})
    for job, before in zip(small, whole, strict=True):
        assert job["experiment_name"] == f"{name}-smoke"
        assert job["iterations"] == (12 if before["iterations"] == 2070 else min(4, before["iterations"]))
        assert job["schedule"].get("milestones") in ([2, 3], [1, 2], [6, 9], [1, 1], [3])
        assert job["model"].get("width", 0) <= before["model"].get("width", 0) // 4
        assert job["trainer"]["accelerator"] == "cpu"
        assert job["trainer"]["precision"] == before["trainer"]["precision"]
        if name != "imagenet_loading":  # which makes its own photographs
            annotated = before["data"]["_target_"] in ANNOTATED
            assert job["data"]["_target_"] == f"resnet_lab.data.{'Scenes' if annotated else 'Synthetic'}"
            assert job["data"]["train_images"] <= 64


def test_smoke_keeps_the_shape_of_the_images(composed: Composed) -> None:
    for target, shape in SHAPES.items():
        dataset = get_class(target)
        data: Any = dataset if target != "resnet_lab.data.ImageNet" else dataset(root="nowhere")
        assert (data.in_channels, data.image_size, data.num_classes) == shape, target
    keys = ("in_channels", "image_size", "num_classes")
    small = composed("experiment=[fashion_mnist_degradation,smoke]")["data"]
    assert [small[key] for key in keys] == [1, 28, 10]
    small = composed("experiment=[imagenet_depth,smoke]")["data"]
    assert [small[key] for key in keys] == [3, 96, 1000]


def test_smoke_keeps_what_is_given_outright_and_scales_what_counts_iterations(composed: Composed) -> None:
    own = ("experiment=[cifar10_degradation,smoke]", "schedule.milestones=[16000,48000]")
    assert composed(*own)["schedule"]["milestones"] == [1, 3]
    given = composed(*own, "iterations=640", "data.batch_size=4", "data.holdout=50", "trainer=ddp_cpu")
    assert given["iterations"] == 640
    assert given["schedule"]["milestones"] == [16000, 48000]
    assert (given["data"]["batch_size"], given["trainer"]["devices"]) == (4, 2)
    assert given["data"]["_target_"] == "resnet_lab.data.Synthetic"
    folder = composed("experiment=[cifar10_degradation,smoke]", "data=image_folder", "data.root=somewhere")
    assert folder["data"]["_target_"] == "resnet_lab.data.ImageFolder"


def test_a_sweep_over_experiments_is_refused_with_the_commands_to_give(
    resnet_lab: Callable[..., Any], tmp_path: Path
) -> None:
    ended = resnet_lab("train", "-m", "experiment=smoke,digits_degradation")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[0] == (
        "resnet-lab: experiment=smoke,digits_degradation would ignore the sweep that each experiment has; give "
        "each its own command: resnet-lab experiment=smoke; resnet-lab experiment=digits_degradation"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_an_experiment_shows_without_its_sweep_is_one_of_its_jobs(name: str) -> None:
    without = identity(shown(f"experiment={name}"))
    assert any(identity(job)["model"] == without["model"] for job in jobs_of(name))


def test_resnet_110_is_trained_with_a_warm_up_and_without() -> None:
    jobs = jobs_of("cifar10_resnet110")
    schedules = [job["schedule"]["_target_"].rpartition(".")[2] for job in jobs]
    assert schedules == ["MultiStepWarmup", "MultiStep"]


def test_the_same_settings_in_other_words_are_the_same_run() -> None:
    assert shown("callbacks=none")["run_name"] == shown()["run_name"]


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "chain"])
def test_a_net_at_initialization_needs_no_iterations_of_its_schedule(schedule: str) -> None:
    assert shown("iterations=0", f"schedule={schedule}")["iterations"] == 0


def test_the_papers_recipe_on_cifar10(composed: Composed) -> None:
    config = composed("experiment=cifar10_degradation")
    assert config["iterations"] == 64000
    assert config["schedule"]["milestones"] == [32000, 48000]
    sgd = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0001}
    assert {key: config["optimizer"][key] for key in sgd} == sgd
    data = {"batch_size": 128, "crop_padding": 4, "flip": True, "mean": "per_pixel", "holdout": 0}
    assert {key: config["data"][key] for key in data} == data
    warm = composed("experiment=cifar10_resnet110")["schedule"]
    assert (warm["warmup_lr"], warm["until_error"], warm["milestones"]) == (0.01, 80.0, [32000, 48000])


def test_imagenets_rate_falls_where_figure_4_drops(composed: Composed) -> None:
    for name in (name for name in EXPERIMENTS if name.startswith("imagenet") and name != "imagenet_loading"):
        assert composed(f"experiment={name}")["schedule"]["milestones"] == [150000, 300000]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+typo=1", "typo is not a key of the config"),
        ("+optimzer.lr=1", "optimzer is not a key of the config; did you mean optimizer?"),
        ("seed=-1", "seed must be an integer .* got -1"),
        ("seed=first", "seed must be an integer .* got 'first'"),
        ("+runtime.thread=1", "runtime.thread is not a setting"),
        ("runtime.threads=0", "runtime.threads must be .* got 0"),
        ("runtime.compile=maybe", "runtime.compile must be true, false or reduce-overhead, got 'maybe'"),
        ("experiment_name=../../x", "experiment_name must be letters, .* got '../../x'"),
        ("run_name=a/b", "run_name must be letters, .* got 'a/b'"),
        ("optimizer.lr=${nothing}", "nothing"),
        ("optimizer.lr=nan", "optimizer.lr must be a finite number, got nan"),
        ("iterations=-1", "iterations must be a positive integer, or 0 for a net at initialization, got -1"),
        ("iterations=null", "iterations must be a positive integer, or 0 for a net at initialization, got None"),
        ("~iterations", "iterations is missing from the config"),
        ("runtime=3", "runtime.channels_last must be|runtime.threads must be"),
        ("force=yes please", "force must be true or false, got 'yes please'"),
        ("output_root=", "output_root must be a folder, .* got ''"),
        ("output_root='~/runs'", "output_root must be a folder, its path in full without ~, got '~/runs'"),
        ("trainer.val_check_interval=0", "trainer.val_check_interval must be .* got 0"),
        ("+trainer.limit_train_batches=0.5", "trainer.limit_train_batches is not a setting here; set data.subset"),
        ("trainer.precision=16-mixed", "trainer.precision=16-mixed is for GPUs; on a CPU set"),
        ("trainer.precision=16", "trainer.precision=16 is for GPUs; on a CPU set"),
        ("trainer.check_val_every_n_epoch=5", "trainer.check_val_every_n_epoch must be 1, or null"),
        (
            "+trainer.precison=64-true",
            "trainer.precison is not a setting here; did you mean trainer.precision?",
        ),
        ("model.depth=18", r"model: depth must be 6n\+2 .* got 18"),
        ("+model.dpth=20", "model.dpth is not a setting of resnet_cifar; did you mean model.depth?"),
        ("+optimizer.lrr=1", "optimizer.lrr is not a setting of SGD; did you mean optimizer.lr?"),
        ("optimizer.lr=fast", "optimizer.lr must be a number, got 'fast'"),
        ("optimizer._target_=torch.optim.SDG", "optimizer._target_: there is no 'torch.optim.SDG'"),
        ("+data.seed=3", "data.seed is set by the lab; leave it out"),
        ("data.flip=abc", "data.flip must be true or false, got 'abc'"),
        ("optimizer.lr=null", "optimizer.lr must be a number, got None"),
        ("+data.bach_size=1", "data.bach_size is not a setting of Digits; did you mean data.batch_size?"),
        (
            "optimizer._target_=torch.optim.AdamW",
            r"optimizer.momentum is not a setting of AdamW; leave it out \(~optimizer.momentum\); it takes ",
        ),
        ("model.depth=2.5", "model.depth must be an integer, got 2.5"),
        ("model.depth=true", "model.depth must be an integer, got True"),
        ("data.subset=x", "data.subset must be an integer or null, got 'x'"),
        ("model._target_=resnet_lab.models.resnet", "model._target_: there is no 'resnet_lab.models.resnet'"),
        ("trainer.num_nodes=two", "trainer.num_nodes must be a positive integer, got 'two'"),
        ("trainer.devices='2'", "trainer.devices must be a number, .* got '2'"),
        ("trainer.strategy=deepspeed", "trainer.strategy must be a block .* or one of auto, .*; got 'deepspeed'"),
        (
            "trainer.strategy={broadcast_buffers:true}",
            "trainer.strategy.broadcast_buffers must be false, .* got True",
        ),
        ("trainer.accelerator=mps", "trainer.accelerator must be null or one of auto, cpu, gpu, cuda; got 'mps'"),
        ("run_dir=elsewhere", "run_dir follows from output_root"),
        ("job=dance", "job must be train, throughput or loading, got 'dance'"),
        ("optimizer._partial_=false", "optimizer._partial_ must be true, .* got False"),
        ("optimizer._target_=os.system", "optimizer._target_ must be a class of .* got 'os.system'"),
        ("+model.evil={_target_:builtins.print}", "model.evil._target_ must be a class .* got 'builtins.print'"),
        # a way round by what a module has imported
        ("data.root={_target_:torch.nn.functional.torch.save,obj:1,f:x}", "data.root._target_ must be"),
        ("data.root={_target_:resnet_lab.data.files.tempfile.mkdtemp}", "data.root._target_ must be"),
    ],
)
def test_refused_before_anything_starts(composed: Composed, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        composed(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.crop_padding=9", "data.crop_padding must not exceed the image size 8, got 9"),
        (
            "job=throughput",
            "job=throughput times iterations=6 of one epoch after 3 to warm up, and an epoch of 40 images in "
            "batches of 16 has 3; set a smaller data.batch_size, or use data=synthetic data.train_images=144",
        ),
    ],
)
def test_refused_before_training(
    tiny: Callable[..., tuple[Run, dict[str, Any]]],
    override: str,
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, config = tiny(override)
    assert execute(run, config) == 1
    record = run.record()
    assert record["status"] == "failed"
    assert not record["traceback"]
    assert re.search(message, record["error"]), record["error"]
    assert record["error"] in caplog.text
    assert not run.metrics_path.exists()


def test_a_last_batch_of_one_image_is_refused_where_it_cannot_be_trained_on(tiny: Callable[..., Any]) -> None:
    net = ("model=imagenet_resnet", "model.depth=18", "model.stem=cifar")
    run, config = tiny(*net, "data.train_images=33")
    assert execute(run, config) == 1
    assert "data.batch_size=16 leaves a last batch of 1 of the 33 training images" in run.record()["error"]
    # at four times the resolution a channel has more than one value
    run, config = tiny("data.train_images=33")
    assert execute(run, config) == 0


def test_another_config_never_takes_over_a_directory(composed: Composed) -> None:
    first = composed("run_name=mine")
    run = prepare(first)
    assert run is not None
    run.update(status="interrupted", config=first)
    with pytest.raises(UserError, match=r"holds another run: model.depth=32 \(was 20\);"):
        prepare(composed("run_name=mine", "model.depth=32"))
    run.update(config=composed("run_name=mine", "seed=1"))
    with pytest.raises(UserError, match=r"seed=0 \(was 1\)"):
        prepare(first)
    run.update(config=first)
    assert prepare(composed("run_name=mine", "runtime.threads=1")) is not None


def test_hydras_own_refusals_have_no_traceback(resnet_lab: Callable[..., Any], tmp_path: Path) -> None:
    for override, named in (
        ("optimizer.lrr=1", "optimizer.lrr is not a key of the config; did you mean optimizer.lr?"),
        ("model=resnet_cfar", "model=resnet_cfar does not exist; there are alexnet, "),
        ("+typo=1", "typo"),
    ):
        ended = resnet_lab("train", override)
        assert ended.returncode != 0
        assert named in ended.stderr
        assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_is_named_and_force_sets_it_aside(composed: Composed) -> None:
    config = composed()
    run = prepare(config)
    assert run is not None
    run.record_path.write_text('{"status": "comp')
    with pytest.raises(UserError, match=r"record.json is damaged .*force=true"):
        prepare(config)
    assert prepare(config | {"force": True}) is not None


def test_two_jobs_that_differ_never_share_a_directory(composed: Composed) -> None:
    jobs = [composed("run_name=mine", f"model.depth={depth}") for depth in (8, 14)]
    with pytest.raises(UserError, match=r"two .*jobs of the sweep"):
        check_distinct(jobs)
    check_distinct([jobs[0], jobs[0]])


@pytest.mark.parametrize(
    ("trainer", "n_jobs", "places"),
    [
        ({"accelerator": "gpu", "devices": 1}, None, ["0", "1", "2", "3"]),
        ({"accelerator": "gpu", "devices": 2}, None, ["0,1", "2,3"]),
        ({"accelerator": "gpu", "devices": "auto"}, None, ["0,1,2,3"]),
        ({"accelerator": "gpu", "devices": 1}, 2, ["0", "1"]),
    ],
)
def test_gpus_are_shared_out(
    trainer: dict[str, Any], n_jobs: int | None, places: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert [place["CUDA_VISIBLE_DEVICES"] for place in share_out(trainer, n_jobs, jobs=9)] == places


def test_gpus_that_are_named_are_those_of_each_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert share_out({"accelerator": "gpu", "devices": [1]}, None, jobs=9) == [{}]
    assert share_out({"accelerator": "gpu", "devices": [1, 3]}, 2, jobs=9) == [{}, {}]


@pytest.mark.parametrize(("devices", "n_jobs", "expected"), [(1, None, (8, 1)), (1, 2, (2, 4)), (2, None, (4, 1))])
def test_cores_are_shared_out(
    devices: int, n_jobs: int | None, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_lab.sweeps.pool.CORES", 8)
    places = share_out({"accelerator": "cpu", "devices": devices}, n_jobs, jobs=9)
    assert (len(places), int(places[0]["OMP_NUM_THREADS"])) == expected


def test_an_imagenet_stem_warns_of_small_images(
    tiny: Callable[..., tuple[Run, dict[str, Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    for stem, pixels, warns in (("imagenet", 64, True), ("imagenet", 65, False), ("cifar", 64, False)):
        caplog.clear()
        overrides = ("model.depth=18", f"model.stem={stem}", f"data.image_size={pixels}")
        build_all(tiny("model=imagenet_resnet", *overrides, "force=true")[1])
        assert ("model.stem=imagenet leaves almost nothing of images of 64 pixels" in caplog.text) == warns


def test_each_job_of_a_sweep_is_composed_once(main: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[tuple[str, ...]] = []
    load = ConfigLoaderImpl.load_sweep_config

    def counted(self: ConfigLoaderImpl, master_config: Any, sweep_overrides: list[str]) -> Any:
        composed.append(tuple(sweep_overrides))
        return load(self, master_config, sweep_overrides)

    def nothing_runs(self: PoolLauncher, configs: list[dict[str, Any]]) -> NoReturn:
        raise SystemExit(f"{len(configs)} jobs")

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", counted)
    monkeypatch.setattr(PoolLauncher, "_run", nothing_runs)
    assert main("train", "-m", "seed=0,1,2") == "3 jobs"
    assert sorted(composed) == [("seed=0",), ("seed=1",), ("seed=2",)]
