from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.table import Table

from callbacks.sidm.populations import Population
from callbacks.sidm.posterior import PosteriorModel
from callbacks.sidm.writer import (
    CrossSectionTable,
    population_table,
    reference_populations,
    sentence,
)
from datamodules import SIDMDataModule
from lightning_modules import CompactClustering, CrossSectionRegressor
from tests.callbacks.sidm.cores import (
    HIDDEN,
    KNOWN,
    SIZE,
    Cores,
    make_data,
    make_ensemble,
    make_model,
)
from tests.callbacks.sidm.toy import draw, known


@pytest.fixture(scope="module")
def written(
    stars: Any, trained: CompactClustering, tmp_path_factory: Any
) -> tuple[Path, SIDMDataModule]:
    folder = tmp_path_factory.mktemp("predict")
    data = make_data(folder, Cores(alone=3), hidden=["*"], calibration=[], foreign=[])
    stars.trainer(folder, CrossSectionTable()).predict(trained, data)
    return folder, data


def test_populations_are_those_of_the_posterior(
    written: tuple[Path, SIDMDataModule], trained: CompactClustering
) -> None:
    folder, data = written
    table = Table.read(folder / "cross_section.ecsv")
    asked = [name for name in data.simulations if data.roles[name] != "known"]
    assert list(table["simulation"]) == [*asked, "maps"]
    assert str(table["cross_section_q84"].unit) == "cm2 / g"
    rows = np.flatnonzero(data.columns["simulation"] == data.simulations.index("hidden_3"))
    with torch.inference_mode():
        latent = trained({k: data.columns[k][rows] for k in ("map", "good")})[0].numpy()
    own = Population("hidden_3", latent[:, None], data.columns["halo"][rows].numpy())
    posterior = PosteriorModel(reference_populations(trained)).measure(own)
    row = table[table["simulation"] == "hidden_3"][0]
    assert row["cross_section"] == pytest.approx(posterior.median, abs=1e-5)
    ends = [row["cross_section_q16"], row["cross_section_q84"]]
    assert ends == pytest.approx(posterior.interval(0.68), abs=1e-5)
    assert (row["num_maps"], row["num_halos"]) == (30, 30)
    plain = Table.read(folder / "cross_section.csv", format="ascii.csv")
    np.testing.assert_allclose(plain["cross_section"][:-1], table["cross_section"][:-1])


def test_values_follow_the_truth_and_noise_looks_foreign(
    written: tuple[Path, SIDMDataModule],
) -> None:
    table = Table.read(written[0] / "cross_section.ecsv")
    found = {row["simulation"]: row for row in table}
    values = [found[name]["cross_section"] for name in HIDDEN]
    np.testing.assert_allclose(values, list(HIDDEN.values()), atol=0.1, rtol=0.3)
    assert found["noise"]["foreign"]
    assert np.median([found[name]["two_sample_auc"] for name in HIDDEN]) < 0.7
    assert sum(found[name]["foreign"] for name in HIDDEN) <= 1  # few maps scatter
    assert not found.keys() & KNOWN.keys()  # by which the others are measured


def test_one_halo_has_no_error_and_so_no_value(
    written: tuple[Path, SIDMDataModule],
) -> None:
    row = Table.read(written[0] / "cross_section.ecsv")[-1]
    assert (row["simulation"], row["num_maps"], row["num_halos"]) == ("maps", 3, 1)
    assert np.isnan(row["cross_section"])
    assert "maps: 3 maps of 1 halos; with one halo its error is unknown" in sentence(row)


def test_every_map_has_a_row(
    written: tuple[Path, SIDMDataModule], trained: CompactClustering
) -> None:
    folder, data = written
    table = Table.read(folder / "cross_section.maps.fits")
    assert len(table) == len(data.rows["all"])
    np.testing.assert_array_equal(table["name"], data.names(np.arange(len(table))))
    alone = data.columns["simulation"].numpy() < 0
    np.testing.assert_array_equal(table["simulation"] == "maps", alone)
    total = sum(np.asarray(table[f"probability_{k}"]) for k in range(len(KNOWN)))
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    with torch.inference_mode():
        latent = trained({k: data.columns[k][:5] for k in ("map", "good")})[0]
    np.testing.assert_allclose(table["latent_1"][:5], latent[:, 1], atol=1e-5)
    noise = table["simulation"] == "noise"
    assert np.median(table["mahalanobis"][noise]) > 3 * np.median(table["mahalanobis"][~noise])


def test_sentences_say_what_to_believe() -> None:
    inside, outside = draw("inside", 0.2, 200, 1), draw("outside", 0.2, 200, 2)
    outside.latent[..., 1] += 4.0
    table = population_table(known(400), [inside, outside])
    first, second = map(sentence, table)
    assert first.startswith("inside: sigma/m = 0.")
    assert "200 maps of 200 halos" in first
    assert "foreign" not in first
    assert second.endswith("it looks foreign, so its value means nothing")


def test_few_halos_have_no_two_sample_test() -> None:
    (row,) = population_table(known(400), [draw("few", 0.2, 5, 1)])
    assert np.isnan(row["two_sample_auc"])
    assert row["cross_section_q16"] < row["cross_section"] < row["cross_section_q84"]


def test_members_that_are_one_model_agree_with_it(trained: CompactClustering) -> None:
    alone = reference_populations(trained)
    twice = reference_populations(make_ensemble(trained, trained))
    assert [one.cross_section for one in alone] == pytest.approx(list(KNOWN.values()))
    for one, both in zip(alone, twice, strict=True):
        assert both.latent.shape[1] == 2
        np.testing.assert_array_equal(both.latent[:, 1:], one.latent)
        np.testing.assert_array_equal(both.halo, one.halo)


def test_models_without_known_maps_are_refused(stars: Any, tmp_path: Path) -> None:
    regressor = CrossSectionRegressor(image_size=SIZE, widths=[4], depths=[1], hidden_dim=8)
    with pytest.raises(ValueError, match="CrossSectionRegressor does not: use PredictionWriter"):
        reference_populations(regressor)
    trainer = stars.trainer(tmp_path, CrossSectionTable())
    with pytest.raises(ValueError, match=r"known maps of no halos.*larger data\.val_fraction"):
        trainer.predict(make_model(), make_data(tmp_path))


def test_members_of_other_splits_are_refused(trained: CompactClustering) -> None:
    ensemble = make_ensemble(trained, trained)
    ensemble.members[1].reference_halo[0, 0] += 1
    with pytest.raises(ValueError, match=r"members of the ensemble differ in reference_halo.*seed"):
        reference_populations(ensemble)


def test_known_maps_of_earlier_weights_are_refused(trained: CompactClustering) -> None:
    ensemble = make_ensemble(trained, trained)
    ensemble.members[1].reference_age += 7
    with pytest.raises(ValueError, match=r"saw them 7 training batches before.*best\.ckpt"):
        reference_populations(ensemble)


def test_a_network_without_profile_is_measured(
    stars: Any, cores: SIDMDataModule, tmp_path: Path
) -> None:
    """Also where halos have no names, so that each is numbered -1, -2, ..."""
    model = make_model(profile_rings=0)
    latent = np.stack([one.latent[:20, 0] for one in known()])
    model.known_label.copy_(torch.tensor(list(KNOWN.values())))
    model.reference_latent[:, :20] = torch.from_numpy(latent)
    model.reference_halo[:, :20] = -1 - torch.arange(20)
    stars.trainer(tmp_path, CrossSectionTable()).predict(model, cores)
    table = Table.read(tmp_path / "cross_section.ecsv")
    assert np.isfinite(table["cross_section"]).all()
