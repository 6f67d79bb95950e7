import pytest
import torch
from sklearn.cluster import KMeans

from lightning_modules.clustering.progress import Phase, Progress
from lightning_modules.clustering.targets import DECTargets, kmeans_centres


def test_centres_are_scikit_learns_best_of_twenty_starts() -> None:
    latent = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    latent[100:200] += 8
    expected = KMeans(2, n_init=20, random_state=3).fit(latent.double().numpy()).cluster_centers_
    torch.testing.assert_close(kmeans_centres(latent, 2, 3), torch.from_numpy(expected).float())
    assert torch.equal(kmeans_centres(latent, 2, 3), kmeans_centres(latent, 2, 3))


def test_centres_need_enough_finite_objects() -> None:
    with pytest.raises(ValueError, match="num_clusters=4 exceeds the 3 objects"):
        kmeans_centres(torch.randn(3, 2), 4, 0)
    with pytest.raises(ValueError, match="not finite"):
        kmeans_centres(torch.full((8, 2), torch.nan), 2, 0)


def test_targets_are_found_by_index_not_by_position() -> None:
    index = torch.tensor([30, 10, 20])
    targets = DECTargets(index, torch.tensor([[0.3], [0.1], [0.2]]), torch.tensor([3, 1, 2]))
    assert targets.of(torch.tensor([20, 10, 30, 20])).flatten().tolist() == pytest.approx(
        [0.2, 0.1, 0.3, 0.2]
    )


def test_label_change_is_aligned_by_index() -> None:
    p = torch.zeros(4, 1)
    first = DECTargets(torch.tensor([1, 2, 3, 4]), p, torch.tensor([0, 0, 1, 1]))
    permuted = DECTargets(torch.tensor([4, 3, 2, 1]), p, torch.tensor([1, 1, 0, 0]))
    moved = DECTargets(torch.tensor([4, 3, 2, 1]), p, torch.tensor([1, 0, 0, 0]))
    assert first.label_change(permuted) == 0.0
    assert first.label_change(moved) == 0.25


def test_strangers_are_refused() -> None:
    targets = DECTargets(torch.arange(3), torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
    targets.check(torch.tensor([2, 0]))
    with pytest.raises(ValueError, match=r"2 objects .*first indices \[7, 9\]"):
        targets.check(torch.tensor([2, 7, 9]))


def test_progress_travels_in_the_state_dict() -> None:
    first, second = Progress(), Progress()
    first.enter(Phase.CLUSTERING, 4)
    first.refresh(120)
    second.load_state_dict(first.state_dict())
    assert second.phase is Phase.CLUSTERING
    assert (second.since_epoch, second.refreshed_step) == (4, 120)
