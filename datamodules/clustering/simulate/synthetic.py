"""A simulated Gaia field as a source of stars."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from datamodules.clustering.gaia_columns import StarTable
from datamodules.clustering.simulate.field import Sky, StarCluster, simulate
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


class SyntheticField(ClusteringSource):
    """Star clusters in a Galactic field, with the errors of Gaia DR3 and the truth kept.

    The field has thin disc, thick disc and halo along the line of sight, seen from the moving Sun.
    Clusters follow Plummer, King or EFF profiles, with ellipticity, tidal tails, a dispersion that
    falls with radius, and photometry along an old isochrone. The store also holds the true
    `label`, `true_parallax`, `true_pmra`, `true_pmdec` and `true_radius` (in the profile).

    Args:
        num_field: Number of field stars.
        clusters: The clusters, each a mapping of settings (see `StarCluster`); by default one like
            M 4 (2000 stars) and a distant one of 800.
        centre: Of the field: (ra, dec) in degrees.
        radius: Of the field in degrees.
        magnitudes: Range of apparent G.
        zero_point: Parallax zero point in mas, added to every measured parallax.
    """

    def __init__(
        self,
        num_field: int = 6000,
        clusters: list[StarCluster] | None = None,
        centre: tuple[float, float] = (245.9, -26.5),
        radius: float = 0.5,
        magnitudes: tuple[float, float] = (13.0, 20.5),
        zero_point: float = -0.03,
    ) -> None:
        given = CLUSTERS if clusters is None else clusters
        self.clusters = [_cluster(entry, k) for k, entry in enumerate(given, start=1)]
        if num_field < 0 or num_field + len(self.clusters) == 0:
            raise ValueError(f"data.source.num_field={num_field} with no clusters gives no stars")
        if not 0 < radius < 45 or not -90 <= centre[1] <= 90:
            raise ValueError(
                f"data.source: radius={radius} must be in (0, 45) and centre={list(centre)} "
                "(ra, dec) in degrees"
            )
        if magnitudes[0] >= magnitudes[1]:
            raise ValueError(f"data.source.magnitudes={list(magnitudes)} must be [bright, faint]")
        self.num_field = num_field
        self.sky = Sky((centre[0], centre[1]), radius, (magnitudes[0], magnitudes[1]), zero_point)

    def parameters(self) -> dict[str, Any]:
        """Return every setting."""
        clusters = [asdict(cluster) for cluster in self.clusters]
        return {"num_field": self.num_field, "clusters": clusters, **asdict(self.sky)}

    def table(self, seed: int) -> StarTable:
        """Draw the stars; the same seed gives the same stars."""
        table = simulate(self.num_field, self.clusters, self.sky, seed)
        table.attributes |= {
            "origin": [f"SyntheticField(seed={seed})"],
            "defaults": [],
            "dropped": {},
            "clusters": [asdict(cluster) for cluster in self.clusters],
        }
        return table


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
