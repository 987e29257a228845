"""The report on runs made by hand, whose verdicts can be worked out on paper."""

import copy
import csv
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from resnet_lab.report import main, write_report
from resnet_lab.report.analyses import draw_analysis, shown
from resnet_lab.report.committed import line, read_committed
from resnet_lab.report.evaluations import evaluation_tables
from resnet_lab.report.figure import milestones
from resnet_lab.report.page import curves
from resnet_lab.report.paper import CIFAR_RECIPE, IMAGENET_RECIPE, WARMUP, paper_errors, paper_test_error
from resnet_lab.report.results import MOST_POINTS, Result, make_group, read_results
from resnet_lab.report.style import colour, panels
from resnet_lab.report.verdict import pairs, verdict
from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import hash_of_run, run_name
from resnet_lab.runs.noted import note_evaluation
from resnet_lab.runs.plan import add_to_plan
from resnet_lab.runs.sealed import digest_of

CONFIG = {
    "model": {"_target_": "resnet_lab.models.resnet_cifar", "depth": 20, "shortcut": "none", "width": 16},
    "data": {"_target_": "resnet_lab.data.Digits", "root": "", "batch_size": 64, "num_workers": 0, "holdout": 0},
    "optimizer": {"lr": 0.1},
    "trainer": {"accelerator": "cpu"},
    "experiment_name": "study",
    "iterations": 20,
    "job": "train",
}
FACTS = {
    "parameters": 1000,
    "data": {"validates_on": "the test images"},
    "versions": {"torch": "2"},
    "machine": {"processor": "p", "cores": 2},
    "git": {"commit": "c" * 40, "dirty": False},
}


def config_of(depth: int, shortcut: str, seed: int, **changes: object) -> dict:
    config = copy.deepcopy(CONFIG) | {"seed": seed} | changes
    config["model"] |= {"depth": depth, "shortcut": shortcut}
    return config


def add_run(root: Path, depth: int, shortcut: str, seed: int, train_error: float, **facts: object) -> Run:
    config = config_of(depth, shortcut, seed)
    run = Run(root / "study" / run_name(config) / f"seed{seed}")
    run.directory.mkdir(parents=True)
    errors = dict.fromkeys(("train_error_clean", "val_error", "test_error"), train_error + 1)
    run.update(**{"status": "completed", "config": config, "train_error": train_error} | errors | FACTS | facts)
    for step, error in ((10, 50.0), (20, train_error)):
        run.append_metrics({"step": step, "train_error": error, "val_error": error + 1})
    return run


def study(root: Path, errors: dict[tuple[int, str], list[float]]) -> Path:
    for (depth, shortcut), values in errors.items():
        for seed, value in enumerate(values):
            add_run(root, depth, shortcut, seed, value)
    return root / "study"


def test_an_error_that_is_not_finite_is_no_result(tmp_path: Path) -> None:
    path = study(tmp_path, {(20, "none"): [1], (32, "none"): [1]})
    add_run(tmp_path, 44, "none", 0, float("nan"))
    add_run(tmp_path, 56, "none", 0, 1.0).update(test_error=float("nan"))
    reasons = [result.reason for result in read_results([path]).results if result.status == "unreadable"]
    assert sorted(reasons) == [
        "ValueError: metrics.csv has a number that is not finite",
        "ValueError: test_error is nan",
    ]


def test_a_record_that_its_curve_does_not_bear_out_is_no_result(tmp_path: Path) -> None:
    add_run(tmp_path, 20, "none", 0, 5.0).update(train_error=1.0)
    add_run(tmp_path, 56, "none", 0, 5.0).update(config=config_of(56, "none", 0, iterations=30))
    reasons = [result.reason for result in read_results([tmp_path]).results]
    assert sorted(reasons) == [
        "ValueError: metrics.csv does not end at the last iteration",
        "ValueError: train_error is 1.0, but 5.0 in metrics.csv",
    ]


@pytest.mark.parametrize(
    "edit",
    [
        *({"config": []}, {"config": {"model": []}}, {"data": "abc"}, {"git": "abc"}, {"versions": []}),
        *({"test_error": 10**400}, {"test_error": -5.0}, {"test_error": True}, {"parameters": "abc"}),
    ],
)
def test_an_edited_record_spoils_its_own_row_alone(tmp_path: Path, edit: dict) -> None:
    path = study(tmp_path, {(20, "none"): [1]})
    add_run(tmp_path, 56, "none", 0, 9.0).update(**edit)
    write_report([path], tmp_path / "report")
    statuses = [result.status for result in read_results([path]).results]
    assert sorted(statuses) == ["completed", "unreadable"]


