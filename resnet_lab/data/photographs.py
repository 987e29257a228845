"""Images too many for memory: what the datasets share whose images the loader's processes decode."""

import hashlib
import os
from typing import Any

import torch

from resnet_lab.checks import UserError, check_positive
from resnet_lab.data.batches import Batch
from resnet_lab.data.decoding import check_decoder
from resnet_lab.data.module import ImageData, log


class Photographs(ImageData):
    """Images decoded by the loader's processes.

    Args:
        statistics_images: number of training images from which the mean is estimated.
        max_pixels: limit per image; an image whose header claims more is not decoded and counts as unreadable.
        allow_unreadable: leave out images that cannot be read, and name them in the record; otherwise they end the
            run.
        prefetch: batches that each loader process prepares ahead.
        num_workers: loader processes; None for the number of threads of this process.
        settings: those of `ImageData`.

    Raises:
        ValueError: a setting is out of its range.
    """

    in_channels = 3

    def __init__(
        self,
        statistics_images: int = 10000,
        max_pixels: int = 100_000_000,
        allow_unreadable: bool = False,
        prefetch: int = 2,
        num_workers: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(num_workers=0 if num_workers is None else num_workers, **settings)
        check_positive(statistics_images=statistics_images, prefetch=prefetch, max_pixels=max_pixels)
        if not isinstance(allow_unreadable, bool):
            raise ValueError(f"allow_unreadable must be true or false, got {allow_unreadable!r}")
        self.statistics_images, self.prefetch = statistics_images, prefetch
        self.max_pixels, self.allow_unreadable = max_pixels, allow_unreadable
        self.workers_as_threads = num_workers is None

    def prepare_loading(self) -> None:
        """Check the decoder, and choose the number of loader processes; the first thing that `load` does.

        Raises:
            UserError: there is no decoder.
        """
        check_decoder()
        if self.workers_as_threads:
            self.num_workers = torch.get_num_threads()

    def checksum_of(self, *parts: Any) -> str:
        """Compute a sha256 of the names and sizes of all files; reading their content would take too long."""
        digest = hashlib.sha256()
        for part in parts:
            for path in part.paths:
                name = os.path.relpath(path, os.fsencode(self.root))
                # a dangling link counts as an unreadable image
                size = os.stat(path).st_size if os.path.exists(path) else -1
                digest.update(b"%s %d\n" % (name, size))
        return digest.hexdigest()

    def note_unreadable(self, batch: Batch) -> None:
        for name in batch.unreadable:
            if name not in self.unreadable:
                log.warning("cannot be read: %s", name)
        self.unreadable.update(batch.unreadable)
        if self.unreadable and not self.allow_unreadable:
            raise UserError(
                f"{len(self.unreadable)} image(s) cannot be read, the first is {min(self.unreadable)}; repair or "
                "remove it, or set data.allow_unreadable=true to leave such images out"
            )
