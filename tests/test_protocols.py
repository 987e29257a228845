"""The evaluation protocols against arithmetic by hand, and through the command line."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from conftest import TINY
from hydra import compose, initialize_config_dir
from pytorch_lightning import Trainer
from torch import Tensor, nn

from resnet_lab.checks import UserError
from resnet_lab.config.compose import CONF, resolved
from resnet_lab.data import ImageData, ImageNet, Synthetic
from resnet_lab.data.batches import EvaluationBatches, Images, Loader
from resnet_lab.data.views import CenterCrop, MultiScale, TenCrop, resize
from resnet_lab.eval import perform
from resnet_lab.evaluation.protocols import Scorer, caution, evaluate, make_protocol
from resnet_lab.evaluation.stored import Subject
from resnet_lab.models import alexnet, vgg
from resnet_lab.models.torchvision_nets import fully_convolutional
from resnet_lab.runs.directory import Run
from resnet_lab.runs.worker import execute


class ByBrightness(nn.Module):
    """Logits (N, 3) that are a function of the mean pixel, with a bias of their own."""

    def __init__(self, bias: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([4.0, 0.0, -4.0]))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None] * self.weight + self.bias


class Four(Synthetic):
    """Four images of 8x8, three classes; a half of each is bright, so that crops differ."""

    def load(self) -> tuple[Images, Images]:
        pixels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
        pixels[0, :, :, :2], pixels[1, :, :4], pixels[2, :, 5:], pixels[3] = 255, 200, 90, 255
        images = Images(pixels, torch.tensor([0, 1, 2, 0]))
        return images, images


def four(kind: type[Four] = Four) -> Four:
    data = kind(root="", in_channels=1, num_classes=3, image_size=8, train_images=4, test_images=4, mean=[0.5])
    data.prepare()
    return data


def subject(name: str, net: nn.Module, data: ImageData) -> Subject:
    return Subject(name, net, data, {}, None, "", "")


def quiet_trainer(**settings: Any) -> Trainer:
    off = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(accelerator="cpu", devices=1, **off, **settings)


SETTINGS = {
    "center_crop": {"shorter_side": 280},  # 10 pixels for crops of 8
    "ten_crop": {"shorter_side": 280},
    "multi_scale": {"shorter_sides": [224, 336, 448], "mirrored": False},  # 8, 12, 16 pixels
}


def views_by_hand(name: str, image: Tensor) -> list[Tensor]:
    if name == "multi_scale":
        return [resize(image, side) for side in (8, 12, 16)]
    large = resize(image, 10)
    if name == "center_crop":
        return [large[:, 1:9, 1:9]]
    corners = [large[:, top : top + 8, left : left + 8] for top in (0, 2) for left in (0, 2)]
    five = [*corners, large[:, 1:9, 1:9]]
    return five + [crop.flip(-1) for crop in five]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("biases", [[[0.0, 0.3, 0.1]], [[0.0, 0.3, 0.1], [0.5, -0.2, 0.4]]])
def test_errors_are_those_of_softmax_scores_averaged_by_hand(name: str, biases: list[list[float]]) -> None:
    """Over the views of an image, and over the members of an ensemble."""
    data, nets = four(), [ByBrightness(bias) for bias in biases]
    protocol = make_protocol({"name": name, **SETTINGS[name]}, data)
    result = evaluate([subject(str(i), net, data) for i, net in enumerate(nets)], protocol, quiet_trainer())
    scorer = Scorer([subject(str(i), net, data) for i, net in enumerate(nets)], protocol).eval()
    loader = Loader(data.dataset(data.test, view=protocol.view), EvaluationBatches(4, 3, 0, 1))
    quiet_trainer().test(scorer, loader, verbose=False)
    wrong, nll = 0, 0.0
    for image, label in zip(*data.test, strict=True):
        scores = [
            torch.softmax(net(view[None].float() / 255 - 0.5).double(), 1)[0]
            for view in views_by_hand(name, image)
            for net in nets
        ]
        mean = torch.stack(scores).mean(0)
        wrong += int(mean.argmax() != label)
        nll -= mean[label].log().item()
    assert result["error"] == scorer.errors["error"] == 100 * wrong / 4
    # the scores themselves, to more digits than a count of four has
    assert scorer.errors["loss"] == pytest.approx(nll / 4, rel=1e-6)
    assert result["images"] == 4
    assert result["protocol"]["name"] == name


def test_resizing_images_that_the_net_saw_in_one_size_is_warned_of() -> None:
    data = four()
    ten = make_protocol({"name": "ten_crop", "shorter_side": 256}, data)
    assert "protocol=ten_crop resizes images of 8 pixels to 9, sizes that the net" in caution(ten, data)
    scales = make_protocol({"name": "multi_scale", "shorter_sides": [224, 448], "mirrored": False}, data)
    assert "resizes images of 8 pixels to 8, 16, sizes" in caution(scales, data)
    assert not caution(make_protocol({"name": "center_crop", "shorter_side": None}, data), data)
    assert not caution(make_protocol({"name": "ten_crop", "shorter_side": 224}, data), data)
    assert not caution(ten, ImageNet(root="", image_size=8, shorter_side=[8, 9], eval_shorter_side=8))


def test_scores_are_averaged_and_not_logits() -> None:
    """One very sure member, two less sure ones: the scores' mean names class 1, the logits' mean class 0."""
    data = four()
    biases = [[20.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 3.0, 0.0]]
    members = [subject(str(number), ByBrightness(bias), data) for number, bias in enumerate(biases)]
    for member in members:
        nn.init.zeros_(member.net.weight)
    assert torch.tensor(biases).mean(0).argmax() == 0
    assert torch.tensor(biases).softmax(1).mean(0).argmax() == 1
    result = evaluate(members, make_protocol({"name": "center_crop", "shorter_side": None}, data), quiet_trainer())
    assert data.test.labels.tolist() == [0, 1, 2, 0]
    assert result["error"] == 75


def test_views() -> None:
    image = torch.arange(3 * 10 * 14, dtype=torch.int64).remainder(256).to(torch.uint8).view(3, 10, 14)
    assert torch.equal(CenterCrop(10, 8)(image)[0], image[:, 1:9, 3:11])
    ten = TenCrop(10, 8)(image)
    assert torch.equal(ten[0], image[:, :8, :8])
    assert torch.equal(ten[3], image[:, 2:, 6:])
    assert torch.equal(ten[5], image.flip(-1)[:, :8, :8])
    # with 5 pixels of room the middle of the mirror image is one beside the mirror image of the middle
    odd = TenCrop(10, 8)(image[:, :, :13])
    assert torch.equal(odd[9], image[:, :, :13].flip(-1)[:, 1:9, 2:10])
    assert torch.equal(odd[4], image[:, 1:9, 2:10])
    assert torch.equal(odd[9], image[:, 1:9, 3:11].flip(-1))
    assert [tuple(v.shape[1:]) for v in MultiScale([5, 10], True)(image)] == [(5, 7), (10, 14)] * 2
    assert torch.equal(MultiScale([10], True)(image)[1], image.flip(-1))


@pytest.mark.parametrize("make", [vgg, alexnet])
def test_nets_that_average_before_their_linear_layers_stay_as_they_are(make: Callable[..., nn.Module]) -> None:
    net = make(*([11] if make is vgg else []), num_classes=5, stem="cifar")
    assert fully_convolutional(net) is net


@pytest.mark.parametrize("make", [lambda: vgg(11, num_classes=5), lambda: alexnet(num_classes=5)])
def test_linear_layers_as_convolutions(make: Callable[[], nn.Module]) -> None:
    """At 224 pixels the very same net; on larger images the mean over the places where it fits."""
    torch.manual_seed(0)
    net = make().eval()
    whole = fully_convolutional(net).eval()
    with torch.no_grad():
        images = torch.randn(1, 3, 224, 224)
        torch.testing.assert_close(whole(images), net(images), rtol=1e-4, atol=1e-6)
        large = torch.randn(1, 3, 224, 256)
        features = net.features(large)
        size = features.shape[2]
        places = [features[:, :, :, left : left + size] for left in range(features.shape[3] - size + 1)]
        by_hand = torch.stack([net.classifier(place.flatten(1)) for place in places]).mean(0)
        torch.testing.assert_close(whole(large), by_hand, rtol=1e-4, atol=1e-6)
        # too small for the kernel: what the net's own pooling makes of it
        small = torch.randn(1, 3, 96, 96)
        torch.testing.assert_close(whole(small), net(small), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "five_crop"},
            "protocol.name must be one of center_crop, ten_crop, multi_scale, recorded; got 'five_crop'",
        ),
        ({"name": "ten_crop", "shorter_side": 200}, "must not be below the crop's 224 pixels, got 200"),
        (
            {"name": "ten_crop", "side": 256},
            "protocol.side is not a setting here; there are name, shorter_side",
        ),
        ({"name": "multi_scale", "shorter_sides": 224, "mirrored": False}, "must be a list of lengths, got 224"),
        ({"name": "multi_scale", "shorter_sides": [224], "mirrored": 1}, "mirrored must be true or false, got 1"),
        ({"name": "multi_scale", "shorter_sides": [0], "mirrored": True}, "must be a positive integer, got 0"),
        ({"name": "multi_scale", "shorter_sides": [28], "mirrored": True}, "28 leaves 1 pixels of images of 8"),
    ],
)
def test_a_protocol_that_is_none(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_protocol(settings, four())


@pytest.mark.slow
def test_the_protocol_stands_beside_the_number(resnet_lab: Callable[..., Any], tmp_path: Path) -> None:
    assert resnet_lab("train", "-m", *TINY, "seed=0,1", "experiment_name=e").returncode == 0
    done = resnet_lab("eval", "runs=outputs/e", "protocol=ten_crop")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ten_crop (shorter side 9, crop 8), 21 images") == 2
    assert done.stdout.count("warning: protocol=ten_crop resizes images of 8 pixels to 9") == 2
    done = resnet_lab(
        "eval", "runs=outputs/e", "protocol=ten_crop", "ensemble=true", "trainer=ddp_cpu", fresh=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ensemble of 2: ten_crop (shorter side 9, crop 8), 21 images") == 1
    (run,) = tmp_path.glob("outputs/e/*/seed0")
    assert resnet_lab("eval", f"runs={run}", "protocol=center_crop").returncode == 0
    checkpoint = f"runs={run}/checkpoints/last.ckpt"
    assert resnet_lab("eval", checkpoint, "protocol=center_crop").returncode == 0
    ten, center = json.loads((run / "evaluations.json").read_text())
    assert (ten["protocol"]["name"], center["protocol"]["name"]) == ("ten_crop", "center_crop")
    # the centre crop of a small image is all of it, so this is the recorded error
    assert center["error"] == json.loads((run / "record.json").read_text())["test_error"]
    (ensemble,) = json.loads((run.parent / "ensembles.json").read_text())
    assert ensemble["members"] == ["seed0", "seed1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs={run}", "ensemble=true"], "ensemble=true needs a protocol"),
        (["runs={run}", "ensemble=true", "protocol=ten_crop"], "has 1 complete runs, too few"),
        (["runs=[{run},{run}/../seed0]", "ensemble=true", "protocol=ten_crop"], "has 1 complete runs, too few"),
        (["runs={run}/nowhere"], "nowhere does not exist"),
        (["runs=5"], "runs must be a path or a list of paths (in quotes, if it is a number), got 5"),
        (["runs=outputs", "weights=x.pth"], "one of them alone"),
        (["weights=x.pth"], "needs model=... and data=..."),
        (
            ["weights=x.pth", "model=cifar_plain", "data=synthetic", "ensemble=true"],
            "ensemble=true goes with runs",
        ),
        (["runs=outputs", "model=cifar_plain"], "model and data go with weights=FILE"),
        (["runs=outputs", "ensemble=2"], "ensemble must be true or false, got 2"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    tiny: Callable[..., tuple[Run, dict[str, Any]]], arguments: list[str], message: str
) -> None:
    run, config = tiny("iterations=1")
    run.update(status="completed", config=config)
    with initialize_config_dir(CONF, version_base="1.3"):
        chosen = compose("eval", [argument.format(run=run.directory) for argument in arguments])
    with pytest.raises(UserError, match=re.escape(message)):
        perform(resolved(chosen, "eval"))


def test_an_ensemble_is_of_different_runs_in_one_folder(
    tiny: Callable[..., tuple[Run, dict[str, Any]]], tmp_path: Path
) -> None:
    run, config = tiny("iterations=1")
    assert execute(run, config) == 0
    for folder in ("a", "b/c"):
        shutil.copytree(run.directory, tmp_path / "both" / folder / "seed0")
    both = tmp_path / "both"
    for runs, message in (
        (f"[{both}/a,{both}/b/c]", f"{both} is not in runs; give one folder that has them all"),
        (f"{both}", f"runs={both} has a run twice, which makes no ensemble"),
    ):
        with initialize_config_dir(CONF, version_base="1.3"):
            chosen = compose("eval", [f"runs={runs}", "ensemble=true", "protocol=ten_crop"])
        with pytest.raises(UserError, match=re.escape(message)):
            perform(resolved(chosen, "eval"))
    assert not list(tmp_path.rglob("ensembles.json"))


class Darker(Four):
    """The same, but for the brightness."""

    def load(self) -> tuple[Images, Images]:
        images, _ = super().load()
        darker = images._replace(pixels=images.pixels // 2)
        return darker, darker


def test_an_ensemble_is_of_nets_for_the_same_images() -> None:
    larger = four()
    larger.image_size = 16
    net = ByBrightness([0.0, 0.3, 0.1])
    members = [subject("this", net, four())]
    for others in (larger, four(Darker)):
        with pytest.raises(UserError, match="that and this were not trained for the same images, so they cannot"):
            evaluate([*members, subject("that", net, others)], Mock(), quiet_trainer())