@pytest.mark.parametrize("depth", [[2, 2], "deep", None])
def test_a_depth_that_is_no_number_is_reported_without_a_pair(tmp_path: Path, depth: object) -> None:
    run = add_run(tmp_path, 20, "none", 0, 1.0)
    config = config_of(20, "none", 0)
    config["model"]["depth"] = depth
    run.update(config=config)
    write_report([tmp_path], tmp_path / "report")
    assert pairs(read_results([tmp_path])) == []


def test_the_same_seed_twice_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = study(tmp_path, {(20, "none"): [1, 3]})
    shutil.copytree(path, tmp_path / "copy")
    (group,) = read_results([tmp_path]).groups
    assert sorted(group.values("train_error")) == [1, 3]
    assert capsys.readouterr().err == "2 runs left out, as the same run and seed is there twice\n"


@pytest.mark.parametrize("folders", [("old", "new"), ("new", "old")], ids=str)
def test_of_the_same_seed_twice_the_completed_run_counts(tmp_path: Path, folders: tuple[str, str]) -> None:
    study(tmp_path / "new", {(20, "none"): [1, 3]})
    add_run(tmp_path / "old", 20, "none", 0, 2.0, status="failed")
    (group,) = read_results([tmp_path / folder for folder in folders]).groups
    assert sorted(group.values("train_error")) == [1, 3]


def test_a_run_that_has_not_read_its_images_is_of_the_net_of_its_config(tmp_path: Path) -> None:
    for seed in (0, 1):
        add_run(tmp_path, 20, "none", seed, 5.0, processes=2, data={"sha256": "a"})
    add_run(tmp_path, 20, "none", 2, 5.0, status="failed", data=None)
    (group,) = read_results([tmp_path]).groups
    assert len(group.results) == 3


def test_to_join_runs_with_their_committed_copies_adds_nothing(tmp_path: Path) -> None:
    path, output = study(tmp_path, {(20, "none"): [1, 3]}), tmp_path / "committed/study"
    write_report([path], output)
    lines = (output / "runs.jsonl").read_text()
    for _ in range(2):
        write_report([output, path], output)
        assert (output / "runs.jsonl").read_text() == lines
        assert "not complete" not in (output / "report.md").read_text()
    assert all(result.directory.is_dir() for result in read_results([output, path], read_committed).results)


def test_committed_runs_on_a_folder_of_images_are_pooled_with_new_ones(tmp_path: Path) -> None:
    for root, seed in (("there", 0), ("here", 1)):
        run = add_run(tmp_path / root, 20, "none", seed, 1.0)
        data = {"_target_": "resnet_lab.data.ImageFolder", "root": f"/{root}/CIFAR-10-images"}
        run.update(config=config_of(20, "none", seed, data=data))
    write_report([tmp_path / "there"], tmp_path / "committed/study")
    assert "/there" not in (tmp_path / "committed/study/runs.jsonl").read_text()
    (group,) = read_results([tmp_path / "committed/study", tmp_path / "here"], read_committed).groups
    assert len(group.completed) == 2


def test_a_setting_that_the_identity_leaves_unsaid_is_a_value_of_a_sweep(tmp_path: Path) -> None:
    for smoothing in (0.0, 0.1, 0.2):
        config = config_of(20, "none", 0, label_smoothing=smoothing)
        add_run(tmp_path / str(smoothing), 20, "none", 0, 1.0).update(config=config)
    groups = read_results([tmp_path]).groups
    assert [group.settings["label_smoothing"] for group in groups] == [0.0, 0.1, 0.2]


def test_a_rate_falls_at_the_milestones_of_multistep_alone(tmp_path: Path) -> None:
    for target, steps in (("MultiStep", [5]), ("Chain", [])):
        config = config_of(
            20, "none", 0, schedule={"_target_": f"resnet_lab.schedule.{target}", "milestones": [5]}
        )
        add_run(tmp_path / target, 20, "none", 0, 1.0).update(config=config)
        assert milestones(read_results([tmp_path / target])) == steps


