"""Simulated fields that `clustering_shapes.py` measures: their stars and their clusters."""

from dataclasses import replace
from typing import Any, Literal

from datamodules.clustering.simulate.synthetic import CLUSTERS

FIRST, SECOND = CLUSTERS
KING: Literal["king"] = "king"
HARD = [replace(FIRST, proper_motion=(-1.5, -3.5)), SECOND]
SHAPES = {
    "plummer": CLUSTERS,
    "king": [
        replace(FIRST, profile=KING, scale=0.04, tidal_radius=0.4),
        replace(SECOND, profile=KING, scale=0.02, tidal_radius=0.25),
    ],
    "elliptical": [
        replace(FIRST, ellipticity=0.4, position_angle=30.0),
        replace(SECOND, ellipticity=0.3, position_angle=120.0),
    ],
    "tails": [
        replace(FIRST, tail_fraction=0.15, tail_angle=60.0),
        replace(SECOND, tail_fraction=0.15, tail_angle=-30.0),
    ],
}
ROBUST: dict[str, dict[str, Any]] = {
    "few members": {"num_field": 4000, "clusters": [replace(FIRST, num_stars=150, scale=0.05)]},
    "few members, slow": {
        "num_field": 6000,
        "clusters": [replace(SECOND, num_stars=250, offset=(0.0, 0.0))],
    },
    "bulge": {
        "num_field": 12000,
        "clusters": [replace(SECOND, num_stars=1500, proper_motion=(-4.0, -6.0), dispersion=0.35)],
        "sky": {"centre": (270.0, -29.0), "magnitudes": (15.0, 20.5), "radius": 0.2},
    },
    "wide field": {
        "num_field": 8000,
        "clusters": [replace(FIRST, num_stars=1500, scale=0.03, tidal_radius=0.3)],
        "sky": {"radius": 1.5},
    },
    "few hundred stars": {
        "num_field": 250,
        "clusters": [replace(SECOND, num_stars=120, offset=(0.0, 0.0))],
    },
    "dense": {
        "num_field": 3000,
        "clusters": [replace(FIRST, num_stars=22000, scale=0.06)],
    },
    "cut by the edge": {
        "num_field": 5000,
        "clusters": [replace(FIRST, num_stars=1500, offset=(0.45, 0.0))],
    },
    "cluster fills the field": {
        "num_field": 400,
        "clusters": [replace(FIRST, num_stars=5000, scale=0.12)],
        "sky": {"radius": 0.15},
    },
    "open cluster": {
        "num_field": 15000,
        "clusters": [
            replace(
                FIRST, num_stars=400, parallax=7.4, proper_motion=(20.0, -45.0), dispersion=1.2,
                scale=0.8, tidal_radius=2.5,
            )
        ],
        "sky": {"centre": (56.6, 24.1), "radius": 3.0, "magnitudes": (8.0, 18.0)},
    },
}  # fmt: skip
