"""Gradients along paths against a net of two blocks taken apart by hand, and against the whole gradient."""

import copy
import itertools
import math

import pytest
import torch
from samples import Pictures, random_pictures, trained
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.analyses import paths
from resnet_lab.analyses.inside_blocks import Watched, blocks_with_f
from resnet_lab.analyses.measured import with_batch_statistics
from resnet_lab.analyses.paths import along, shares
from resnet_lab.analyses.small_training import seed_from
from resnet_lab.checks import UserError
from resnet_lab.models import highway, preact_resnet_cifar, resnet_cifar
from resnet_lab.models.blocks import Block


class Times(Block):
    """F(x) = factor x, added to x, without an activation."""

    shortcut: nn.Module | None

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.shortcut = nn.Identity()
        self.inner = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.inner.weight, factor)

    def layers(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self.added(x)


def test_a_net_of_two_blocks_by_hand() -> None:
    stem = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(stem.weight)
    net = nn.Sequential(stem, Times(2.0), Times(3.0), nn.Flatten(), nn.Linear(16, 10))
    data = random_pictures(channels=1, side=4)
    # the gradient after both blocks, where the signal is (1 + 2) (1 + 3) times the pixels
    end = (12 * data.images.double()).requires_grad_(True)
    F.cross_entropy(net.double()[3:](end), data.labels).backward()
    assert end.grad is not None
    norm = float(end.grad.norm())
    none, one, both = paths(net, data)  # type: ignore[arg-type]
    assert [row["blocks"] for row in (none, one, both)] == [0, 1, 2]
    assert [row["paths"] for row in (none, one, both)] == pytest.approx([0, math.log10(2), 0])
    assert [row["gradient_norm"] for row in (none, one, both)] == pytest.approx([norm, 2.5 * norm, 6 * norm])
    assert [row["share"] for row in (none, one, both)] == pytest.approx([100 / 12, 500 / 12, 600 / 12])
    assert [row["length"] for row in (none, one, both)] == pytest.approx([(500 / 12 + 2 * 600 / 12) / 2] * 3)


@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
@pytest.mark.parametrize("make", [resnet_cifar, preact_resnet_cifar])
def test_all_paths_together_are_the_whole_gradient(make: type, shortcut: str) -> None:
    net = with_batch_statistics(trained(make(14, shortcut, width=4))).double()
    watched = [Watched(block) for block in blocks_with_f(net).values()]
    data = random_pictures()
    loss = F.cross_entropy(net(data.images.double()), data.labels)
    (whole,) = torch.autograd.grad(loss, watched[0].x, retain_graph=True)
    added = [w.shortcut(w.x) for w in watched if w.shortcut is not None]
    sets = [path for k in range(7) for path in itertools.combinations(range(6), k)]
    assert len(sets) == 64
    total = torch.stack([along(loss, watched, added, path) for path in sets]).sum(0)
    assert torch.allclose(total, whole, rtol=1e-9, atol=1e-9 * float(whole.abs().max()))


def test_where_f_is_constant_only_the_path_through_no_branch_is_left() -> None:
    net = resnet_cifar(20, "A", initialization="zero_last")
    rows = paths(net, random_pictures(), draws=2)  # type: ignore[arg-type]
    assert [row["share"] for row in rows] == [100.0] + [0.0] * 9


def test_the_middle_has_most_paths_and_shares_add_up() -> None:
    rows = paths(trained(resnet_cifar(20, "A", width=4)), random_pictures(), draws=3)  # type: ignore[arg-type]
    assert [10 ** row["paths"] for row in rows] == pytest.approx([1, 9, 36, 84, 126, 126, 84, 36, 9, 1])
    assert sum(row["share"] for row in rows) == pytest.approx(100)


def test_nets_of_other_weights_take_other_paths() -> None:
    net = trained(resnet_cifar(20, "A", width=4))
    nets = [net, copy.deepcopy(net)]
    assert seed_from(nets[0]) == seed_from(nets[1])
    with torch.no_grad():
        next(reversed(list(nets[1].parameters()))).add_(1)
    assert seed_from(nets[0]) != seed_from(nets[1])


def test_shares_of_more_paths_than_a_float_can_count() -> None:
    assert shares([400.0, 401.0], [1.0, 0.9]) == pytest.approx([10.0, 90.0])
    assert shares([0.0, 0.0], [0.0, 0.0]) == [0.0, 0.0]


def test_what_it_refuses() -> None:
    data: Pictures = random_pictures()
    with pytest.raises(UserError, match="has no shortcut, and so one path alone; take cifar_resnet"):
        paths(resnet_cifar(8, "none"), data)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="has no plain or residual block"):
        paths(highway(8), data)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="draws must be a positive integer, got 0"):
        paths(resnet_cifar(8, "A"), data, draws=0)  # type: ignore[arg-type]