def test_runs_on_other_images_are_no_pair(tmp_path: Path) -> None:
    path = study(tmp_path, {(20, "none"): [1]})
    add_run(tmp_path, 56, "none", 0, 9.0, data={"sha256": "other"})
    assert pairs(read_results([path])) == []


def test_two_recipes_have_no_common_verdict(tmp_path: Path) -> None:
    study(tmp_path, {(20, "none"): [1], (56, "none"): [9]})
    for depth in (20, 56):
        run = add_run(tmp_path, depth, "A", 0, 1.0)
        run.update(config=config_of(depth, "A", 0, optimizer={"lr": 0.2}))
    assert verdict(read_results([tmp_path]))[0].startswith("Several recipes")


def test_a_pair_differs_in_depth_alone(tmp_path: Path) -> None:
    path = study(tmp_path, {(20, "none"): [1]})
    other = add_run(tmp_path, 56, "none", 0, 9.0)
    other.update(config=config_of(56, "none", 0, optimizer={"lr": 0.2}))
    assert pairs(read_results([path])) == []


def test_every_depth_is_held_against_the_shallowest(tmp_path: Path) -> None:
    path = study(tmp_path, {(depth, "none"): [depth / 10] for depth in (20, 32, 44, 56)})
    compared = [(pair.shallow.depth, pair.deep.depth) for pair in pairs(read_results([path]))]
    assert compared == [(20, 32), (20, 44), (20, 56)]


def test_runs_that_are_not_complete_are_rows_that_say_so(tmp_path: Path) -> None:
    path = study(tmp_path, {(20, "none"): [1], (56, "none"): [5]})
    add_run(tmp_path, 20, "A", 0, 1.0, status="failed", error="the loss is not finite at iteration 7")
    add_run(tmp_path, 56, "A", 0, 1.0, status="running")
    broken = add_run(tmp_path, 20, "none", 1, 1.0)
    broken.record_path.write_text("{")
    missing = run_name(config_of(32, "none", 0))
    add_to_plan(path, [str(path / missing / "seed0")])
    main([str(path)])
    text = (path / "report.md").read_text()
    assert "4 of 6 runs are not complete and are left out." in text
    for row in (
        r"\| resnet-20-A-\w+ \| 0 \| failed \| the loss is not finite at iteration 7 \|",
        # nobody holds its lock: the process is gone
        r"\| resnet-56-A-\w+ \| 0 \| interrupted \|",
        r"\| plain-20-\w+ \| 1 \| unreadable \| UserError: .*record.json is damaged \(JSONDecodeError",
        rf"\| {missing} \| 0 \| missing \|",
    ):
        assert re.search(row, text), row
    assert "failed" in (path / "report.html").read_text()
    assert (path / "results.csv").read_text().count("\n") == 7
    of_nets = text.partition("## Runs that")[0]
    assert re.findall(r"\| plain-20 \|.*\| (.*) \|", of_nets) == ["1 completed, 1 unreadable"]


# what makes a run another than the paper's, in its config or in the facts about its images
NOT_THE_PAPERS: list[dict[str, dict[str, Any]]] = [
    {"model": {"_target_": "resnet_lab.models.preact_resnet_cifar"}},
    {"model": {"shortcut": "B"}},
    {"model": {"width": 32}},
    {"data": {"subset": 2000}},
    {"data": {"mean": "per_channel"}},
    {"data": {"std": [0.2, 0.2, 0.2]}},
    {"data": {"holdout": 5000}},
    {"optimizer": {"nesterov": True}},
    {"optimizer": {"_target_": "torch.optim.RMSprop"}},
    {"schedule": {"milestones": [1, 2]}},
    {"schedule": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 64000}},
    {"schedule": {"_target_": "torch.optim.lr_scheduler.ConstantLR"}},
    {"trainer": {"precision": "bf16-mixed"}},
    {"trainer": {"gradient_clip_val": 1.0}},
    {"facts": {"official": False}},
    {"facts": {"official": None}},
    {"model": {"norm": "none"}},
    {"facts": {"train_images": 45000}},
]


def test_settings_that_came_later_are_the_papers_by_default(tmp_path: Path) -> None:
    papers_run(tmp_path, 56, {"model": {"norm": "batch", "layers_per_block": 2}})
    (group,) = read_results([tmp_path]).groups
    assert paper_test_error(group) == "6.97 % (n = 1)"


