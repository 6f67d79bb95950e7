"""Magnification: VBMicrolensing, our formulas and textbooks agree, conventions are as stated."""

import numpy as np
import pytest
from VBMicrolensing import VBMicrolensing

from datamodules.microlensing.simulate.magnification import MagnificationEngine
from datamodules.microlensing.simulate.outer_images import is_outer, outer_magnification
from datamodules.microlensing.simulate.parallax import parallax_offsets, sun_position
from datamodules.microlensing.simulate.presets import PRESETS, EventSettings
from lightning_modules.physics.point_lens import DISC, TABLE_STEP, pspl

RA, DEC = (17 + 51 / 60 + 40 / 3600) * 15, -(29 + 53 / 60 + 26 / 3600)


@pytest.fixture
def lens() -> MagnificationEngine:
    return MagnificationEngine(RA, DEC, finite_source=True)


def one_event(**values: float) -> dict[str, np.ndarray]:
    defaults = {
        "separation": 1.2,
        "mass_ratio": 0.3,
        "impact_parameter": 0.2,
        "source_radius": 1e-3,
        "angle": 0.7,
        "einstein_time": 30.0,
        "peak_time": 50.0,
        "baseline_magnitude": 20.0,
        "blend": 0.0,
        "parallax_north": 0.0,
        "parallax_east": 0.0,
        "parallax_time": 50.0,
        "flux_ratio": 0.0,
        "second_impact_parameter": 0.5,
        "second_peak_time": 70.0,
    }
    return {name: np.array([value]) for name, value in {**defaults, **values}.items()}


def magnify(
    lens: MagnificationEngine, event: dict[str, np.ndarray], binary: bool, time: np.ndarray
) -> np.ndarray:
    good = np.ones((1, len(time)), dtype=bool)
    return lens.magnify(event, np.array([binary]), time[None], good, np.array([1e-4]))[0]


def along(
    lens: MagnificationEngine, s: float, q: float, radius: float, y1: np.ndarray, y2: float
) -> np.ndarray:
    """Magnify sources on a line along the axis."""
    one = np.ones((1, len(y1)))
    values = (np.array([v]) for v in (s, q, radius))
    good = one.astype(bool)
    return lens.binary(*values, y1[None], y2 * one, good, np.array([1e-4]))[0]


def test_pspl_is_the_textbook_formula_and_vbmicrolensing_to_1e_6() -> None:
    # Paczynski 1986: A(1) = 3 / sqrt(5); A = 1 / u + 3 u / 8 near the lens; 1 + 2 / u^4 far away.
    assert pspl(np.array([1.0]))[0] == pytest.approx(3 / np.sqrt(5), rel=1e-15)
    small, large = np.array([1e-3]), np.array([30.0])
    assert pspl(small)[0] == pytest.approx(1 / small[0] + 3 * small[0] / 8, rel=1e-9)
    assert pspl(large)[0] - 1 == pytest.approx(2 / large[0] ** 4, rel=0.01)
    time = np.linspace(0.0, 100.0, 333)
    theirs = VBMicrolensing().PSPLLightCurve([np.log(0.2), np.log(30.0), 50.0], time.tolist())[0]
    ours = pspl(np.hypot(0.2, (time - 50.0) / 30.0))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_two_bodies_far_away_or_very_unequal_are_one(lens: MagnificationEngine) -> None:
    time = np.linspace(0.0, 100.0, 101)
    single = magnify(lens, one_event(), False, time)
    for change in ({"separation": 0.02}, {"mass_ratio": 1e-8, "separation": 3.0}):
        binary = magnify(lens, one_event(**change), True, time)
        np.testing.assert_allclose(binary, single, rtol=1e-3)
    # Very wide: each body is a lens of its own mass, moved towards the other by its mass / s.
    q, s = 0.25, 60.0
    place, mass = -q * s / (1 + q) + q / (1 + q) / s, 1 / (1 + q)
    y1 = place + np.linspace(-1.0, 1.0, 41)
    binary = along(lens, s, q, 1e-3, y1, 0.3)
    alone = pspl(np.hypot(y1 - place, 0.3) / np.sqrt(mass))
    np.testing.assert_allclose(binary, alone, rtol=2e-3)


