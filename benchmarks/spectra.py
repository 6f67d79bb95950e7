"""Cost of training and using the spectra VAE, against the network that it comes from.

Training: CPU-µs a spectrum of one optimizer step (batch 512 × 7514 pixels, 3 labels, 28 latents)
against the reference network with a vectorised loss and its own optimizer, Adam with amsgrad.
Encoding and decoding: the same without gradients. Random spectra: cost does not depend on the
physics. The target of the training ratio is 10.

See `measure.py` for the lines. Run alone: `python benchmarks/spectra.py [threads]`.
"""

import os
import sys
from collections.abc import Callable
from itertools import pairwise

# Waiting threads sleep: spinning counts as work. OpenMP reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from measure import alternate, quiet, report, timed, training_step
from torch import Tensor, nn

from lightning_modules import SpectraVAE

BATCH, PIXELS, LABELS, LATENTS = 512, 7514, 3, 28
WIDTHS = (3757, 1878, 939, 469, 234, 117, 58)
REPETITIONS = 5


class PublishedReference(nn.Module):
    """The network of Tijauna/apogee-vae, written from its description."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = self.stack(PIXELS + LABELS, *WIDTHS)
        self.mean, self.log_variance = nn.Linear(58, LATENTS), nn.Linear(58, LATENTS)
        self.decoder = self.stack(LATENTS + LABELS, *WIDTHS[::-1], PIXELS)

    @staticmethod
    def stack(*widths: int) -> nn.Sequential:
        """Return linear layers with GELU after each."""
        pairs = pairwise(widths)
        return nn.Sequential(*(m for a, b in pairs for m in (nn.Linear(a, b), nn.GELU())))

    def encode(self, flux: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the latents."""
        h = self.encoder(torch.cat([flux, label], dim=1))
        return self.mean(h), self.log_variance(h)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the sum of likelihood, KL and separability of its paper, all vectorised."""
        label = batch["label"] + batch["label_error"] * torch.randn_like(batch["label"])
        mean, log_variance = self.encode(batch["flux"], label)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        joint = torch.cat([z, label], dim=1)
        residual = self.decoder(joint) - batch["flux"]
        likelihood = (residual.square() * batch["flux_ivar"] * batch["good"]).sum()
        kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
        covariance = torch.cov(joint.mT)
        blocks = torch.block_diag(covariance[:LATENTS, :LATENTS], covariance[LATENTS:, LATENTS:])
        determinants = torch.linalg.slogdet(torch.stack([blocks, covariance])).logabsdet
        return likelihood + kl + 0.5 * len(z) * (determinants[0] - determinants[1])


def spectra() -> dict[str, Tensor]:
    """Return a batch of noise with 8 % of the pixels masked."""
    generator = torch.Generator().manual_seed(0)
    flux = 1 + 0.05 * torch.randn(BATCH, PIXELS, generator=generator)
    good = torch.rand(BATCH, PIXELS, generator=generator) > 0.08
    return {
        "index": torch.arange(BATCH),
        "flux": flux,
        "flux_ivar": torch.where(good, 4e4, 0.0),
        "good": good,
        "label": torch.randn(BATCH, LABELS, generator=generator),
        "label_error": torch.full((BATCH, LABELS), 0.1),
    }


def model() -> SpectraVAE:
    """Return the default model, scaled."""
    vae = SpectraVAE(PIXELS, LABELS, LATENTS)
    vae.fit_statistics(
        {
            "flux_mean": torch.ones(PIXELS),
            "flux_scale": torch.full((PIXELS,), 0.05),
            "label_mean": torch.zeros(LABELS),
            "label_std": torch.ones(LABELS),
        }
    )
    return vae


def compare(name: str, ours: Callable[..., float], peer: Callable[..., float]) -> None:
    """Print one case.

    Args:
        name: What is timed.
        ours: Returns CPU seconds of a batch.
        peer: The same of the reference network.
    """
    both = alternate(ours, peer, repetitions=REPETITIONS)
    values = ([1e6 * seconds / BATCH for seconds in times] for times in both)
    report(
        f"spectra/{name} {BATCH}x{PIXELS}",
        "CPU us a spectrum",
        *values,
        "reference network, vectorised loss",
        threads=torch.get_num_threads(),
    )


def main() -> None:
    """Print every case."""
    quiet(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    torch.manual_seed(0)
    batch, ours, peer = spectra(), model(), PublishedReference()
    compare(
        "training",
        training_step(ours.configure_optimizers(), lambda: ours.step(batch, "train")["loss"]),
        training_step(
            torch.optim.Adam(peer.parameters(), lr=1e-3, amsgrad=True), lambda: peer.loss(batch)
        ),
    )
    latent, label = torch.randn(BATCH, LATENTS), batch["label"]
    joint = torch.cat([latent, label], dim=1)
    with torch.inference_mode():
        compare(
            "encoding",
            timed(lambda: ours.encode(batch)),
            timed(lambda: peer.encode(batch["flux"], label)),
        )
        compare(
            "decoding",
            timed(lambda: ours.decode(latent, label)),
            timed(lambda: peer.decoder(joint)),
        )


if __name__ == "__main__":
    main()
