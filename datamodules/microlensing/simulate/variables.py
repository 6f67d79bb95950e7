"""Stars that vary by themselves, which a survey takes for lensed ones (numpy only)."""

import numpy as np

from lightning_modules.physics.arrays import Array

PERIODS = (0.3, 500.0)
AMPLITUDES = (0.05, 1.5)
NUM_HARMONICS = 4


def variable_star(rng: np.random.Generator, time: Array) -> Array:
    """Draw periodic stars: a Fourier series in magnitude with random phases.

    Period (0.3 to 500 days: RR Lyrae to Miras) and amplitude (0.05 to 1.5 mag, half of peak to
    peak of the first harmonic) are uniform in the logarithm; harmonic k has a mean power of
    1 / k^3.

    Args:
        rng: Random numbers.
        time: Days, shape (n, T).

    Returns:
        Flux over its median, shape (n, T) float32, 1 where `time` is NaN.
    """
    count = len(time)
    period = PERIODS[0] * (PERIODS[1] / PERIODS[0]) ** rng.random((count, 1))
    amplitude = AMPLITUDES[0] * (AMPLITUDES[1] / AMPLITUDES[0]) ** rng.random((count, 1))
    phase = rng.uniform(0.0, 2.0 * np.pi, (count, NUM_HARMONICS))
    height = np.abs(rng.standard_normal((count, NUM_HARMONICS)))
    height[:, 0] = 1.0
    known = np.where(np.isfinite(time), time, 0.0)
    magnitude = np.zeros(time.shape)
    for k in range(1, NUM_HARMONICS + 1):
        angle = 2.0 * np.pi * k * known / period + phase[:, k - 1 : k]
        magnitude += height[:, k - 1 : k] * k**-1.5 * np.sin(angle)
    flux = 10.0 ** (-0.4 * amplitude * magnitude)
    flux /= np.median(flux, axis=1, keepdims=True)
    return np.where(np.isfinite(time), flux, 1.0).astype(np.float32)