def papers_run(root: Path, depth: int, changes: dict[str, dict[str, Any]]) -> None:
    blocks = {name: dict(block) for name, block in CIFAR_RECIPE.items()}
    if depth == 110:
        blocks["schedule"] |= {"_target_": "resnet_lab.schedule.MultiStepWarmup"} | WARMUP
    for name, block in blocks.items():
        block |= changes.get(name, {})
    run = add_run(root, depth, "A", 0, 0.5)
    config = run.record()["config"] | {"iterations": 64000} | blocks
    config["model"]["depth"] = depth
    images = {"train_images": 50000, "test_images": 10000, "official": True} | changes.get("facts", {})
    run.update(config=config, data={"validates_on": "the test images"} | images)
    run.append_metrics({"step": 64000, "train_error": 0.5, "val_error": 1.5})


@pytest.mark.parametrize("changes", [{}, *NOT_THE_PAPERS])
def test_the_papers_number_stands_beside_the_papers_recipe_and_images_alone(
    tmp_path: Path, changes: dict[str, dict[str, Any]]
) -> None:
    papers_run(tmp_path, 56, changes)
    (group,) = read_results([tmp_path]).groups
    assert paper_test_error(group) == (None if changes else "6.97 % (n = 1)")


def test_the_mean_of_resnet_110_stands_beside_our_mean(tmp_path: Path) -> None:
    papers_run(tmp_path, 110, {})
    write_report([tmp_path], tmp_path)
    assert "| 6.61 ± 0.16 % (n = 5) |" in (tmp_path / "report.md").read_text()
    assert "6.43" not in (tmp_path / "report.md").read_text()


def test_the_page_needs_no_network_and_no_trust(tmp_path: Path) -> None:
    add_run(tmp_path, 20, "none", 0, 1.0, status="failed", error="<script>alert(1)</script>")
    page = write_report([tmp_path], tmp_path).read_text()
    assert not re.search(r"\[\[[A-Z]+\]\]", page)
    assert not re.search(r"https?://|src=|@import|<link", page)
    assert "<script>alert" not in page
    svg = (tmp_path / "curves.svg").read_text()
    assert "<script" not in svg


def test_long_curves_are_thinned_and_keep_their_end(tmp_path: Path) -> None:
    run = add_run(tmp_path, 20, "none", 0, 64.0, val_error=64.0)
    run.update(config=config_of(20, "none", 0, iterations=64_000))
    rows = [f"{step},{step / 1000},{step / 1000}" for step in range(1, 64_001)]
    run.metrics_path.write_text("\n".join(["step,train_error,val_error", *rows]) + "\n")
    (result,) = read_results([tmp_path]).results
    assert len(result.curve.steps) <= MOST_POINTS
    assert result.curve.steps[-1] == 64_000


