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
from callbacks.sidm.populations import Array, Population, suites
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

    Known simulations that share halos are a suite and have a path of their own, if they are of two
    cross-sections; a population is measured by the path that it is most like, by the two-sample
    test, or by the first if it is too small for the test. If no suite has two, all are one.

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
        self.models = self._make_models()
        self.model = self.models[0]
        self._tests = [OverlapTest(model.known, seed=self.seed) for model in self.models]
        self._chosen: dict[str, int] = {}
        truth = [one.cross_section for one in parts.calibration]
        calibrating = [self.measure(one) for one in parts.calibration]
        self.calibration = Calibration(calibrating, truth)
        self.posteriors = {one.name: self.measure(one) for one in parts.measured}
        self.intervals = {
            name: self.calibration.intervals(found) for name, found in self.posteriors.items()
        }

    @property
    def anchors(self) -> list[Population]:
        """Known simulations of all paths, one for each cross-section of a path."""
        return [one for model in self.models for one in model.known]

    def measure(self, population: Population) -> Posterior:
        """Return the posterior of a population by the path that it is most like."""
        return self.models[self._choice(population)].measure(population)

    def classes(self) -> dict[str, Array]:
        """Return what the discriminants of the first path take each known map of its suite for.

        By the name of the simulation, the position of the class among all known cross-sections.
        """
        values = sorted({one.cross_section for one in self.populations.known})
        place = np.array([values.index(one.cross_section) for one in self.model.known])
        names = {name for one in self.model.known for name in one.name.split("+")}
        known = [one for one in self.populations.known if one.name in names]
        return {one.name: place[self.model.classify(one)] for one in known}

    def overlaps(self, population: Population) -> dict[str, float]:
        """Return the overlap of a population with each known simulation."""
        return {name: x for test in self._tests for name, x in test.overlaps(population).items()}

    def confidence(self, overlaps: Mapping[str, float], population: Population) -> float:
        """Return the p-value of the largest overlap; see `OverlapTest`.

        Args:
            overlaps: Of the population.
            population: In question.
        """
        test = self._tests[self._choice(population)]
        value = self.posteriors[population.name].median
        largest = max(overlaps[one.name] for one in test.known)
        return test.p_value(largest, population.num_maps, value)

    def two_sample(self, population: Population) -> TwoSample | None:
        """Return the test of a population against the known simulations nearest in σ/m.

        None if there are too few halos for its folds.
        """
        if population.num_halos < MIN_HALOS:
            return None
        return self._test(self.models[self._choice(population)], population)

    def widths(self, num_maps: int, names: Sequence[str]) -> Array:
        """Return the width of the 68 % interval of populations cut to a number of maps, cm^2/g.

        Args:
            num_maps: Maps left of each population.
            names: Of the populations, which must have as many.
        """
        chosen = [one for one in self.populations.measured if one.name in set(names)]
        found = [self.measure(one.first_halos(num_maps, self.seed)) for one in chosen]
        return np.array([np.ptp(self.calibration.intervals(one)[0.68]) for one in found])

    def _make_models(self) -> list[PosteriorModel]:
        """Return a path for each suite of two or more cross-sections."""
        parts = self.populations
        groups = [x for x in suites(parts.known) if len({one.cross_section for one in x}) > 1]
        models: list[PosteriorModel] = []
        for group in groups or [parts.known]:
            names = {one.name for one in group}
            fitted = (
                None if parts.training is None else [x for x in parts.training if x.name in names]
            )
            coordinate = models[0].coordinate if models else None
            models.append(PosteriorModel(group, coordinate, fitted))
        return models

    def _choice(self, population: Population) -> int:
        """Return which path a population is measured by."""
        if len(self.models) == 1 or population.num_halos < MIN_HALOS:
            return 0
        if population.name not in self._chosen:
            aucs = [self._test(model, population).auc for model in self.models]
            self._chosen[population.name] = int(np.argmin(aucs))
        return self._chosen[population.name]

    def _test(self, model: PosteriorModel, population: Population) -> TwoSample:
        """Return the test against the known simulations of a path nearest in σ/m."""
        value = model.measure(population).median
        reference = nearest_known(model.known, value, model.coordinate, self.seed)
        return two_sample_test(population, reference)
