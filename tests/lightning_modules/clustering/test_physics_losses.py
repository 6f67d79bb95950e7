"""The physical terms prefer the truth to every wrong split, in any unit and for any batch."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn.functional import one_hot

from datamodules import ClusteringDataModule, SyntheticField
from lightning_modules import DeepEmbeddedClustering, StellarAutoencoder
from lightning_modules.clustering.physics_losses import (
    ASTROMETRIC,
    NEEDS,
    TERMS,
    parallax_scatter,
    scatter,
)

FIELD, MEMBERS = 900, 300


@pytest.fixture(scope="module")
def stars() -> dict[str, Tensor]:
    """Two compact clusters of one age, metallicity and isochrone each, in a broad field."""
    g = torch.Generator().manual_seed(0)
    label = torch.cat([torch.zeros(FIELD), torch.ones(MEMBERS), torch.full((MEMBERS,), 2.0)]).long()
    n, inside = len(label), (label > 0).float()[:, None]

    def drawn(centres: list[list[float]], narrow: float, broad: float) -> Tensor:
        width = broad + inside * (narrow - broad)
        centre = torch.tensor(centres)[label]
        return centre + width * torch.randn(n, len(centres[0]), generator=g)

    sky = drawn([[0.0, 0.0], [0.2, 0.1], [-0.2, 0.1]], 0.05, 0.3)
    motion = drawn([[0.0, 0.0], [2.0, 1.0], [-1.0, 2.0]], 0.2, 4.0)
    error = 0.05 + 0.2 * torch.rand(n, 1, generator=g)
    parallax = drawn([[1.0], [0.5], [0.2]], 0.0, 1.0) + error * torch.randn(n, 1, generator=g)
    magnitude = 13 + 7 * torch.rand(n, generator=g)
    colour = 0.1 * magnitude + drawn([[0.0], [0.3], [-0.3]], 0.03, 0.6)[:, 0]
    covariance = torch.diag_embed(error.square().expand(n, 5))
    order = torch.randperm(n, generator=g)
    columns = {
        "features": torch.cat([sky, parallax, motion], 1), "covariance": covariance,
        "magnitude": magnitude, "colour": colour, "label": label,
        "age": drawn([[5.0], [12.0], [11.0]], 0.3, 3.0)[:, 0],
        "metallicity": drawn([[-0.3], [-1.2], [-2.0]], 0.03, 0.4)[:, 0],
    }  # fmt: skip
    return {name: values[order] for name, values in columns.items()}


def split(label: Tensor) -> Tensor:
    """Return hard memberships in three columns."""
    return one_hot(label, 3).float()


def wrong(stars: dict[str, Tensor], kind: str) -> Tensor:
    """Return memberships that are not the truth."""
    label, east = stars["label"], (stars["features"][:, 0] > 0).long()
    fast = (stars["features"][:, 3] > 0).long()
    generator = torch.Generator().manual_seed(1)
    return {
        "uniform": torch.full((len(label), 3), 1 / 3),
        "random": split(torch.randint(0, 3, label.shape, generator=generator)),
        "field cut on the sky": split(torch.where(label > 0, 2, east)),
        "field cut in motion": split(torch.where(label > 0, 2, fast)),
        "clusters merged": split(label.clamp_max(1)),
    }[kind]


KINDS = ["uniform", "random", "field cut on the sky", "field cut in motion", "clusters merged"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TERMS)
def test_the_truth_is_preferred(name: str, kind: str, stars: dict[str, Tensor]) -> None:
    term, truth = TERMS[name], split(stars["label"])
    assert 0 < term(truth, stars) < term(wrong(stars, kind), stars) - 0.01


@pytest.mark.parametrize("name", TERMS)
def test_a_gradient_step_moves_memberships_towards_the_truth(
    name: str, stars: dict[str, Tensor]
) -> None:
    truth = split(stars["label"])
    q = (0.5 * truth + 0.5 / 3).requires_grad_()
    (pull,) = torch.autograd.grad(TERMS[name](q, stars), q)
    assert (pull * (truth - q.detach())).sum() < 0


@pytest.mark.parametrize("name", TERMS)
def test_neither_the_batch_size_nor_units_matter(name: str, stars: dict[str, Tensor]) -> None:
    term, truth = TERMS[name], split(stars["label"])
    twice = {key: torch.cat([values, values]) for key, values in stars.items()}
    repeated = term(torch.cat([truth, truth]), twice)
    torch.testing.assert_close(repeated, term(truth, stars), rtol=0.02, atol=0.0)
    scaled = {key: 60.0 * values for key, values in stars.items()}
    scaled["covariance"] = 3600.0 * stars["covariance"]
    torch.testing.assert_close(term(truth, scaled), term(truth, stars), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("name", TERMS)
def test_what_is_missing_does_not_count(name: str, stars: dict[str, Tensor]) -> None:
    known = torch.arange(len(stars["label"])) % 3 > 0
    holes = {
        key: torch.where(known.view(-1, *[1] * (x.ndim - 1)), x, torch.nan)
        for key, x in stars.items()
        if x.is_floating_point()
    }
    truth = split(stars["label"])
    rest = {key: values[known] for key, values in stars.items()}
    torch.testing.assert_close(TERMS[name](truth, holes), TERMS[name](truth[known], rest))


def test_scatter_of_two_gaussians_is_the_ratio_of_their_widths() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40000, 1, generator=generator) * torch.tensor([1.0, 0.1]).repeat(20000)[:, None]
    q = one_hot(torch.arange(40000) % 2, 2).float()
    expected = math.sqrt(1.0 * 0.01) / 0.505  # geometric mean over the variance of all
    assert scatter(q, x).item() == pytest.approx(expected, rel=0.06)


def test_one_distance_within_its_errors_costs_nothing_more() -> None:
    generator = torch.Generator().manual_seed(0)
    error = 0.1 + torch.rand(20000, generator=generator)
    parallax = 0.5 + error * torch.randn(20000, generator=generator)
    parts = one_hot(torch.arange(20000) % 4, 4).float()
    assert parallax_scatter(parts, parallax, error).item() == pytest.approx(1.0, abs=0.02)


def test_unknown_terms_and_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\{'gravity': 1.0\}: give .* names among \['age'"):
        StellarAutoencoder(physics={"gravity": 1.0})
    with pytest.raises(ValueError, match=r"\{'spatial': 0.0\}"):
        StellarAutoencoder(physics={"spatial": 0.0})


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("kind", [StellarAutoencoder, DeepEmbeddedClustering])
def test_the_terms_join_the_loss_with_their_weights(
    kind: type[StellarAutoencoder], adaptive: bool, stars: dict[str, Tensor]
) -> None:
    physics = {"kinematic": 0.5, "locus": 2.0}
    torch.manual_seed(0)
    model = kind(hidden_dims=[8], latent_dim=2, physics=physics, adaptive=adaptive, dropout=0.0)
    batch: dict[str, Any] = {**stars, "index": torch.arange(len(stars["label"]))}
    terms = model.step(batch, "train")
    assert set(physics) | {"loss", "reconstruction"} <= set(terms)
    expected = terms["reconstruction"] + sum(w * terms[name] for name, w in physics.items())
    logs = 0.5 * sum(math.log(2 * weight) for weight in (1.0, *physics.values()))
    torch.testing.assert_close(terms["loss"], expected - (logs if adaptive else 0.0))
    terms["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_batch_without_what_a_term_needs_is_refused(stars: dict[str, Tensor]) -> None:
    model = StellarAutoencoder(hidden_dims=[8], latent_dim=2, physics={"age": 1.0})
    batch = {"index": torch.arange(4), "features": stars["features"][:4]}
    with pytest.raises(ValueError, match="needs 'age' in the batch"):
        model.training_step(batch, 0)
    assert set(NEEDS) == set(TERMS)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("count", [0, 1])
def test_too_few_stars_say_nothing(name: str, count: int, stars: dict[str, Tensor]) -> None:
    few = {key: values[:count] for key, values in stars.items()}
    q = torch.full((count, 3), 1 / 3, requires_grad=True)
    value = TERMS[name](q, few)
    value.backward()
    assert value.item() == pytest.approx(1.0, abs=1e-5)
    assert q.grad is not None
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("name", ASTROMETRIC)
def test_features_in_another_order_are_refused(
    name: str, tmp_path: Path, make_trainer: Callable[..., Trainer]
) -> None:
    turned = ["pmra", "pmdec", "parallax", "x", "y"]
    data = ClusteringDataModule(SyntheticField(60, []), features=turned, cache_dir=str(tmp_path))
    model = StellarAutoencoder(hidden_dims=[8], latent_dim=2, physics={name: 1.0})
    with pytest.raises(ValueError, match=rf"'{name}' needs data\.features that begin with"):
        make_trainer(1).fit(model, data)


def test_the_terms_of_the_colours_do_not_mind_the_order(
    tmp_path: Path, make_trainer: Callable[..., Trainer]
) -> None:
    turned = ["pmra", "pmdec", "parallax", "x", "y"]
    data = ClusteringDataModule(SyntheticField(60, []), features=turned, cache_dir=str(tmp_path))
    model = StellarAutoencoder(hidden_dims=[8], latent_dim=2, physics={"locus": 1.0})
    make_trainer(1).fit(model, data)
    assert 0 < float(model.last_terms["locus"]) < 1.1


def test_a_term_of_what_no_star_has_is_refused(
    tmp_path: Path, make_trainer: Callable[..., Trainer]
) -> None:
    data = ClusteringDataModule(SyntheticField(60, []), cache_dir=str(tmp_path))
    data.prepare_data()
    data.setup("fit")
    data.columns["colour"] = torch.full_like(data.columns["colour"], torch.nan)
    model = StellarAutoencoder(hidden_dims=[8], latent_dim=2, physics={"locus": 1.0})
    with pytest.raises(ValueError, match="no star of the training split has a 'colour'"):
        make_trainer(1).fit(model, data)
