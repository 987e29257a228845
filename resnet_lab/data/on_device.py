"""Images kept on a GPU, where batches are gathered without waiting for the host."""

import logging

import torch
from torch import Tensor
from torch.utils.data import Dataset

from resnet_lab.data.batches import Batch, Images, Request, first_of

log = logging.getLogger(__name__)

DEVICES = ("cuda",)  # types of those with a memory of their own
SHARE = 0.25  # of the free memory that images may take; the rest is for the net


class ImagesOnDevice(Dataset[Batch]):
    """Images on a device, looked up there a whole batch at a time."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitem__(self, request: Request) -> Batch:
        indices = sent(request.indices, self.images.pixels.device)
        pixels, labels = self.images.pixels[indices], self.images.labels[indices]
        return Batch(pixels, labels, indices, request.epoch, request.weight, first=first_of(request.indices))


class DeviceCopies:
    """The parts of a dataset on a device, each copied once, if together they leave it room for a net."""

    def __init__(self) -> None:
        self.copies: list[tuple[Images, Images]] = []  # with the original, by which a copy is found
        self.rooms: dict[torch.device, bool] = {}

    def fit(self, parts: list[Images], device: torch.device) -> bool:
        """Whether they are to be kept on that device: asked once, for what is free before the training."""
        if device not in self.rooms:
            self.rooms[device] = device.type in DEVICES and size_of(parts) <= SHARE * free_memory(device)
            if self.rooms[device]:
                log.info("keeping the images on %s: %.0f MB", device, size_of(parts) / 1e6)
        return self.rooms[device]

    def of(self, part: Images, device: torch.device) -> Images:
        for original, copy in self.copies:
            if original is part and copy.pixels.device == device:
                return copy
        copy = Images(*(column.to(device) for column in part))
        self.copies.append((part, copy))
        return copy


def size_of(parts: list[Images]) -> int:
    """Bytes of the pixels and labels; what are the same images in two parts count once."""
    distinct = {id(part): part for part in parts}.values()
    return sum(column.nbytes for part in distinct for column in part)


def free_memory(device: torch.device) -> int:
    """Bytes of the device's memory that nothing uses."""
    return int(torch.cuda.mem_get_info(device)[0])


def sent(indices: Tensor, device: torch.device) -> Tensor:
    """The indices (n,) on a device, by a copy that only from pinned memory does not wait for it."""
    return indices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else indices.to(device)
