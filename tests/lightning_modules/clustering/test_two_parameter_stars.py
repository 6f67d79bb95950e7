"""Stars of a position alone go through the mixture from the source to the answer."""

from pathlib import Path

import torch

from datamodules import ClusteringDataModule, StarCluster, SyntheticField
from lightning_modules import ClusterMixture
from tests.lightning_modules.clustering.stars import fitted


def test_stars_of_a_position_alone_are_judged_by_it(tmp_path: Path) -> None:
    cluster = StarCluster(num_stars=300, scale=0.05, parallax=0.5, dispersion=0.3)
    source = SyntheticField(500, [cluster], two_parameter_share=0.2)
    data = ClusteringDataModule(source, batch_size=800, cache_dir=str(tmp_path))
    model = fitted(tmp_path, data=data, max_epochs=10).module
    assert isinstance(model, ClusterMixture)
    stars, bare = data.columns, data.columns["features"][:, 2].isnan()
    found = model.predict_step(stars)["probability"]
    assert bare.sum() == 160
    torch.testing.assert_close(found.sum(1), torch.ones(800))
    member = stars["label"] > 0
    right = (found.argmax(1) == 1) == member
    assert right[~bare].float().mean() > 0.98
    assert right[bare].float().mean() > 0.8
    radius = (stars["features"][:, :2] - model.mixture.centre[0]).norm(dim=1)
    near = found[bare & (radius < 0.03), 1].min()
    assert near > found[bare & (radius > 0.3), 1].max()