def test_path_is_that_of_vbmicrolensing(lens: MagnificationEngine) -> None:
    event, time = one_event(angle=2.1, mass_ratio=0.05), np.linspace(20.0, 90.0, 80)
    engine = VBMicrolensing()
    engine.Tol = engine.RelTol = 1e-4
    values = [np.log(1.2), np.log(0.05), 0.2, 2.1, np.log(1e-3), np.log(30.0), 50.0]
    theirs, y1, y2 = engine.BinaryLightCurve(values, time.tolist())
    np.testing.assert_allclose(magnify(lens, event, True, time), theirs, rtol=3e-4)
    tau = (time - 50.0) / 30.0
    np.testing.assert_allclose(y1, 0.2 * np.sin(2.1) - tau * np.cos(2.1), atol=1e-12)
    np.testing.assert_allclose(y2, -0.2 * np.cos(2.1) - tau * np.sin(2.1), atol=1e-12)


def test_origin_is_the_centre_of_mass_and_the_heavy_body_is_left(lens: MagnificationEngine) -> None:
    s, q = 3.0, 0.01
    axis = np.linspace(-1.0, 4.0, 2501)
    near = along(lens, s, q, 1e-4, axis, 0.002)
    heavy = axis[np.argmax(np.where(axis < 1, near, 0))]
    light = axis[np.argmax(np.where(axis > 1, near, 0))]
    assert heavy == pytest.approx(-q * s / (1 + q), abs=0.01)
    # The planetary caustic is where the planet's image would be: 1 / s nearer to the star.
    assert light == pytest.approx(s / (1 + q) - 1 / s, abs=0.03)


def test_images_by_iteration_are_those_of_the_polynomial() -> None:
    rng = np.random.default_rng(0)
    s, q = (
        np.exp(rng.uniform(np.log(0.6), np.log(12), 4000)),
        np.exp(rng.uniform(np.log(1e-5), 0, 4000)),
    )
    body = np.where(rng.random(4000) < 0.5, -q * s / (1 + q), s / (1 + q))
    distance, direction = rng.uniform(1.2, 8.0, 4000), rng.uniform(0, 2 * np.pi, 4000)
    y1, y2 = body + distance * np.cos(direction), distance * np.sin(direction)
    outer = is_outer(s, q, np.full(4000, 1e-3), y1, y2, np.full(4000, 1e-2))
    assert 0.5 < outer.mean() < 0.95
    ours = outer_magnification(s, q, y1, y2)[outer]
    engine = VBMicrolensing()
    engine.Tol = engine.RelTol = 1e-5
    points = zip(s[outer], q[outer], y1[outer], y2[outer], strict=True)
    theirs = [engine.BinaryMag2(*map(float, point), 1e-5) for point in points]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert not is_outer(np.array(0.5), np.array(0.1), 1e-3, np.array(9.0), np.array(0.0), 1e-2)


def test_angle_pi_minus_alpha_mirrors_time(lens: MagnificationEngine) -> None:
    time = np.linspace(0.0, 100.0, 101)  # symmetric about t_0
    forward = magnify(lens, one_event(angle=0.7), True, time)
    # y2 -> -y2 leaves a binary as it is: alpha -> -alpha with u -> -u, or time and alpha reversed.
    mirrored = magnify(lens, one_event(angle=-0.7, impact_parameter=-0.2), True, time)
    np.testing.assert_allclose(mirrored, forward, rtol=1e-3)
    backward = magnify(lens, one_event(angle=np.pi - 0.7), True, time)
    np.testing.assert_allclose(backward[::-1], forward, rtol=1e-3)