def test_the_same_runs_draw_the_same_files(tmp_path: Path) -> None:
    path = study(tmp_path, {(20, "none"): [1, 2], (56, "none"): [5, 6]})
    for name in ("one", "two"):
        write_report([path], tmp_path / name)
    for file in ("curves.svg", "results.csv", "report.md", "report.html"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def sweep(
    root: Path, learning_rates: tuple[float, ...] = (0.1, 0.01), decays: tuple[float, ...] = (0, 1e-4)
) -> Path:
    """Plain and residual nets at each of the settings, two seeds each."""
    for number, (lr, decay, shortcut) in enumerate(itertools.product(learning_rates, decays, ("none", "A"))):
        for seed in (0, 1):
            config = config_of(20, shortcut, seed, optimizer={"lr": lr, "weight_decay": decay})
            run = Run(root / "study" / run_name(config) / f"seed{seed}")
            run.directory.mkdir(parents=True)
            errors = dict.fromkeys(("train_error", "train_error_clean", "val_error", "test_error"), 5.0 + number)
            run.update(status="completed", config=config, **errors, **FACTS)
            for step, error in ((10, 50.0), (20, 5.0 + number)):
                run.append_metrics({"step": step, "train_error": error, "val_error": error})
    return root / "study"


def test_what_was_swept_is_named_wherever_runs_are(tmp_path: Path) -> None:
    page = write_report([sweep(tmp_path)], tmp_path / "report").read_text()
    report = (tmp_path / "report/report.md").read_text()
    rows = csv.DictReader((tmp_path / "report/results.csv").read_text().splitlines())
    cells = {(row["model.shortcut"], row["optimizer.lr"], row["optimizer.weight_decay"]) for row in rows}
    assert cells == set(itertools.product(("none", "A"), ("0.1", "0.01"), ("0", "0.0001")))
    for lr, decay in itertools.product(("0.01", "0.1"), ("0", "0.0001")):
        assert f"| resnet-20-A, lr {lr}, weight decay {decay} |" in report
        assert f"ResNet-20, option A, lr {lr}, weight decay {decay}" in page
    svg = (tmp_path / "report/curves.svg").read_text()
    for words in ("lr 0.01", "lr 0.1", "plain, weight decay 0", "residual, weight decay 0.0001"):
        assert f">{words}<" in svg
    for name, words in (("lr", "plain-20, weight decay 0.0001"), ("weight_decay", "ResNet-20, option A, lr 0.1")):
        assert f"![final errors against {name.replace('_', ' ')}]({name}.png)" in report
        assert f">{words}<" in (tmp_path / f"report/{name}.svg").read_text()
    assert page.count("<img") == 2


def test_a_colour_stands_for_one_value_in_all_panels_and_in_its_order(tmp_path: Path) -> None:
    found = read_results([sweep(tmp_path, (0.1, 0.01, 0.001))])
    colours: dict[float, set[str]] = {}
    for group in found.groups:
        colours.setdefault(group.settings["optimizer.lr"], set()).add(colour(found, group))
    assert {lr: len(those) for lr, those in colours.items()} == {0.001: 1, 0.01: 1, 0.1: 1}
    green = [int(min(colours[lr])[3:5], 16) for lr in sorted(colours)]
    assert green == sorted(green)  # viridis runs from dark to light
    assert len(panels(found)) == 4


def test_a_net_has_the_same_colour_in_every_study(tmp_path: Path) -> None:
    colours = []
    for number, functions in enumerate((("vgg", "highway"), ("alexnet", "inception_v4", "vgg", "highway"))):
        for name in functions:
            run = add_run(tmp_path / str(number), 20, name, 0, 5.0)
            run.update(config=run.record()["config"] | {"model": {"_target_": f"resnet_lab.models.{name}"}})
        found = read_results([tmp_path / str(number)])
        of = {group.model: colour(found, group) for group in found.groups}
        assert len(set(of.values())) >= len(functions) - 1  # none twice in a panel
        colours.append((of["vgg"], of["highway"]))
    assert colours[0] == colours[1]


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    run = add_run(tmp_path, 20, "none", 0, 5.0, status="failed", error="the disk is full")
    run.metrics_path.unlink()
    write_report([tmp_path / "study"], tmp_path / "report")
    assert not list((tmp_path / "report").glob("*.png"))
    assert "![" not in (tmp_path / "report/report.md").read_text()


def test_curves_at_the_floor_are_enlarged(tmp_path: Path) -> None:
    path = study(tmp_path, {(20, "none"): [60, 62], (20, "A"): [1, 1.5]})
    for run in (Run(record.parent) for record in path.glob("resnet*/seed*/record.json")):
        rows = [f"{step},{error},{error + 1}" for step, error in ((2, 70.0), (10, 2.0))]
        run.metrics_path.write_text("\n".join(["step,train_error,val_error", *rows, ""]))
        run.append_metrics(
            {"step": 20, "train_error": run.record()["train_error"], "val_error": run.record()["val_error"]}
        )
    write_report([path], tmp_path / "report")
    assert (tmp_path / "report/curves.svg").read_text().count(">enlarged<") == 1


def test_wrong_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"there are no training runs in .*"):
        main([str(tmp_path)])
    with pytest.raises(SystemExit):
        main([str(tmp_path / "nowhere")])
    assert "nowhere does not exist" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path), str(tmp_path)])
    assert "--output is needed" in capsys.readouterr().err
    add_run(tmp_path, 20, "none", 0, 1.0)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="file"):
        main([str(tmp_path), "--output", str(tmp_path / "file")])


def evaluation(run: Run, protocol: dict, error: float) -> dict:
    config = run.record()["config"]
    return {"protocol": protocol, "error": error, "run": hash_of_run(config), "iteration": config["iterations"]}


