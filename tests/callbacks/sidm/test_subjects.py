"""What a subject says of populations, with simulations of one code and of two."""

import numpy as np
import pytest

from callbacks.sidm.populations import Population
from callbacks.sidm.subjects import Measured, Populations
from tests.callbacks.sidm.toy import KNOWN, twins


def shifted(populations: list[Population], prefix: str) -> list[Population]:
    return [
        Population(prefix + x.name, x.latent + np.array([1.5, 0, 5]), x.halo, x.cross_section)
        for x in populations
    ]


def test_a_population_is_measured_by_the_path_of_its_own_code() -> None:
    *second, observed = shifted(
        twins({"cdm": 0.0, "0.2": 0.2, "0.1": 0.1}, 300, 2, first_halo=1000), "d_"
    )
    first = twins(KNOWN, 300, 1)
    inside = twins({"x": 0.2}, 300, 3, first_halo=5000)[0]
    found = Measured("model", Populations([*first, *second], [observed, inside], [], []))
    assert [len(model.known) for model in found.models] == [4, 2]
    assert found.posteriors["d_0.1"].median == pytest.approx(0.1, abs=0.06)
    assert found.posteriors["x"].median == pytest.approx(0.2, abs=0.06)
    test = found.two_sample(observed)
    assert test is not None
    assert test.auc < test.limit
    alone = Measured("model", Populations(first, [observed], [], []))
    test = alone.two_sample(observed)
    assert test is not None
    assert test.auc > test.limit


def test_a_suite_of_one_value_has_no_path() -> None:
    other = shifted(twins({"cdm": 0.0}, 100, 2, first_halo=1000), "d_")
    found = Measured("model", Populations([*twins(KNOWN, 100, 1), *other], [], [], []))
    assert [one.name for one in found.anchors] == list(KNOWN)


def test_classes_are_positions_among_the_values_of_all_suites() -> None:
    first = twins({"cdm": 0.0, "far": 1.0}, 200, 1)
    for one in first:
        one.latent[..., 0] += 20 * one.cross_section  # told apart without error
    second = shifted(twins({"cdm": 0.0, "0.2": 0.2}, 100, 2, first_halo=1000), "d_")
    found = Measured("baseline/x", Populations([*first, *second], [], [], [], first)).classes()
    assert {name: set(x.tolist()) for name, x in found.items()} == {"cdm": {0}, "far": {2}}
