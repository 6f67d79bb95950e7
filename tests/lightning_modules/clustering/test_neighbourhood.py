"""The graph of nearest neighbours: closed forms, a partition that k-means misses, and its use."""

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor

from lightning_modules import DeepEmbeddedClustering
from lightning_modules.clustering.neighbourhood import NeighbourGraph

LINE = torch.tensor([[0.0], [1.0], [2.1], [10.0], [11.0], [12.1]])
"""Two groups of three: with k = 1 each group is a path whose middle is the first one's nearest."""


def rings(number: int) -> tuple[Tensor, np.ndarray]:
    """Return two concentric rings and which one each point is on."""
    angle = torch.linspace(0.0, 2.0 * torch.pi, number + 1)[:-1]
    ring = torch.stack([angle.cos(), angle.sin()], dim=1)
    return torch.cat([ring, 4.0 * ring]), np.repeat([0, 1], number)


def test_affinities_are_symmetric_and_count_both_directions() -> None:
    graph = NeighbourGraph(LINE, 1)
    expected = np.zeros((6, 6))
    for first in (0, 3):  # 0 and 1 are each other's nearest; 2 has 1, 1 does not have 2
        expected[first, first + 1] = expected[first + 1, first] = 1.0
        expected[first + 1, first + 2] = expected[first + 2, first + 1] = 0.5
    np.testing.assert_array_equal(graph.affinity.toarray(), expected)


def test_modularity_equals_that_of_networkx() -> None:
    graph = NeighbourGraph(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), 4)
    labels = np.arange(40) % 3
    parts = [set(np.flatnonzero(labels == part).tolist()) for part in range(3)]
    known = nx.community.modularity(nx.from_scipy_sparse_array(graph.affinity), parts)
    assert graph.modularity(labels) == pytest.approx(known, abs=1e-12)


def test_smoothing_keeps_components_and_rows() -> None:
    graph = NeighbourGraph(LINE, 1)
    split = torch.eye(2, dtype=torch.float64)[[0, 0, 0, 1, 1, 1]]
    torch.testing.assert_close(graph.smooth(split), split)
    odd = torch.eye(2)[[0, 1, 0, 1, 1, 1]]
    found = graph.smooth(odd)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(6))
    assert 0.0 < found[1, 0] < 1.0
    torch.testing.assert_close(found[3:], odd[3:])


def test_partition_follows_the_graph_and_not_the_distance() -> None:
    points, ring = rings(60)
    found = NeighbourGraph(points, 4).partition(2, seed=0)
    assert len({(int(a), int(b)) for a, b in zip(ring, found, strict=True)}) == 2


def test_memberships_are_those_of_the_parts() -> None:
    points, ring = rings(60)
    share = NeighbourGraph(points, 4).memberships(2, seed=0)
    torch.testing.assert_close(share.max(dim=1).values, torch.ones(120).double())
    assert len({*zip(ring.tolist(), share.argmax(dim=1).tolist(), strict=True)}) == 2


def test_too_few_objects_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.neighbours=6 needs more objects than the 6"):
        NeighbourGraph(LINE, 6)


@pytest.mark.parametrize(
    "arguments", [{"neighbours": -1}, {"neighbours": 5, "head": "error_aware"}]
)
def test_neighbours_need_the_published_head(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"model\.neighbours"):
        DeepEmbeddedClustering(**arguments)


def test_a_run_with_neighbours_finds_the_blobs_again_and_again(
    make_data: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    found = []
    for _ in range(2):
        seed_everything(1)
        data = make_data()
        model = DeepEmbeddedClustering(
            num_clusters=3, hidden_dims=[16], latent_dim=3, pretrain_epochs=5, neighbours=5,
            update_interval=4, gamma=1.0, cluster_lr=1e-2, tolerance=0.0,
        )  # fmt: skip
        trainer = make_trainer(12)
        trainer.fit(model, data)
        assert model.targets is not None
        label = data.columns["label"][model.targets.index]
        pairs = {*zip(label.tolist(), model.targets.assignment.tolist(), strict=True)}
        assert len(pairs) == 3
        found.append(model.targets.probability)
    assert torch.equal(*found)