def test_one_protocol_is_never_laid_beside_another(tmp_path: Path) -> None:
    runs = [add_run(tmp_path, 20, "none", seed, 5.0, iterations=20) for seed in (0, 1)]
    ten, center = {"name": "ten_crop", "shorter_side": 256}, {"name": "center_crop", "shorter_side": 256}
    other_ten = ten | {"shorter_side": 300}
    for run, error in zip(runs, (10.0, 12.0), strict=True):
        for protocol, more in ((ten, 0), (center, 20), (other_ten, 40)):
            note_evaluation(run.directory / "evaluations.json", evaluation(run, protocol, error + more))
    # an evaluation of an earlier iteration, and the same again, count for nothing and once
    note_evaluation(runs[0].directory / "evaluations.json", evaluation(runs[0], ten, 99.0) | {"iteration": 10})
    note_evaluation(runs[0].directory / "evaluations.json", evaluation(runs[0], ten, 10.0))
    ensemble = {"protocol": ten, "error": 9.0, "members": ["a", "b"], "of": [{"weights": "1"}, {"weights": "2"}]}
    note_evaluation(tmp_path / "study/ensembles.json", ensemble)
    tables = {title: rows for title, _, rows in evaluation_tables(read_results([tmp_path / "study"]))}
    assert tables == {
        "ten crop: shorter side 256": [
            ["plain-20", "11.00 ± 1.41 % (n = 2)", ""],
            ["ensemble of 2: a, b", "9.00 %", ""],
        ],
        "center crop: shorter side 256": [["plain-20", "31.00 ± 1.41 % (n = 2)", ""]],
        "ten crop: shorter side 300": [["plain-20", "51.00 ± 1.41 % (n = 2)", ""]],
    }
    page = write_report([tmp_path / "study"], tmp_path / "study").read_text()
    assert page.count("<h2>Test error by") == 3


def test_the_papers_errors_stand_beside_the_same_protocol_and_recipe_alone(tmp_path: Path) -> None:
    run = add_run(tmp_path, 34, "B", 0, 20.0)
    config = run.record()["config"] | {"iterations": 600000} | copy.deepcopy(IMAGENET_RECIPE)
    config["model"] |= {"depth": 34, "shortcut": "B"}
    config["schedule"] = {"_target_": "resnet_lab.schedule.Plateau"}

    def paper(protocol: dict, test_images: int = 50000, **changes: object) -> object:
        images = {"train_images": 1281167, "test_images": test_images}
        result = Result(run.directory, "completed", "", {"config": config | changes, "data": images})
        return paper_errors(make_group("g", [result]), protocol)

    ten = {"name": "ten_crop", "shorter_side": 256, "crop": 224}
    multi = {"name": "multi_scale", "shorter_sides": [224, 256, 384, 480, 640], "mirrored": False}
    assert paper(ten) == (24.52, 7.46)
    assert paper(multi) == (21.84, 5.71)
    assert paper({"name": "center_crop", "shorter_side": 256, "crop": 224}) is None
    assert paper(ten | {"shorter_side": 320}) is None
    assert paper(ten, test_images=3925) is None
    assert paper(ten, iterations=1000) is None
    assert paper(ten, trainer={"precision": "bf16-mixed"}) is None


def test_nets_trained_alike_are_compared(tmp_path: Path) -> None:
    for name, error, cost in (
        ("vgg", 9.0, 300),
        ("highway", 4.0, 200),
        ("alexnet", 6.0, 100),
        ("inception", 8.0, 150),
    ):
        run = add_run(tmp_path, 20, "none", 0, error, multiply_adds=cost, images_per_second=10.0)
        config = run.record()["config"] | {"model": {"_target_": f"resnet_lab.models.{name}"}}
        run.update(config=config)
        run.directory.parent.rename(tmp_path / "study" / run_name(config))
    found = read_results([tmp_path / "study"])
    assert verdict(found)[0] == (
        "Of 4 nets trained alike, highway has the lowest mean training error, 4.00 % (n = 1); none with as few "
        "multiply-adds has a lower one than alexnet, highway."
    )
    assert [group.name for group in found.groups if not group.plain] == ["highway"]
    write_report([tmp_path / "study"], tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"multiply_adds.png", "multiply_adds.svg"}
    assert "data:image/svg+xml;base64," in (tmp_path / "out/report.html").read_text()
    assert "| alexnet | 0.00M | 0.0M | 10 |" in (tmp_path / "out/report.md").read_text()


