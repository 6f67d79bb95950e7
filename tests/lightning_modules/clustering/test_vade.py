"""VaDE: closed forms of its prior and its bound, and a fit that tells blobs apart."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from lightning_modules import VaDE
from lightning_modules.clustering.mixture_prior import MixturePrior
from lightning_modules.clustering.progress import Phase
from lightning_modules.losses.divergence import gaussian_kl


def prior() -> MixturePrior:
    """Return three components in two dimensions."""
    torch.manual_seed(0)
    found = MixturePrior(3, 2).double()
    for values in found.parameters():
        values.data.normal_()
    return found


def posteriors() -> tuple[Tensor, Tensor]:
    """Return means and log-variances of five posteriors."""
    torch.manual_seed(1)
    return torch.randn(5, 2).double(), torch.randn(5, 2).double() - 1.0


def components(mixture: MixturePrior) -> Independent:
    """Return the same components by torch."""
    return Independent(Normal(mixture.mean, torch.exp(0.5 * mixture.log_variance)), 1)


def test_divergence_equals_its_monte_carlo_estimate() -> None:
    mixture, (mean, log_variance) = prior(), posteriors()
    q = Independent(Normal(mean, torch.exp(0.5 * log_variance)), 1)
    share = mixture.responsibilities(mean, log_variance)
    torch.manual_seed(2)
    z = q.sample((100_000,))  # (draws, stars, latent)
    joint = components(mixture).log_prob(z[:, :, None]) + mixture.logit.log_softmax(dim=0)
    draws = q.log_prob(z) + (share * (share.log() - joint)).sum(dim=2)
    error = draws.std(dim=0) / len(draws) ** 0.5
    assert ((mixture.kl(mean, log_variance) - draws.mean(dim=0)).abs() < 4.0 * error).all()
    assert (error < 0.02).all()


def test_other_responsibilities_loosen_the_bound() -> None:
    mixture, (mean, log_variance) = prior(), posteriors()
    joint = mixture.expected_log_joint(mean, log_variance)
    q = Independent(Normal(mean, torch.exp(0.5 * log_variance)), 1)
    other = torch.full((5, 3), 1.0 / 3.0).double()
    divergence = -q.entropy() + (other * (other.log() - joint)).sum(dim=1)
    assert (divergence > mixture.kl(mean, log_variance)).all()


def test_responsibilities_of_a_known_latent_are_those_of_bayes() -> None:
    mixture, (mean, _) = prior(), posteriors()
    density = components(mixture).log_prob(mean[:, None]).exp() * mixture.logit.softmax(dim=0)
    expected = density / density.sum(dim=1, keepdim=True)
    found = mixture.responsibilities(mean, torch.full_like(mean, -40.0))
    torch.testing.assert_close(found, expected)


def test_far_latents_do_not_underflow() -> None:
    mixture = prior()
    share = mixture.responsibilities(torch.full((1, 2), 1e4).double(), torch.zeros(1, 2).double())
    assert torch.isfinite(share).all()
    assert float(share.detach().sum()) == pytest.approx(1.0)


def test_one_standard_component_gives_the_divergence_of_the_vae() -> None:
    mean, log_variance = posteriors()
    expected = gaussian_kl(mean, log_variance).sum(dim=1)
    torch.testing.assert_close(MixturePrior(1, 2).double().kl(mean, log_variance), expected)


def test_draws_have_the_moments_of_the_mixture() -> None:
    mixture = prior()
    share, draws = mixture.logit.softmax(dim=0), mixture.draw(50_000)
    mean = share @ mixture.mean
    second = share @ (mixture.log_variance.exp() + mixture.mean.square())
    torch.testing.assert_close(draws.mean(dim=0), mean, rtol=0.0, atol=0.05)
    torch.testing.assert_close(draws.var(dim=0), second - mean.square(), rtol=0.05, atol=0.0)


def test_the_start_puts_the_largest_volume_first_and_orders_the_rest_by_share() -> None:
    torch.manual_seed(3)
    parts = [(100, 0.1, 3.0), (300, 4.0, 0.0), (200, 0.1, -3.0)]
    latent = torch.cat([scale * torch.randn(n, 2) + place for n, scale, place in parts])
    mixture = MixturePrior(3, 2)
    mixture.start(latent, 0)
    assert mixture.log_variance[0].mean() > mixture.log_variance[1:].max() + 2.0
    torch.testing.assert_close(mixture.mean[1:, 0], torch.tensor([-3.0, 3.0]), rtol=0.0, atol=0.1)
    torch.testing.assert_close(
        mixture.logit.softmax(dim=0), torch.tensor([0.5, 0.333, 0.167]), rtol=0.0, atol=0.02
    )


def test_noise_holds_the_errors_of_the_star_in_scaled_units() -> None:
    torch.manual_seed(4)
    model = VaDE(hidden_dims=[4], latent_dim=2).eval()
    model.scaler.assign(torch.zeros(5), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    model.net.log_noise.data.fill_(-1.0)
    features = torch.randn(6, 5)
    root = 0.3 * torch.randn(6, 5, 5)
    batch = {"index": torch.arange(6), "features": features, "covariance": root @ root.mT}
    x, good = model.scaled(batch)
    found = model.log_noise(batch, good).exp().square()
    slope = torch.func.vmap(torch.func.jacrev(model.scaler))(features).diagonal(dim1=1, dim2=2)
    expected = torch.exp(torch.tensor(-2.0)) + slope.square() * (root @ root.mT).diagonal(0, 1, 2)
    torch.testing.assert_close(found, expected)
    reconstruction, _, _ = model.net(x)
    density = MultivariateNormal(reconstruction, torch.diag_embed(expected)).log_prob(x)
    torch.testing.assert_close(model.step(batch, "val")["nll"], -density.mean())


def test_errors_are_asked_for() -> None:
    batch = {"index": torch.arange(3), "features": torch.randn(3, 5)}
    with pytest.raises(ValueError, match="VaDE needs 'covariance'"):
        VaDE(hidden_dims=[4], latent_dim=2).training_step(batch, 0)


def test_blobs_are_told_apart_and_new_draws_look_like_them(
    make_data: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    seed_everything(1)
    data = make_data(batch_size=32)
    model = VaDE(
        num_clusters=2, hidden_dims=[16], latent_dim=2, pretrain_epochs=6, warmup_epochs=0,
        use_errors=False, lr=1e-2, asinh=False,
    )  # fmt: skip
    make_trainer(9).fit(model, data)
    assert model.progress.phase is Phase.CLUSTERING
    with torch.no_grad():
        found = model.eval().predict_step(data.columns)
    label, assignment = data.columns["label"], found["assignment"]
    table = torch.zeros(3, 3).index_put((label, assignment), torch.tensor(1.0), accumulate=True)
    assert table.max(dim=1).values.sum() > 0.95 * len(label)
    assert sorted(table.argmax(dim=1).tolist()) == [0, 1, 2]
    torch.testing.assert_close(found["probability"].sum(dim=1), torch.ones(len(label)))
    drawn, real = model.sample(2000), data.columns["features"]
    spread = real.std(dim=0)
    assert ((drawn.mean(dim=0) - real.mean(dim=0)).abs() < 0.25 * spread).all()
    torch.testing.assert_close(drawn.std(dim=0), spread, rtol=0.3, atol=0.0)
