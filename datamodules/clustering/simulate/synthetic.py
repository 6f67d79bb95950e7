"""A simulated Gaia field as a source of stars."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from datamodules.clustering.gaia_columns import StarTable
from datamodules.clustering.simulate.field import (
    Sky,
    StarCluster,
    draw_cluster,
    draw_field,
    observe,
)
from datamodules.clustering.source import ClusteringSource

CLUSTERS = (
    StarCluster(num_stars=2000, parallax=0.5, dispersion=0.45, scale=0.08),
    StarCluster(
        num_stars=800,
        offset=(0.2, 0.15),
        parallax=0.16,
        proper_motion=(0.5, -1.0),
        dispersion=0.10,
        scale=0.04,
        tidal_radius=0.3,
    ),
)
"""A nearby globular cluster like M 4, and a distant one hidden in the field's proper motions."""


@dataclass
class SyntheticField(Sky, ClusteringSource):
    """Star clusters in a Galactic field, with the errors of Gaia DR3 and the truth kept.

    The field has thin disc, thick disc and halo along the line of sight, seen from the moving Sun.
    Clusters follow Plummer, King or EFF profiles, with ellipticity, tidal tails, a dispersion that
    falls with radius, and photometry along an old isochrone. The store also holds the true
    `label`, `true_parallax`, `true_pmra`, `true_pmdec` and `true_radius` (in the profile).

    Args:
        num_field: Number of field stars.
        clusters: The clusters, each a mapping of settings (see `StarCluster`); by default one like
            M 4 (2000 stars) and a distant one of 800.
    """

    simulated: ClassVar[bool] = True

    num_field: int = 6000
    clusters: list[StarCluster] | None = None

    def __post_init__(self) -> None:
        """Take the clusters from mappings of their settings; refuse a field without stars."""
        super().__post_init__()
        given = CLUSTERS if self.clusters is None else self.clusters
        self.clusters = [_cluster(entry, k) for k, entry in enumerate(given, start=1)]
        if self.num_field < 0 or self.num_field + len(self.clusters) == 0:
            raise ValueError(
                f"data.source.num_field={self.num_field} with no clusters gives no stars"
            )

    def parameters(self) -> dict[str, Any]:
        """Return every setting."""
        return asdict(self)

    def table(self, seed: int) -> StarTable:
        """Draw field and clusters, in random order, and observe them.

        Each population has its own stream of random numbers, so that changing one leaves the true
        values of the others as they were.
        """
        clusters = self.clusters or []
        parts = [
            draw_cluster(np.random.default_rng([seed, k]), cluster, k, self)
            for k, cluster in enumerate(clusters, start=1)
        ]
        if self.num_field:
            parts.append(draw_field(np.random.default_rng([seed, 0]), self.num_field, self))
        rng = np.random.default_rng([seed, len(clusters) + 1])
        order = rng.permutation(sum(len(part["x"]) for part in parts))
        truth = {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}
        attributes = {
            "origin": [f"SyntheticField(seed={seed})"],
            "defaults": [],
            "dropped": {},
            "clusters": [asdict(cluster) for cluster in clusters],
        }
        return StarTable(observe(rng, truth, self), attributes)


def _cluster(entry: StarCluster | Mapping[str, Any], number: int) -> StarCluster:
    """Take a cluster as it is, or from a mapping of its settings."""
    if isinstance(entry, StarCluster):
        return entry
    try:
        return StarCluster(**entry)
    except TypeError as error:
        raise ValueError(
            f"data.source.clusters: cluster {number} is {entry!r}; its keys are "
            f"{list(StarCluster.__dataclass_fields__)}"
        ) from error
