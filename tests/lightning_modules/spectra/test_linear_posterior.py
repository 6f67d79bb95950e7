import numpy as np
import torch

from lightning_modules.spectra.linear_posterior import linear_posterior, products, unpacked
from tests.lightning_modules.spectra.stars import LATENT_DIM, build, linear_truth, stars, statistics


def test_posterior_is_the_closed_form_with_masks_and_errors() -> None:
    rng = np.random.default_rng(0)
    latent_map = rng.normal(size=(4, 50)) * np.array([10.0, 1.0, 0.1, 0.01])[:, None]
    weight = rng.exponential(10.0, (20, 50)) * (rng.random((20, 50)) > 0.3)
    weight[0] = 0.0
    residual = rng.normal(size=(20, 50)) * (weight > 0)
    tensors = (torch.from_numpy(v).float() for v in (residual, weight, latent_map))
    mean, covariance = linear_posterior(*tensors)
    for n in range(20):
        precision = np.eye(4) + (latent_map * weight[n]) @ latent_map.T
        expected = np.linalg.inv(precision)
        np.testing.assert_allclose(covariance[n], expected, rtol=2e-4, atol=1e-6)
        right = latent_map @ (weight[n] * residual[n])
        np.testing.assert_allclose(mean[n], expected @ right, rtol=2e-3, atol=2e-4)
    np.testing.assert_array_equal(mean[0], 0.0)  # the prior
    np.testing.assert_array_equal(covariance[0], np.eye(4))


def test_network_of_the_true_linear_model_gives_its_posterior() -> None:
    """Skip network with the true parameters, its trunks at 0, in physical units."""
    model, batch = build(), stars(32)
    label_map, latent_map = linear_truth()
    found = statistics(stars(256))
    scale, mean = found["flux_scale"].double().numpy(), found["flux_mean"].double().numpy()
    net = model.net
    for layer in (net.posterior, net.decoder_output):
        for parameter in layer.parameters():
            torch.nn.init.zeros_(parameter)
    quadratic = np.zeros((3, label_map.shape[1]))
    own_label_map = np.concatenate([label_map, quadratic]) / scale
    arrays = ((1 - mean) / scale, own_label_map, latent_map / scale)
    net.assign_linear(*(torch.from_numpy(a).float() for a in arrays))
    latent, log_variance = model.encode(batch)
    flux, ivar, label = (batch[k].double().numpy() for k in ("flux", "flux_ivar", "label"))
    u = (label - found["label_mean"].numpy()) / found["label_std"].numpy()
    for n in (0, 2, 5, 31):
        residual = np.where(batch["good"][n], flux[n] - 1 - u[n] @ label_map, 0.0)
        covariance = np.linalg.inv(np.eye(LATENT_DIM) + (latent_map * ivar[n]) @ latent_map.T)
        expected = covariance @ latent_map @ (ivar[n] * residual)
        np.testing.assert_allclose(latent[n].detach(), expected, rtol=1e-3, atol=1e-3)
        variance = log_variance[n].detach().exp()
        np.testing.assert_allclose(variance, np.diag(covariance), rtol=1e-3)


def test_products_unpack_to_the_gram_matrix() -> None:
    rows = torch.randn(3, 7)
    gram = unpacked(products(rows).sum(dim=1), 3)
    torch.testing.assert_close(gram, rows @ rows.mT)


def test_half_precision_leaves_the_posterior_alone() -> None:
    torch.manual_seed(0)
    residual, weight, latent_map = torch.randn(5, 40), torch.rand(5, 40), torch.randn(3, 40)
    with torch.autocast("cpu", torch.bfloat16):
        half = linear_posterior(residual, weight, latent_map)
    for a, b in zip(half, linear_posterior(residual, weight, latent_map), strict=True):
        assert torch.equal(a, b)
