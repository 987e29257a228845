"""Analyses that train nets of their own, against what is known of them by construction or by hand."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from samples import random_pictures, trained
from torch import nn

from resnet_lab.analyses import constructed, easier, ensemble
from resnet_lab.analyses.deepened import deepened, fresh, option
from resnet_lab.analyses.ensemble import together
from resnet_lab.analyses.small_training import multistep, seed_from
from resnet_lab.analyses.small_training import trained as course
from resnet_lab.checks import UserError
from resnet_lab.models import preact_resnet_cifar, resnet_cifar
from resnet_lab.models.blocks import BasicBlock

PICTURES: Any = random_pictures(40)


@pytest.mark.parametrize("shortcut", ["none", "A", "B"])
def test_a_net_deepened_by_identities_computes_the_same(shortcut: str) -> None:
    net = trained(resnet_cifar(8, shortcut, width=4)).eval()
    deeper = deepened(net, 20, PICTURES.images)
    assert [len(list(deeper.get_submodule(f"stage{n}").children())) for n in (1, 2, 3)] == [3, 3, 3]
    with torch.no_grad():
        assert torch.allclose(deeper(PICTURES.images), net(PICTURES.images), atol=1e-4)
        added = deeper.get_submodule("stage2.1")
        signal = torch.nn.Sequential(*list(net.children())[:3])(PICTURES.images)
        # in training, too, where the batch is all that its statistics were taken of
        assert torch.allclose(added.train()(signal), signal, atol=1e-4)


def test_what_was_constructed_begins_equal_and_the_net_from_he_does_not() -> None:
    torch.manual_seed(0)
    net = trained(resnet_cifar(8, "none", width=4))
    first, *_, last = constructed(net, PICTURES, depth=14, rates=(0.1, 0.01, 1e-30), iterations=60, every=30)
    assert (first["iteration"], last["iteration"]) == (0, 60)
    assert (first["first_rate"], first["middle_rate"], first["last_rate"]) == (0, 0, 0)
    own = error(copy.deepcopy(net).eval())
    assert first["from_he"] == pytest.approx(error(fresh(net, 14, seed_from(net)).eval()) - own)
    assert last["from_he"] < first["from_he"]


def error(net: nn.Module) -> float:
    with torch.no_grad():
        wrong = (net(PICTURES.images).argmax(1) != PICTURES.labels).double()
    return 100 * float(wrong.mean())


@pytest.mark.parametrize("shortcut", ["none", "A", "B", "C"])
def test_a_fresh_net_is_like_the_net(shortcut: str) -> None:
    net = resnet_cifar(8, shortcut, in_channels=1, num_classes=7, width=4)
    assert option(net) == shortcut
    like = fresh(net, 8, 3)
    assert {k: v.shape for k, v in like.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}


@pytest.mark.parametrize(
    ("net", "depth", "message"),
    [
        (preact_resnet_cifar(8, "A"), 14, "take cifar_plain or cifar_resnet"),
        (resnet_cifar(8, "A", norm="none"), 14, "this needs a plain or residual CIFAR net with batch normal"),
        (resnet_cifar(8, "A", activation="tanh"), 14, "this needs a plain or residual CIFAR net"),
        (resnet_cifar(8, "C"), 14, "with option C there is no block that passes on what it gets"),
        (resnet_cifar(8, "A"), 8, r"depth must be 6n\+2 and above the 8 of the net, got 8"),
        (resnet_cifar(8, "A"), 15, r"depth must be 6n\+2 and above the 8 of the net, got 15"),
    ],
)
def test_what_cannot_be_deepened_is_refused(net: nn.Module, depth: int, message: str) -> None:
    with pytest.raises((UserError, ValueError), match=message):
        constructed(net, PICTURES, depth=depth)


def test_scores_together_by_hand() -> None:
    truth = torch.tensor([0, 1, 2])
    scores = torch.tensor(
        [
            [[0.6, 0.4, 0.0], [0.6, 0.4, 0.0], [0.6, 0.3, 0.1]],  # wrong on two
            [[0.2, 0.8, 0.0], [0.0, 1.0, 0.0], [0.0, 0.1, 0.9]],  # wrong on one
            [[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.6, 0.4, 0.0]],  # wrong on two
        ],
        dtype=torch.float64,
    )
    rows = together(scores, truth)
    third = 100 / 3
    assert [row["member_error"] for row in rows] == pytest.approx([2 * third, third, 2 * third])
    # sums of two: .8 1.2 0, .6 1.4 0, .6 .4 1; of three: 1.7 1.3 0, 1.4 1.6 0, 1.2 .8 1
    assert [row["error"] for row in rows] == pytest.approx([2 * third, third, third])
    assert [row["gain"] for row in rows] == pytest.approx([0, 0, 0])
    assert rows[2]["gain_over_mean"] == pytest.approx(5 * third / 3 - third)


def test_an_ensemble_by_numpy_over_nets_trained_once_more() -> None:
    """Scores by exponentials in NumPy, the companion trained by an SGD that is written out."""
    net = trained(resnet_cifar(8, "A", width=4))
    rows = ensemble(net, PICTURES, depths=(14,), rate=0.05, iterations=4, batch_size=16)
    seed = seed_from(net)
    companion = fresh(net, 14, seed).train()
    generator = torch.Generator().manual_seed(seed)
    velocity = [torch.zeros_like(p) for p in companion.parameters()]
    for rate in (0.05, 0.05, 0.005, 0.0005):
        chosen = torch.randperm(40, generator=generator)[:16]
        loss = nn.functional.cross_entropy(companion(PICTURES.images[chosen]), PICTURES.labels[chosen])
        gradients = torch.autograd.grad(loss, list(companion.parameters()))
        with torch.no_grad():
            for p, g, v in zip(companion.parameters(), gradients, velocity, strict=True):
                v.mul_(0.9).add_(g + 1e-4 * p)
                p.sub_(rate * v)
    logits = [n.eval()(PICTURES.images).detach().double().numpy() for n in (copy.deepcopy(net), companion)]
    scores = [np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in logits]
    wrong = [(s.argmax(1) != PICTURES.labels.numpy()).mean() * 100 for s in (*scores, scores[0] + scores[1])]
    assert [row["member_error"] for row in rows] == pytest.approx(wrong[:2])
    assert [row["error"] for row in rows] == pytest.approx([wrong[0], wrong[2]])


def test_rates_fall_as_the_papers() -> None:
    assert multistep(1.0, 8) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_course_of_a_training_counts_its_iterations() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    assert list(course(net, PICTURES.images, PICTURES.labels, [0.1] * 3, 8, 0)) == [0, 1, 2, 3]


def test_a_block_that_is_the_identity_has_nothing_left_to_learn() -> None:
    net = resnet_cifar(8, "A", width=4)
    nn.init.zeros_(net.get_submodule("stage1.0").get_parameter("bn2.weight"))
    first, *_ = easier(net, PICTURES, iterations=2, every=1)
    assert first["identity"] == pytest.approx(0, abs=1e-9)
    # near the identity, a tenth of G is what is left, of variance 1 / 100; and less where the ReLU cuts it
    assert 0 < first["near"] < 0.1 < first["random"]


def test_plain_and_residual_learn_the_same_from_the_same_weights() -> None:
    """By hand: what is left at the beginning, of the plain block and of the residual one."""
    nets = []
    for shortcut in ("none", "A"):
        torch.manual_seed(0)
        nets.append(resnet_cifar(8, shortcut, width=4))
    for other in (preact_resnet_cifar(8, "A"), resnet_cifar(8, "A", activation="tanh")):
        with pytest.raises(
            UserError, match="easier needs blocks that end in a ReLU; take cifar_plain or cifar_res"
        ):
            easier(other, PICTURES, iterations=2, every=2)
    plain, residual = (easier(net, PICTURES, iterations=2, every=2) for net in nets)
    stem, block = nets[0].get_submodule("stem").train(), nets[0].get_submodule("stage1.0").train()
    assert isinstance(block, BasicBlock)
    with torch.no_grad():
        x = stem(PICTURES.images)
        f = block.layers(x)
    for rows, output in ((plain, f.relu()), (residual, (f + x).relu())):
        assert rows[0]["identity"] == pytest.approx(float(((output - x) ** 2).mean() / x.var()), rel=1e-4)
    assert plain[0]["random"] != residual[0]["random"]
