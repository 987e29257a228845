"""Evaluation protocols: the views of a test image that a net sees, and the averaging of its scores."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.checks import UserError
from resnet_lab.config.rules import check_protocol
from resnet_lab.config.values import COUNT, check
from resnet_lab.data import ImageData, ImagesInMemory
from resnet_lab.data.batches import Batch, EvaluationBatches, Loader, View
from resnet_lab.data.views import CenterCrop, MultiScale, TenCrop
from resnet_lab.evaluation.stored import Subject
from resnet_lab.models.torchvision_nets import fully_convolutional
from resnet_lab.tasks.classification import Tally
from resnet_lab.tasks.module import sum_over_processes

SMALLEST = 4  # pixels, below which there is nothing to see
PAPER_CROP = 224  # pixels, to which the paper's shorter sides refer


class Protocol(NamedTuple):
    """A view of each image, and the `facts` about it: the protocol's name, the sides in pixels, the crop."""

    facts: dict[str, Any]
    view: View | None


def make_protocol(settings: dict[str, Any], data: ImageData) -> Protocol:
    """Make the protocol for images of the data's size.

    Raises:
        UserError: a setting is unknown or out of its range.
    """
    check_protocol(settings)
    name, size = settings["name"], data.image_size
    if name == "multi_scale":
        sides, mirrored = settings["shorter_sides"], settings["mirrored"]
        sides = [in_proportion("shorter_sides", side, size) for side in sides]
        return Protocol({"name": name, "shorter_sides": sides, "mirrored": mirrored}, MultiScale(sides, mirrored))
    given = settings["shorter_side"]
    if name == "center_crop" and given is None:
        side = getattr(data, "eval_shorter_side", size)
        return Protocol({"name": name, "shorter_side": side, "crop": size}, None)
    side = in_proportion("shorter_side", given, size)
    if side < size:
        raise UserError(f"protocol.shorter_side must not be below the crop's {PAPER_CROP} pixels, got {given}")
    view: View = CenterCrop(side, size) if name == "center_crop" else TenCrop(side, size)
    return Protocol({"name": name, "shorter_side": side, "crop": size}, view)


def caution(protocol: Protocol, data: ImageData) -> str:
    """The reason why a protocol makes little sense for these images; empty if there is none."""
    if protocol.view is None or not isinstance(data, ImagesInMemory):
        return ""
    sides = protocol.facts.get("shorter_sides") or [protocol.facts["shorter_side"]]
    if set(sides) == {data.image_size}:
        return ""
    shown = ", ".join(map(str, sides))
    return (
        f"protocol={protocol.facts['name']} resizes images of {data.image_size} pixels to {shown}, "
        "sizes that the net has not seen in training, which raises the errors; it is meant for photographs "
        "such as data=imagenet, protocol=center_crop for these images"
    )


def in_proportion(name: str, side: Any, image_size: int) -> int:
    """Scale a side meant for crops of 224 pixels to images of `image_size`.

    Raises:
        UserError: no pixel is left.
    """
    check(f"protocol.{name}", side, COUNT)
    proportional: int = round(side * image_size / PAPER_CROP)
    if proportional < SMALLEST:
        raise UserError(f"protocol.{name}: {side} leaves {proportional} pixels of images of {image_size}")
    return proportional


def protocol_label(facts: dict[str, Any]) -> str:
    """The protocol in words, such as `ten_crop (shorter side 256, crop 224)`."""
    shown = {key: value for key, value in facts.items() if key != "name" and value is not False}
    words = [f"{key.replace('_', ' ')} {value}" for key, value in shown.items()]
    return f"{facts['name']} ({', '.join(words)})"


class Scorer(LightningModule):
    """Average softmax scores over the views of each image and over the members, and count errors."""

    def __init__(self, members: Sequence[Subject], protocol: Protocol) -> None:
        super().__init__()
        whole = protocol.facts["name"] == "multi_scale"
        self.nets = nn.ModuleList(fully_convolutional(m.net) if whole else m.net for m in members)
        self.data = [member.data for member in members]
        self.tally = Tally(top5=members[0].data.num_classes > 5)
        self.errors: dict[str, float] = {}

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.data[0].note_unreadable(batch)
        if not len(batch.labels):
            return
        views = batch.images if isinstance(batch.images, list) else [batch.images]
        scores = torch.stack([self._scores(view) for view in views]).mean(0)
        logits = scores.log()
        self.tally.add(logits, batch.labels, F.nll_loss(logits, batch.labels))

    def on_test_epoch_end(self) -> None:
        self.images = int(self._sum(self.tally.images))
        self.errors = self.tally.compute_and_reset(self._sum)
        self.unreadable = self.data[0].unreadable_everywhere()

    def _scores(self, pixels: Tensor) -> Tensor:
        """Average the members' scores, (N, num_classes) float64."""
        of_all = []
        for net, data in zip(self.nets, self.data, strict=True):
            images = self.trainer.precision_plugin.convert_input(data.normalize(pixels))
            of_all.append(net(images).double().softmax(1))
        return torch.stack(of_all).mean(0)

    def _sum(self, tensor: Tensor) -> Tensor:
        return sum_over_processes(self.trainer, tensor)


def evaluate(members: Sequence[Subject], protocol: Protocol, trainer: Trainer) -> dict[str, Any]:
    """Compute the errors in percent of the members' averaged scores, each test image once over all processes.

    Raises:
        UserError: the members were not trained for the same images and classes.
    """
    data = members[0].data
    for member in members[1:]:
        if (member.data.checksum, member.data.image_size) != (data.checksum, data.image_size):
            raise UserError(
                f"{member.name} and {members[0].name} were not trained for the same images, so they cannot "
                "form an ensemble"
            )
    data.unreadable.clear()  # among the training images, from which the mean was computed
    scorer = Scorer(members, protocol).eval()
    # images of different shapes cannot form a batch
    alone = protocol.facts["name"] == "multi_scale" and not isinstance(data, ImagesInMemory)
    rank, processes = trainer.global_rank, trainer.world_size
    batches = EvaluationBatches(len(data.test.labels), 1 if alone else data.eval_batch_size, rank, processes)
    loader = Loader(data.dataset(data.test, view=protocol.view), batches, data.num_workers)
    trainer.test(scorer, loader, verbose=False)
    errors = {key: value for key, value in scorer.errors.items() if key != "loss"}
    return {"protocol": protocol.facts, **errors, "images": scorer.images, "unreadable": scorer.unreadable}