def test_detectors_without_a_clean_pass_have_no_training_errors_to_compare(tmp_path: Path) -> None:
    for depth, name in ((20, "vgg"), (56, "resnet_cifar")):
        run = add_run(tmp_path, depth, "none", 0, 90.0, multiply_adds=100)
        record = run.record()
        del record["train_error_clean"]
        record["config"] |= {
            "model": {"_target_": f"resnet_lab.models.{name}"},
            "task": {"_target_": "resnet_lab.tasks.Detection"},
            "runtime": {"final_train_images": 0},
        }
        run.record_path.write_text(json.dumps(record))
        run.directory.parent.rename(tmp_path / "study" / run_name(record["config"]))
    found = read_results([tmp_path / "study"])
    assert [result.reason for result in found.results] == ["", ""]
    assert found.several_models
    assert all(result.started for result in found.results), "90 % is no guess of a detector"
    write_report([tmp_path / "study"], tmp_path / "out")
    assert not (tmp_path / "out/multiply_adds.png").exists()
    assert "did not start to train" not in (tmp_path / "out/report.md").read_text()


def test_the_page_counts_the_curves_that_it_draws(tmp_path: Path) -> None:
    for seed, status in ((0, "running"), (1, "interrupted"), (2, "interrupted")):
        run = add_run(tmp_path, 20, "none", seed, 5.0, status=status)
        if seed == 2:
            run.metrics_path.unlink()
    (net,) = curves(read_results([tmp_path / "study"]))["nets"]
    assert (net["seeds"], len(net["train_error"]["singles"])) == (2, 2)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[1]",
        '[{"protocol": null}]',
        '[{"protocol": {"name": "x"}, "error": 101}]',
        '[{"protocol": {"name": "x"}}]',
    ],
)
def test_a_damaged_evaluation_spoils_nothing_else(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [add_run(tmp_path, 20, "none", seed, 5.0, iterations=20) for seed in (0, 1)]
    note_evaluation(runs[1].directory / "evaluations.json", evaluation(runs[1], {"name": "ten_crop"}, 10.0))
    if content.startswith("[{"):
        config = runs[0].record()["config"]
        of_run = {"run": hash_of_run(config), "iteration": 20}
        content = json.dumps([json.loads(content)[0] | of_run])
    (runs[0].directory / "evaluations.json").write_text(content)
    (tmp_path / "study/ensembles.json").write_text(content)
    write_report([tmp_path / "study"], tmp_path / "study")
    report = (tmp_path / "study/report.md").read_text()
    assert "5.00 ± 0.00 % (n = 2)" in report
    assert "| plain-20 | 10.00 % (n = 1) |" in report
    assert "evaluations.json is left out" in report
    assert "ensembles.json is left out" in capsys.readouterr().err


def test_an_evaluation_of_other_weights_counts_for_nothing(tmp_path: Path) -> None:
    runs = [add_run(tmp_path, 20, "none", seed, 5.0, iterations=20) for seed in (0, 1)]
    for run in runs:
        run.checkpoint_path.parent.mkdir()
        run.checkpoint_path.write_bytes(b"1" * 40)
    weights = {"weights": digest_of(runs[0].checkpoint_path)}
    note_evaluation(runs[0].directory / "evaluations.json", evaluation(runs[0], {"name": "a"}, 10.0) | weights)
    names = [str(run.directory.relative_to(tmp_path / "study")) for run in runs]
    ensemble = {"protocol": {"name": "a"}, "error": 9.0, "members": names, "of": [weights, weights]}
    note_evaluation(tmp_path / "study/ensembles.json", ensemble)
    ((_, _, rows),) = evaluation_tables(read_results([tmp_path / "study"]))
    assert len(rows) == 2
    runs[0].checkpoint_path.write_bytes(b"2" * 40)
    assert evaluation_tables(read_results([tmp_path / "study"])) == []


@pytest.mark.parametrize("key", ["parameters", "multiply_adds", "images_per_second"])
@pytest.mark.parametrize("value", [[1], "x", True])
def test_a_cost_that_is_no_number_makes_the_run_unreadable(tmp_path: Path, key: str, value: object) -> None:
    add_run(tmp_path, 20, "none", 0, 5.0, **{key: value})
    add_run(tmp_path, 20, "none", 1, 5.0)
    assert [result.status for result in read_results([tmp_path / "study"]).results] == ["unreadable", "completed"]


def test_a_report_can_be_made_again_from_what_is_committed(tmp_path: Path) -> None:
    path = study(tmp_path, {(20, "none"): [1, 2], (56, "none"): [5, 6], (20, "A"): [1, 1]})
    add_run(tmp_path, 56, "A", 0, 1.0, status="failed", error="the loss is not finite")
    write_report([path], tmp_path / "first")
    write_report([tmp_path / "first"], tmp_path / "again")
    for file in ("report.md", "results.csv", "runs.jsonl", "curves.svg", "depth.svg", "report.html"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


def test_runs_of_another_machine_join_those_committed(tmp_path: Path) -> None:
    path = study(tmp_path, {(20, "none"): [1, 2, 3], (56, "none"): [5, 6, 9]})
    write_report([path], tmp_path / "whole")
    committed = tmp_path / "committed"
    committed.mkdir()
    lines = (tmp_path / "whole/runs.jsonl").read_text().splitlines(keepends=True)
    (committed / "runs.jsonl").write_text("".join(line for line in lines if '"seed": 2' not in line))
    for seed in (0, 1):
        for directory in path.glob(f"*/seed{seed}"):
            shutil.rmtree(directory)
    write_report([committed, path], committed)
    assert sorted((committed / "runs.jsonl").read_text().splitlines(keepends=True)) == sorted(lines)
    for file in ("report.md", "curves.svg", "depth.svg"):
        assert (committed / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


COMPLETED = {"run": "a/b/seed0", "status": "completed", "reason": "", "record": {}, "evaluations": []}


@pytest.mark.parametrize(
    "line",
    [
        *("{", "[]", '{"run": "x"}', "{}" * 9, "null"),
        json.dumps(COMPLETED | {"curve": {"steps": [], "train_error": [], "val_error": []}}),
    ],
)
def test_a_damaged_line_of_what_is_committed_costs_its_own_run(tmp_path: Path, line: str) -> None:
    write_report([study(tmp_path, {(20, "none"): [1, 2]})], tmp_path / "first")
    file = tmp_path / "first/runs.jsonl"
    file.write_text(file.read_text() + line + "\n")
    write_report([tmp_path / "first"], tmp_path / "again")
    assert "plain-20" in (tmp_path / "again/report.md").read_text()
    assert "line 3 of runs.jsonl" in (tmp_path / "again/report.md").read_text()


@pytest.mark.parametrize("begun", [".plan.lock", "plain-8/seed0/.lock"])
def test_runs_that_have_only_just_begun_are_told_from_none(
    tmp_path: Path, begun: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="there are no training runs"):
        main([str(tmp_path)])
    (tmp_path / begun).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / begun).touch()
    with pytest.raises(SystemExit, match="75"):
        main([str(tmp_path)])
    assert "have only just begun" in capsys.readouterr().err


def test_nets_that_were_not_trained_have_no_picture_of_errors(tmp_path: Path) -> None:
    for depth in (20, 56):
        run = Run(tmp_path / "study" / f"plain-{depth}-0" / "seed0")
        run.directory.mkdir(parents=True)
        run.update(status="completed", config=config_of(depth, "none", 0, iterations=0), **FACTS)
    page = write_report([tmp_path], tmp_path / "report")
    assert not list(page.parent.glob("*.png"))
    assert "plain-56" in (page.parent / "report.md").read_text()


@pytest.mark.slow
def test_a_crowd_of_nets_is_divided_into_panels(tmp_path: Path) -> None:
    study = read_results([Path(__file__).parent.parent / "experiments/relu_enough"], read_committed)
    (what,) = shown(study)
    assert len(what.groups) == 18
    draw_analysis(study, what, tmp_path)
    drawn = (tmp_path / "analysis-signals.svg").read_text()
    for title in ("plain, initialization he, norm batch", "plain, initialization xavier, norm none"):
        assert drawn.count(f">{title}<") == 1
    assert drawn.count(">layer<") == 6 * 4  # of each panel
    assert drawn.count(">activation tanh<") == 1  # in the legend


@pytest.mark.parametrize(("given", "kept"), [("/there/net.pth", "net.pth"), ("of:another", "of:another")])
def test_where_first_weights_lay_is_not_committed(given: str, kept: str) -> None:
    weights = {"file": "/there/net.pth", "note": "/there/net.pth has the net's own names", "sha256": "0123"}
    record = {"config": {"weights": given}, "weights": weights}
    found = line(Result(Path("/there/outputs/mine/net/seed0"), "completed", record=record))["record"]
    assert found["weights"] == {"sha256": "0123"}
    assert found["config"]["weights"] == kept
