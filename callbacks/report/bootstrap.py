"""The bootstrap over objects, or over groups of them: one way to every uncertainty."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]


class Bootstrap:
    """Resamples objects with replacement, or whole groups of objects that belong together.

    Every statistic that is a function of sums over objects (means, ratios, calibration bins,
    contingency tables) follows from resampled sums, without a loop over objects.

    Args:
        num_resamples: Resamples R.
        seed: Fixes the draws.
        groups: Group of each object, shape (n,); None resamples the objects one by one.
    """

    def __init__(
        self, num_resamples: int = 200, seed: int = 0, groups: Array | None = None
    ) -> None:
        if num_resamples < 2:
            raise ValueError(f"num_resamples={num_resamples} must be at least 2")
        self.num_resamples = num_resamples
        self.seed = seed
        self.groups = groups

    def take(self, rows: Array | None) -> "Bootstrap":
        """Return the bootstrap of some of the objects.

        Args:
            rows: Mask or positions; None takes all.
        """
        if self.groups is None or rows is None:
            return self
        return Bootstrap(self.num_resamples, self.seed, self.groups[rows])

    def weights(self, count: int) -> Iterator[Floats]:
        """Yield how often each of `count` objects is drawn in a resample, shape (count,).

        Raises:
            ValueError: If there are groups, but not one for each object.
        """
        rng = np.random.default_rng(self.seed)
        if self.groups is None:
            for _ in range(self.num_resamples):
                yield np.bincount(rng.integers(count, size=count), minlength=count).astype(float)
            return
        if len(self.groups) != count:
            raise ValueError(f"the bootstrap has groups of {len(self.groups)} objects, not {count}")
        names, member = np.unique(self.groups, return_inverse=True)
        size = len(names)
        for _ in range(self.num_resamples):
            drawn = np.bincount(rng.integers(size, size=size), minlength=size)
            yield drawn[member].astype(float)

    def sums(self, values: Array) -> Floats:
        """Return sums over the objects of each resample.

        Args:
            values: What is summed, shape (n,) or (n, m).

        Returns:
            Shape (R,) or (R, m).
        """
        values = np.asarray(values, dtype=np.float64)
        return np.stack([weights @ values for weights in self.weights(len(values))])

    def std(self, values: Array, statistic: Callable[[Floats], Any]) -> Floats:
        """Return the standard deviation of a statistic of sums over the objects.

        Args:
            values: What the statistic needs summed, shape (n,) or (n, m).
            statistic: From sums of shape (R,) or (R, m) to statistics of shape (R,) or (R, k).

        Returns:
            Shape () or (k,), over the resamples in which the statistic is defined.
        """
        return self._spread(np.asarray(statistic(self.sums(values))))

    def std_weighted(self, count: int, statistic: Callable[[Floats], Any]) -> Floats:
        """Return the standard deviation of a statistic of weighted objects.

        Args:
            count: Objects n.
            statistic: From weights of shape (n,) to statistics of shape () or (k,).

        Returns:
            Shape () or (k,).
        """
        return self._spread(np.asarray([statistic(weights) for weights in self.weights(count)]))

    def _spread(self, results: Floats) -> Floats:
        """Return the deviation over resamples; NaN if they are all of one and the same group."""
        alone = self.groups is not None and len(np.unique(self.groups)) < 2
        return np.full(results.shape[1:], np.nan) if alone else spread(results)

    def counts(self, cells: Array, num_cells: int) -> NDArray[np.int64]:
        """Return how many objects of each resample are in each cell of a table.

        Args:
            cells: Cell of each object, shape (n,) int64.
            num_cells: C.

        Returns:
            Shape (R, C); without groups drawn from the multinomial, which is the same.
        """
        if self.groups is None:
            table = np.bincount(cells, minlength=num_cells)
            rng = np.random.default_rng(self.seed)
            return rng.multinomial(len(cells), table / len(cells), size=self.num_resamples)
        drawn = (np.bincount(cells, weights, num_cells) for weights in self.weights(len(cells)))
        return np.stack(list(drawn)).astype(np.int64)


def spread(results: Floats) -> Floats:
    """Return the standard deviation over the first axis, of the finite values; NaN without any."""
    defined = np.isfinite(results)
    count = defined.sum(0)
    with np.errstate(invalid="ignore"):
        mean = np.where(defined, results, 0.0).sum(0) / count
        squares = np.where(defined, (results - mean) ** 2, 0.0).sum(0)
        return np.asarray(np.sqrt(squares / count))


def subsample(count: int, size: int, seed: int) -> NDArray[np.int64]:
    """Return the sorted positions of a random subsample; all of them if there are no more.

    Args:
        count: Objects to choose from.
        size: Objects wanted.
        seed: Fixes the choice.
    """
    if count <= size:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, size, replace=False))
