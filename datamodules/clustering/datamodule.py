"""Star catalogues as a LightningDataModule: quality cuts, one frame, features and covariance."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from datamodules.base import BaseDataModule
from datamodules.clustering.gaia_columns import ERRORS, UNITS
from datamodules.clustering.quality import apply_cuts, check_cuts
from datamodules.clustering.source import SCHEMA, ClusteringSource
from datamodules.clustering.zero_point import ecliptic_latitude, parallax_zero_point
from datamodules.source import check_rules
from datamodules.store import RowStore
from lightning_modules.physics import covariance as covariances
from lightning_modules.physics import frames
from lightning_modules.physics.arrays import Array

ASTROMETRIC = ("x", "y", "parallax", "pmra", "pmdec")
FEATURES = (*ASTROMETRIC, "magnitude", "colour")
ZERO_POINT_COLUMNS = ("phot_g_mean_mag", "nu_eff_used_in_astrometry", "pseudocolour")
MAD_TO_SIGMA = 1.4826
TRUE_UNITS = {
    "true_parallax": "mas",
    "true_pmra": "mas/yr",
    "true_pmdec": "mas/yr",
    "true_radius": "deg",
}
"""Units of what only a simulation knows."""


class ClusteringDataModule(BaseDataModule):
    """Stars for clustering: positions, parallaxes and proper motions with their covariance.

    A batch is a dict:

    | key | shape, type | meaning |
    |---|---|---|
    | `index` | (B,) int64 | row in the prepared store (before cuts); `names(index)` are ids |
    | `features` | (B, F) float32 | what `features` lists, in physical units, NaN where absent |
    | `covariance` | (B, 5, 5) float32 | of (x, y, parallax, pmra, pmdec), NaN where absent |
    | `magnitude`, `colour` | (B,) float32 | G and BP-RP, NaN where absent |
    | `good` | (B, F) bool | features that are usable |
    | `label` | (B,) int64 | evaluation only: 0 field, 1..K clusters, -1 unknown |

    Features: `x`, `y` (gnomonic, degrees, east and north), `parallax` (mas, corrected for the zero
    point of Lindegren et al. 2021 where its columns exist), `pmra` and `pmdec` (mas/yr along the
    axes of the centre), and on wish `magnitude` and `colour`. The covariance, in products of their
    units, is rotated with the proper motions and inflated: errors times (1 + density /
    10)^density_slope, with density in stars per square arcminute from the column `source_density`
    (`Sigma` of Vasiliev & Baumgardt), else estimated. A constant factor is learnt by the mixture.

    Args:
        source: Where the stars come from.
        centre: Tangent point (ra, dec) in degrees. If None the middle of the stars kept, or, with
            a checkpoint, the centre it was trained with.
        features: Columns of `features`.
        cuts: Quality cuts: column to `min` and `max`, for example `{ruwe: {max: 1.4}}`.
        zero_point: Whether to correct the parallax zero point.
        density_slope: Power of the error inflation with density; 0 for none, about 0.04 in Gaia.
        batch_size: Stars in one process's batch.
        num_workers: Worker processes of the loaders; 0 is fastest for arrays in memory.
        seed: Fixes simulation, split and shuffle.
        val_fraction: Share of stars for validation.
        test_fraction: Share of stars held out.
        cache_dir: Folder of the prepared row stores.
    """

    method: ClassVar[str] = "clustering"
    schema: ClassVar[str] = SCHEMA
    id_column: ClassVar[str] = "source_id"
    units: ClassVar[Mapping[str, str]] = {**UNITS, **TRUE_UNITS}

    def __init__(
        self,
        source: ClusteringSource,
        centre: list[float] | None = None,
        features: list[str] | None = None,
        cuts: dict[str, dict[str, float]] | None = None,
        zero_point: bool = True,
        density_slope: float = 0.0,
        batch_size: int = 256,
        num_workers: int = 0,
        seed: int = 0,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        cache_dir: str = ".astrolit",
    ) -> None:
        super().__init__(
            source, batch_size, num_workers, seed, val_fraction, test_fraction, cache_dir
        )
        self.features = list(features or ASTROMETRIC)
        known = len(set(self.features) & set(FEATURES)) == len(self.features)
        position = centre is None or (len(centre) == 2 and -90 <= centre[1] <= 90)
        rules = {
            f"data.features={self.features}: choose from {list(FEATURES)}, once each": known,
            f"data.centre={centre} must be [ra, dec] in degrees": position,
            f"data.density_slope={density_slope} must not be negative": density_slope >= 0,
        }
        check_rules(type(self).__name__, rules)
        self.cuts = dict(cuts or {})
        check_cuts(self.cuts)
        self.zero_point = zero_point
        self.density_slope = density_slope
        self.given_centre = None if centre is None else np.array(centre, dtype=np.float64)
        self.trained_centre: Array | None = None
        self.record: dict[str, Any] = {}

    def load(self, store: RowStore) -> dict[str, Tensor]:
        """Cut, correct and rotate the stars of a store; say what was done."""
        raw = store.read()
        keep, cuts = apply_cuts(raw, self.cuts, str(store.path))
        stars = {name: values[keep] for name, values in raw.items()}
        absent = np.full(len(stars["ra"]), np.nan, dtype=np.float32)
        centre = self.trained_centre if self.given_centre is None else self.given_centre
        self.centre = frames.centre_of(stars["ra"], stars["dec"]) if centre is None else centre
        parallax, correction = self._corrected_parallax(stars)
        jacobian = frames.frame_jacobian(stars["ra"], stars["dec"], self.centre)
        x, y = frames.tangent_plane(stars["ra"], stars["dec"], self.centre)
        motion = frames.rotate_proper_motions(stars["pmra"], stars["pmdec"], jacobian)
        values = dict(zip(ASTROMETRIC, (x, y, parallax, *motion), strict=True))
        values["magnitude"] = stars.get("phot_g_mean_mag", absent)
        values["colour"] = stars.get("bp_rp", absent)
        features = np.stack([values[name] for name in self.features], axis=1)
        self.record = {
            "centre": self.centre.tolist(),
            "num_stars": {"prepared": len(keep), "kept": int(keep.sum())},
            "without_motion": int(np.isnan(parallax + motion[0]).sum()),
            "cuts": cuts,
            "origin": store.attributes.get("origin", []),
            "dropped": store.attributes.get("dropped", {}),
            "repeated_stars": store.attributes.get("repeated_stars", 0),
            "label_conflicts": store.attributes.get("label_conflicts", 0),
            "defaults": store.attributes.get("defaults", []),
            "zero_point": correction,
            "query": store.attributes.get("query"),
        }
        self._say()
        arrays = {
            "index": np.flatnonzero(keep),
            "features": features.astype(np.float32),
            "covariance": self._covariance(stars, jacobian, x, y).astype(np.float32),
            "magnitude": values["magnitude"],
            "colour": values["colour"],
            "good": np.isfinite(features),
            "label": stars.get("label", np.full(len(absent), -1)),
        }
        return {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in arrays.items()}

    def training_statistics(self) -> dict[str, Tensor]:
        """Return median and robust scale of each feature, and the centre of the frame.

        The training split alone counts. `scale` is 1.4826 x MAD, or the standard deviation if more
        than half of the values are equal, or 1 if all are.

        Returns:
            `location` and `scale` of shape (F,) float32, `centre` (ra, dec) in degrees, float64.

        Raises:
            ValueError: A feature has no value in the training split.
        """
        features = self.columns["features"][self.rows["train"]].double()
        empty = [n for n, v in zip(self.features, features.T, strict=True) if v.isnan().all()]
        if empty:
            raise ValueError(
                f"features {empty} are absent from {self.record['origin']}; remove them from "
                "data.features or map their columns"
            )
        location = features.nanmedian(dim=0).values
        deviation = (features - location).abs()
        scale = MAD_TO_SIGMA * deviation.nanmedian(dim=0).values
        spread = deviation.square().nanmean(dim=0).sqrt()
        scale = torch.where(scale > 0, scale, torch.where(spread > 0, spread, 1.0))
        return {
            "location": location.float(),
            "scale": scale.float(),
            "centre": torch.from_numpy(self.centre),
        }

    def provenance(self) -> dict[str, Any]:
        """Return what the data are and what was done to them."""
        settings = {
            "features": self.features,
            "density_slope": self.density_slope,
        }
        return {**super().provenance(), **settings, **self.record}

    def state_dict(self) -> dict[str, Any]:
        """Keep the frame in the checkpoint."""
        return {"centre": self.centre.tolist()} if self.columns else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the frame of a checkpoint, unless `data.centre` was given."""
        if "centre" not in state_dict or self.given_centre is not None:
            return
        self.trained_centre = np.array(state_dict["centre"], dtype=np.float64)
        if self.columns and not np.array_equal(self.centre, self.trained_centre):
            self.columns, self.rows = {}, {}
            self.setup()

    def _corrected_parallax(self, stars: dict[str, Array]) -> tuple[Array, str]:
        """Subtract the zero point where it is known; say for how many stars."""
        parallax = stars["parallax"].astype(np.float64)
        if not self.zero_point:
            return parallax, "not corrected (data.zero_point: false)"
        absent = np.full(len(parallax), np.nan)
        magnitude, nu_eff, pseudocolour = (stars.get(name, absent) for name in ZERO_POINT_COLUMNS)
        latitude = ecliptic_latitude(stars["ra"], stars["dec"])
        offset = parallax_zero_point(magnitude, nu_eff, pseudocolour, latitude)
        known = np.isfinite(offset)
        if not known.any():
            return parallax, f"not corrected (columns {', '.join(ZERO_POINT_COLUMNS)} are needed)"
        text = f"Lindegren et al. 2021 for {int(known.sum())} of {len(known)} stars, "
        text += f"mean {offset[known].mean():.4f} mas"
        return parallax - np.where(known, offset, 0.0), text

    def _covariance(self, stars: dict[str, Array], jacobian: Array, x: Array, y: Array) -> Array:
        """Build the covariance of the features' frame, inflated, positions in degrees."""
        used = {name: stars[name] for name in (*ERRORS, *covariances.CORRELATIONS)}
        unknown = np.stack([np.isnan(used[name]) for name in ERRORS], axis=1)
        used |= {name: np.nan_to_num(used[name]) for name in ERRORS}
        rotated = covariances.rotate_covariance(covariances.covariance_matrix(used), jacobian)
        rotated[unknown[:, :, None] | unknown[:, None, :]] = np.nan
        in_degrees = covariances.positions_to_degrees(rotated)
        if not self.density_slope:
            return in_degrees
        density = stars.get("source_density")
        density = covariances.local_density(x, y) if density is None else density
        factor = covariances.inflation_factor(density, self.density_slope)
        return in_degrees * (factor**2)[:, None, None]

    def _say(self) -> None:
        """Print what was read, removed and taken by default, once."""
        record = self.record
        counts = record["num_stars"]
        lines = [f"{counts['kept']} of {counts['prepared']} stars from {record['origin']}"]
        for cut in record["cuts"]:
            bounds = ", ".join(f"{k} {cut[k]:g}" for k in ("min", "max") if k in cut)
            lines.append(f"cut {cut['column']} ({bounds}): {cut['removed']} fail")
        lines += [f"dropped {number}: {text}" for text, number in record["dropped"].items()]
        for name in ("repeated_stars", "label_conflicts"):
            lines += [f"{name.replace('_', ' ')}: {record[name]}"] if record[name] else []
        if unknown := record["without_motion"]:
            lines.append(f"{unknown} stars kept without parallax or proper motion")
        lines += [f"default: {text}" for text in record["defaults"]]
        lines.append(f"parallax zero point: {record['zero_point']}")
        rank_zero_info("\n".join(lines))
