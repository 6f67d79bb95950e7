"""What a model, a baseline or another trained run says of the populations of a test run (numpy)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from callbacks.sidm.confidence import (
    MIN_HALOS,
    OverlapTest,
    TwoSample,
    nearest_known,
    two_sample_test,
)
from callbacks.sidm.populations import Array, Population
from callbacks.sidm.posterior import Calibration, Posterior, PosteriorModel


@dataclass
class Populations:
    """The populations of a test run by their role, as one subject sees them.

    Args:
        known: Held-out maps of simulations of known cross-section, which the path is made of.
        measured: Those whose cross-section is asked for: hidden and foreign.
        calibration: Those that scale the intervals.
        hidden: Names of the measured ones that belong to the domain.
        training: Maps of the known simulations that discriminants may be fitted on; None if the
            features have seen them already.
    """

    known: list[Population]
    measured: list[Population]
    calibration: list[Population]
    hidden: list[str]
    training: list[Population] | None = None


@dataclass
class Measured:
    """What one subject says of the populations.

    Args:
        subject: `model`, `model_<run>` or `baseline/<name>`.
        populations: As it sees them.
        seed: Fixes resamples.
    """

    subject: str
    populations: Populations
    seed: int = 0
    posteriors: dict[str, Posterior] = field(init=False)
    intervals: dict[str, dict[float, tuple[float, float]]] = field(init=False)

    def __post_init__(self) -> None:
        """Measure all populations, calibrate the intervals."""
        parts = self.populations
        self.model = PosteriorModel(parts.known, fitted=parts.training)
        truth = [one.cross_section for one in parts.calibration]
        calibrating = [self.model.measure(one) for one in parts.calibration]
        self.calibration = Calibration(calibrating, truth)
        self.posteriors = {one.name: self.model.measure(one) for one in parts.measured}
        self.intervals = {
            name: self.calibration.intervals(found) for name, found in self.posteriors.items()
        }
        self._overlap = OverlapTest(self.model.known, seed=self.seed)

    def overlaps(self, population: Population) -> dict[str, float]:
        """Return the overlap of a population with each known simulation."""
        return self._overlap.overlaps(population)

    def confidence(self, overlaps: Mapping[str, float], population: Population) -> float:
        """Return the p-value of the largest overlap; see `OverlapTest`.

        Args:
            overlaps: Of the population.
            population: In question.
        """
        value = self.posteriors[population.name].median
        return self._overlap.p_value(max(overlaps.values()), population.num_maps, value)

    def two_sample(self, population: Population) -> TwoSample | None:
        """Return the test of a population against the known simulations nearest in σ/m.

        None if there are too few halos for its folds.
        """
        if population.num_halos < MIN_HALOS:
            return None
        value = self.posteriors[population.name].median
        reference = nearest_known(self.model.known, value, self.model.coordinate, self.seed)
        return two_sample_test(population, reference)

    def widths(self, num_maps: int, names: Sequence[str]) -> Array:
        """Return the width of the 68 % interval of populations cut to a number of maps, cm^2/g.

        Args:
            num_maps: Maps left of each population.
            names: Of the populations, which must have as many.
        """
        chosen = [one for one in self.populations.measured if one.name in set(names)]
        found = [self.model.measure(one.first_halos(num_maps, self.seed)) for one in chosen]
        return np.array([np.ptp(self.calibration.intervals(one)[0.68]) for one in found])