def test_finite_source_has_the_closed_form_at_the_centre(lens: MagnificationEngine) -> None:
    # Witt & Mao 1994: A(0) = sqrt(1 + 4 / rho^2) for a uniform disc.
    event = one_event(impact_parameter=1e-9, source_radius=0.05)
    assert magnify(lens, event, False, np.array([50.0]))[0] == pytest.approx(
        np.sqrt(1 + 4 / 0.05**2), rel=1e-4
    )
    # The table of the fit: B_0(z) -> 2 z at the centre, 1 + 1 / (8 z^2) far away (Gould 1994).
    assert DISC[1] == pytest.approx(2 * TABLE_STEP, rel=1e-4)
    assert DISC[int(5 / TABLE_STEP)] == pytest.approx(1 + 1 / (8 * 25), rel=1e-4)


def test_second_source_adds_its_light(lens: MagnificationEngine) -> None:
    time = np.array([40.0, 70.0])
    both = magnify(lens, one_event(flux_ratio=0.5), False, time)
    first = pspl(np.hypot(0.2, (time - 50.0) / 30.0))
    second = pspl(np.hypot(0.5, (time - 70.0) / 30.0))
    np.testing.assert_allclose(both, (first + 0.5 * second) / 1.5, rtol=1e-5)


def test_sun_is_where_astropy_says() -> None:
    coordinates = pytest.importorskip("astropy.coordinates")
    from astropy.time import Time

    from datamodules.microlensing.simulate.cadence import TIME_ZERO

    days = np.linspace(0.0, 700.0, 30)
    when = Time(days + TIME_ZERO, format="jd", scale="tdb")
    sun, earth = (coordinates.get_body_barycentric(name, when) for name in ("sun", "earth"))
    np.testing.assert_allclose((sun - earth).xyz.to_value("AU"), sun_position(days), atol=4e-4)


def test_parallax_is_that_of_vbmicrolensing() -> None:
    from datamodules.microlensing.simulate.cadence import TIME_ZERO

    time, peak = np.linspace(10300.0, 10800.0, 60), 10550.0
    engine = VBMicrolensing()
    engine.parallaxsystem = 1  # north and east
    engine.SetObjectCoordinates("17:51:40 -29:53:26")
    values = [0.1, np.log(100.0), peak, 0.3, 0.2]
    theirs = engine.PSPLLightCurveParallax(values, time.tolist())[0]
    shift = 2450000.0 - TIME_ZERO
    north, east = np.array([[0.3]]), np.array([[0.2]])
    frame = np.array([[peak + shift]])
    along, across = parallax_offsets(time[None] + shift, frame, north, east, RA, DEC)
    ours = pspl(np.hypot((time - peak) / 100.0 + along[0], 0.1 + across[0]))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_a_failing_engine_gives_nan_and_a_low_magnification_is_a_failure(
    lens: MagnificationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        Tol = RelTol = 0.0

        def BinaryMag2(self, *values: float) -> float:  # noqa: N802
            return 0.5

    monkeypatch.setattr(lens, "engine", Broken())
    assert np.isnan(along(lens, 1.0, 0.1, 1e-3, np.array([0.1, 0.2]), 0.1)).all()


def test_presets_are_those_of_the_reference() -> None:
    assert PRESETS["planetary"]["mass_ratio"] == (1e-4, 0.01)
    assert PRESETS["critical"]["window"] == (-100.0, 100.0)
    ranges = {"mass_ratio": [1e-5, 1e-2]}
    settings = EventSettings(ranges=ranges, window=[0, 500], log_mass_ratio=True)
    assert settings.limits["peak_time"] == settings.days == (0.0, 500.0)
    events = settings.draw(np.random.default_rng(0), 20000)
    assert np.median(np.log10(events["mass_ratio"])) == pytest.approx(-3.5, abs=0.05)
    assert np.median(events["separation"]) == pytest.approx(5.05, abs=0.1)


@pytest.mark.parametrize(
    ("ranges", "text"),
    [
        ({"mass": [0, 1]}, "mass"),
        ({"mass_ratio": [0.0, 1.0]}, "mass_ratio"),
        ({"blend": [0.0, 1.2]}, "blend"),
        ({"einstein_time": [100.0, 10.0]}, "einstein_time"),
        ({"separation": [1.0]}, "separation"),
    ],
)
def test_wrong_ranges_are_refused_by_name(ranges: dict[str, list[float]], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        EventSettings(ranges=ranges)
