"""The photometric gate: shares that depend on magnitude and colour (torch only).

A gate is a table of log odds, a row for each cell of a grid in (G, BP-RP). Responsibilities are
summed in the cells during a pass, so that memory does not grow with the number of stars; the table
that is likelier given those sums is made after it (generalised EM).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Photometry = Literal["none", "histogram", "network"]
PHOTOMETRY = ("magnitude", "colour")
"""Keys of a batch that a gate asks for."""
SIDE = 40
"""Cells a side; one more for stars without a magnitude, one for those without a colour."""
NUM_CELLS = (SIDE + 1) ** 2
COARSE = 4
"""Cells of the grid a side of one of the histogram."""
PSEUDO_STARS = 10.0
"""Stars with the shares of the whole that are added to each cell of the histogram."""
HIDDEN = 16
"""Width of the two hidden layers of the network."""
NUM_INPUTS = 4
PRIOR = 1.0
"""Inverse of twice the variance of the network's weights before the data."""
STEPS = 50
"""Of L-BFGS, each time that the network is fitted anew."""


class PhotometricGate(nn.Module):
    """Log odds π_k(G, BP-RP) / π_k of each cluster and of the field, in cells of the two.

    The components of the field share one column, the last, so that the gate says who is a member.

    The histogram has the shares of coarse cells, pulled to those of the whole by `PSEUDO_STARS`;
    the network, two hidden layers of tanh, maximises Σ q log π over the cells under a normal prior
    on its weights. A star without colour is judged by its magnitude.

    Args:
        kind: `histogram` or `network`.
        max_clusters: Most components of clusters, K at most.
        seed: Of the network's first weights.
    """

    low: Tensor
    high: Tensor
    table: Tensor
    count: Tensor
    weights: Tensor

    def __init__(self, kind: Photometry, max_clusters: int, seed: int) -> None:
        super().__init__()
        outputs = max_clusters + 1
        self.maker = MAKERS[kind]
        self.register_buffer("low", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("high", torch.ones(2, dtype=torch.float64))
        self.register_buffer("table", torch.zeros(NUM_CELLS, outputs, dtype=torch.float64))
        self.register_buffer("count", torch.ones(NUM_CELLS, dtype=torch.float64))
        self.register_buffer("weights", first_weights(outputs, seed))

    def span(self, photometry: Tensor) -> None:
        """Let the grid span all stars but the outermost hundredth.

        Args:
            photometry: Magnitude and colour, NaN where absent, (n, 2).
        """
        for axis, values in enumerate(photometry.double().T):
            known = values[values.isfinite()].sort().values
            if len(known):
                self.low[axis] = known[int(0.005 * len(known))]
                self.high[axis] = known[int(0.995 * (len(known) - 1))]
        self.high.copy_(torch.maximum(self.high, self.low + 1e-3))

    def cells(self, photometry: Tensor) -> Tensor:
        """Return the cell of each star, (n,) int64; the outermost ones have what is beyond.

        Args:
            photometry: Magnitude and colour, NaN where absent, (n, 2).
        """
        where = (photometry.double() - self.low) / (self.high - self.low) * SIDE
        place = where.nan_to_num(0.0).clamp(0, SIDE - 1).long()
        place = torch.where(photometry.isfinite(), place, SIDE)
        return place[:, 0] * (SIDE + 1) + place[:, 1]

    def log_odds(self, photometry: Tensor, num_clusters: int, num_field: int) -> Tensor:
        """Return the log odds of stars for each component, (n, K + F).

        Args:
            photometry: Magnitude and colour, NaN where absent, (n, 2).
            num_clusters: K.
            num_field: F.
        """
        own = self.table[self.cells(photometry)]
        return torch.cat([own[:, :num_clusters], own[:, -1:].expand(-1, num_field)], 1)

    def totals(self, photometry: Tensor, share: Tensor, num_clusters: int) -> Tensor:
        """Return responsibilities summed in the cells, the field's in one, (cells, K + 1).

        Args:
            photometry: Magnitude and colour, NaN where absent, (n, 2).
            share: Responsibilities, (n, K + F).
            num_clusters: K.
        """
        own = _join_field(share, num_clusters)
        return own.new_zeros(NUM_CELLS, own.shape[1]).index_add_(0, self.cells(photometry), own)

    def improve(self, totals: Tensor, weight: Tensor) -> float:
        """Make the table anew; return a lower bound of how much the log likelihood rises.

        Args:
            totals: Responsibilities summed in the cells, (cells, K + 1).
            weight: Shares of the components without photometry, (K + F,).
        """
        base = self._base(weight, totals.shape[1] - 1)
        columns = self._columns(totals.shape[1] - 1)
        before = (base + self.table[:, columns]).log_softmax(1)
        odds, weights = self.maker(totals, base, self.weights, columns)
        self.table[:, columns] = odds
        self.weights.copy_(weights)
        self.count.copy_(totals.sum(1))
        return float((totals * ((base + odds).log_softmax(1) - before)).sum())

    def mean_share(self, weight: Tensor, num_clusters: int) -> Tensor:
        """Return the share of the training stars that each cluster has, (K,).

        Args:
            weight: Shares of the components without photometry, (K + F,).
            num_clusters: K.
        """
        odds = self.table[:, self._columns(num_clusters)]
        share = (self._base(weight, num_clusters) + odds).softmax(1)
        return (self.count @ share / self.count.sum())[:-1]

    def _base(self, weight: Tensor, num_clusters: int) -> Tensor:
        """Return the logs of the shares of the clusters and the field, (K + 1,)."""
        return _join_field(weight[None], num_clusters)[0].clamp_min(1e-12).log()

    def _columns(self, num_clusters: int) -> Tensor:
        """Return the columns of the table that are used, (K + 1,)."""
        columns = torch.arange(num_clusters + 1, device=self.table.device)
        columns[-1] = self.table.shape[1] - 1
        return columns


def _join_field(share: Tensor, num_clusters: int) -> Tensor:
    """Return shares of clusters and of the whole field, (n, K + 1), from (n, K + F)."""
    return torch.cat([share[:, :num_clusters], share[:, num_clusters:].sum(1, keepdim=True)], 1)


Maker = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def table_of_histogram(
    totals: Tensor, base: Tensor, weights: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the log odds of a histogram, (cells, K + 1), and the network's weights as they were.

    Args:
        totals: Responsibilities summed in the cells, (cells, K + 1).
        base: Logs of the shares without photometry, (K + 1,).
        weights: Of the network, which is not asked.
        columns: Not asked either.
    """
    line = torch.arange(SIDE + 1, device=totals.device)
    coarse = torch.where(line < SIDE, line // COARSE, SIDE // COARSE)
    side = SIDE // COARSE + 1
    group = (coarse[:, None] * side + coarse).flatten()
    summed = totals.new_zeros(side**2, len(base)).index_add_(0, group, totals)
    summed = summed + PSEUDO_STARS * totals.sum(0) / totals.sum()
    share = summed / summed.sum(1, keepdim=True)
    return (share.clamp_min(1e-12).log() - base)[group], weights


def table_of_network(
    totals: Tensor, base: Tensor, weights: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the log odds of a network, (cells, K + 1), and its weights, fitted by L-BFGS.

    Args:
        totals: Responsibilities summed in the cells, (cells, K + 1).
        base: Logs of the shares without photometry, (K + 1,).
        weights: To begin from.
        columns: Outputs of the network that are used, (K + 1,).
    """
    count = totals.sum(1)
    rows = torch.where(count > 0)[0]
    points = inputs(totals.device)
    with torch.enable_grad():
        free = weights.clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [free], max_iter=STEPS, history_size=STEPS, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            share = (base + network(free, points[rows])[:, columns]).log_softmax(1)
            value = PRIOR * free.square().sum() - (totals[rows] * share).sum()
            value = value / count.sum()
            torch.autograd.backward(value)
            return value.detach()

        optimizer.step(loss)
    found = free.detach()
    return network(found, points)[:, columns], found


MAKERS: dict[str, Maker] = {"histogram": table_of_histogram, "network": table_of_network}
"""How each kind of table is made from summed responsibilities."""


def inputs(device: torch.device) -> Tensor:
    """Return what the network is given of each cell, (cells, 4).

    Magnitude and colour from -1 to 1, 0 where absent, and for each whether it is absent.
    """
    middle = (torch.arange(SIDE + 1, dtype=torch.float64, device=device) + 0.5) * 2.0 / SIDE - 1.0
    middle[SIDE] = 0.0
    absent = torch.zeros_like(middle)
    absent[SIDE] = 1.0
    return torch.cat([torch.cartesian_prod(v, v) for v in (middle, absent)], 1)


def network(weights: Tensor, points: Tensor) -> Tensor:
    """Return the network's answer, (n, columns).

    Args:
        weights: Of all layers, see `first_weights`.
        points: (n, NUM_INPUTS).
    """
    outputs = len(weights) // HIDDEN - NUM_INPUTS - HIDDEN - 2
    sizes = NUM_INPUTS * HIDDEN, HIDDEN, HIDDEN * HIDDEN, HIDDEN, HIDDEN * outputs
    first, bias, second, other, last = weights.split(sizes)
    hidden = (3.0 * points @ first.view(NUM_INPUTS, HIDDEN) + bias).tanh()
    hidden = (hidden @ second.view(HIDDEN, HIDDEN) + other).tanh()
    return hidden @ last.view(HIDDEN, outputs)


def first_weights(outputs: int, seed: int) -> Tensor:
    """Return weights that answer 0 for every star, drawn by a seed, float64.

    Args:
        outputs: Number of columns.
        seed: Fixes the hidden layers.
    """
    generator = torch.Generator().manual_seed(seed)
    count = HIDDEN * (NUM_INPUTS + HIDDEN + 2)
    hidden = 0.5 * torch.randn(count, generator=generator, dtype=torch.float64)
    return torch.cat([hidden, torch.zeros(HIDDEN * outputs, dtype=torch.float64)])
