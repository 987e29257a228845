import pytest
import torch
from torch.nn import functional as F

from resnet_lab.models.auxiliary import WithAuxiliary
from resnet_lab.tasks.classification import Tally, losses


def logits_for(ranking: list[int]) -> torch.Tensor:
    """Logits over ten classes whose order is this ranking, best first."""
    logits = torch.zeros(10)
    for place, label in enumerate(ranking):
        logits[label] = 10.0 - place
    return logits


def test_errors_are_counts_over_all_images() -> None:
    """Four right, one wrong but in the top five, one outside; in batches of 5 and 1."""
    rows = [logits_for([label]) for label in range(4)] + [
        logits_for([9, 8, 4]),
        logits_for([9, 8, 7, 6, 4, 5]),
    ]
    logits, labels = torch.stack(rows), torch.arange(6)
    tally = Tally(top5=True)
    for part in (slice(0, 5), slice(5, 6)):
        tally.add(logits[part], labels[part], F.cross_entropy(logits[part], labels[part]))
    means = tally.compute_and_reset(lambda sums: sums)
    assert means["error"] == pytest.approx(100 * 2 / 6)
    assert means["error_top5"] == pytest.approx(100 * 1 / 6)
    assert means["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)


def test_processes_are_summed_before_they_are_divided() -> None:
    """1 wrong of 1 here and 0 of 99 elsewhere is 1 %, not 50 %."""
    tally = Tally(top5=False)
    tally.add(logits_for([3])[None], torch.tensor([0]), torch.tensor(2.0))
    elsewhere = torch.tensor([99, 0, 0, 0], dtype=torch.float64)
    means = tally.compute_and_reset(lambda sums: sums + elsewhere)
    assert means == pytest.approx({"error": 1.0, "loss": 0.02})


def test_taking_starts_anew() -> None:
    tally = Tally(top5=False)
    tally.add(logits_for([3])[None], torch.tensor([0]), torch.tensor(2.0))
    tally.compute_and_reset(lambda sums: sums)
    assert [int(buffer) for buffer in tally.buffers()] == [0, 0, 0, 0]


@pytest.mark.parametrize("batch_size", [1, 7, 100, 128])
def test_the_batch_size_does_not_change_the_error(batch_size: int) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(101, 10), torch.randint(0, 10, (101,))
    tally = Tally(top5=True)
    for part in torch.arange(101).split(batch_size):
        tally.add(logits[part], labels[part], F.cross_entropy(logits[part], labels[part]))
    wrong = int((logits.argmax(1) != labels).sum())
    assert tally.compute_and_reset(lambda sums: sums)["error"] == 100 * wrong / 101


def test_auxiliary_losses_are_trained_on_and_not_logged() -> None:
    torch.manual_seed(0)
    main, first, second, labels = *torch.randn(3, 8, 5), torch.arange(8) % 5
    logits, loss, trained_on = losses(WithAuxiliary(main, (first, second), 0.3), labels)
    assert torch.equal(logits, main)
    assert loss == F.cross_entropy(main, labels)
    expected = F.cross_entropy(main, labels) + 0.3 * F.cross_entropy(first, labels)
    torch.testing.assert_close(trained_on, expected + 0.3 * F.cross_entropy(second, labels))
    assert losses(main, labels)[1] == losses(main, labels)[2] == loss
