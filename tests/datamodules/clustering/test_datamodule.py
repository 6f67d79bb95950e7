"""The clustering datamodule: its batch, its frame, its statistics, its provenance."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.table import Table
from lightning.pytorch import LightningModule, Trainer

from datamodules import CatalogFile, ClusteringDataModule, GaiaArchive, StarCluster, SyntheticField
from datamodules.files import fingerprint
from lightning_modules.physics.covariance import covariance_matrix
from lightning_modules.physics.frames import frame_jacobian, tangent_plane

Write = Callable[[Table, Path], Path]
SMALL = SyntheticField(400, [StarCluster(num_stars=200)])


def ready(source: Any = SMALL, **settings: Any) -> ClusteringDataModule:
    """Prepare and set up a datamodule."""
    data = ClusteringDataModule(source, **settings)
    data.prepare_data()
    data.setup()
    return data


def test_batches_have_the_documented_shapes_and_types() -> None:
    data = ready(
        features=["x", "y", "parallax", "pmra", "pmdec", "magnitude", "colour"], batch_size=300
    )
    batch = next(iter(data.test_dataloader()))
    expected = {
        "index": ((300,), torch.int64),
        "features": ((300, 7), torch.float32),
        "covariance": ((300, 5, 5), torch.float32),
        "magnitude": ((300,), torch.float32),
        "colour": ((300,), torch.float32),
        "good": ((300, 7), torch.bool),
        "label": ((300,), torch.int64),
        "split": ((300,), torch.int64),
    }
    assert {k: (tuple(v.shape), v.dtype) for k, v in batch.items()} == expected
    assert data.sample_shapes["covariance"] == (5, 5)
    torch.testing.assert_close(batch["features"][:, 5], batch["magnitude"])


def test_labels_never_enter_training_or_prediction() -> None:
    data = ready()
    for loader in (data.train_dataloader(), data.predict_dataloader()):
        assert not {"label", "split"} & set(next(iter(loader)))
    assert "label" in next(iter(data.val_dataloader()))


def test_features_are_the_stored_values_in_the_frame() -> None:
    data = ready(centre=[245.9, -26.5], zero_point=False)
    stored = data.store.read()
    centre = np.array([245.9, -26.5])
    x, y = tangent_plane(stored["ra"], stored["dec"], centre)
    features = data.columns["features"].numpy()
    np.testing.assert_allclose(features[:, 0], x, atol=1e-7)
    np.testing.assert_allclose(features[:, 1], y, atol=1e-7)
    np.testing.assert_array_equal(features[:, 2], stored["parallax"])
    jacobian = frame_jacobian(stored["ra"], stored["dec"], centre)
    motion = np.einsum("nij,nj->ni", jacobian, np.stack([stored["pmra"], stored["pmdec"]], 1))
    np.testing.assert_allclose(features[:, 3:], motion, rtol=1e-5, atol=1e-5)


def test_covariance_has_the_units_of_the_features() -> None:
    data = ready()
    expected = covariance_matrix(data.store.read())
    got = data.columns["covariance"].double().numpy()
    np.testing.assert_allclose(got[:, 2, 2], expected[:, 2, 2], rtol=1e-5)
    trace = np.trace(got[:, :2, :2], axis1=1, axis2=2) * 3.6e6**2
    np.testing.assert_allclose(trace, np.trace(expected[:, :2, :2], axis1=1, axis2=2), rtol=1e-3)
    scale = np.sqrt(np.diagonal(got, axis1=1, axis2=2))
    assert (np.linalg.eigvalsh(got / scale[:, :, None] / scale[:, None, :]) > 0).all()


def test_density_inflates_the_core_more() -> None:
    plain, dense = ready(), ready(density_slope=0.1)
    ratio = dense.columns["covariance"][:, 2, 2] / plain.columns["covariance"][:, 2, 2]
    radius = np.hypot(*plain.columns["features"][:, :2].T.numpy())
    assert (ratio >= 1).all()
    assert ratio[radius < 0.03].mean() > ratio[radius > 0.3].mean()


def test_a_catalogues_own_density_inflates_its_errors(write: Write, tmp_path: Path) -> None:
    stars = Table(dict(SMALL.table(0).columns))
    stars["Sigma"] = np.where(np.arange(len(stars)) < 100, 90.0, 0.0)
    path = str(write(stars, tmp_path / "s.fits"))
    source = CatalogFile(path, column_map={"source_density": "Sigma"})
    plain, dense = ready(source), ready(source, density_slope=0.04)
    ratio = (dense.columns["covariance"] / plain.columns["covariance"])[:, 2, 2]
    torch.testing.assert_close(ratio[:100], torch.full((100,), 10**0.08))
    assert (ratio[100:] == 1).all()


def test_zero_point_is_subtracted_where_known(shared_data: Path) -> None:
    path = str(shared_data / "clustering" / "gaiadr3_ra45_dec0_r0.5_allcols.parquet")
    corrected = ready(CatalogFile(path, missing="drop"))
    plain = ready(CatalogFile(path, missing="drop"), zero_point=False)
    shift = corrected.columns["features"][:, 2] - plain.columns["features"][:, 2]
    assert shift.mean().item() == pytest.approx(0.017, abs=0.004)
    assert "Lindegren et al. 2021 for 2014 of 2015 stars" in corrected.provenance()["zero_point"]
    assert "false" in plain.provenance()["zero_point"]
    assert "are needed" in ready().provenance()["zero_point"]


def test_cuts_are_applied_counted_and_rows_keep_their_number() -> None:
    data = ready(cuts={"phot_g_mean_mag": {"max": 19.0}})
    magnitude = data.store.read(["phot_g_mean_mag"])["phot_g_mean_mag"]
    np.testing.assert_array_equal(data.columns["index"], np.flatnonzero(magnitude <= 19.0))
    provenance = data.provenance()
    assert provenance["cuts"][0]["removed"] == int((magnitude > 19.0).sum())
    assert provenance["num_stars"] == {"prepared": 600, "kept": int((magnitude <= 19.0).sum())}
    np.testing.assert_array_equal(
        data.names(data.columns["index"]),
        data.store.read(["source_id"])["source_id"][magnitude <= 19],
    )
    with pytest.raises(ValueError, match=r"no column 'ruwe' for data\.cuts"):
        ready(cuts={"ruwe": {"max": 1.4}})


def test_statistics_are_those_of_the_training_split() -> None:
    data = ready()
    train = data.columns["features"][data.rows["train"]].double().numpy()
    statistics = data.training_statistics()
    median = np.sort(train, axis=0)[(len(train) - 1) // 2]
    np.testing.assert_allclose(statistics["location"], median, rtol=1e-5)
    spread = np.sort(np.abs(train - median), axis=0)[(len(train) - 1) // 2]
    np.testing.assert_allclose(statistics["scale"], 1.4826 * spread, rtol=1e-4)
    assert statistics["centre"].dtype == torch.float64
    data.columns["features"][data.rows["test"]] += 1e3
    torch.testing.assert_close(data.training_statistics(), statistics)


def test_scale_is_never_zero(stars: Table, write: Write, tmp_path: Path) -> None:
    stars["parallax"] = 1.0
    stars["pmra"] = np.where(np.arange(12) < 1, 5.0, 3.0)
    path = str(write(stars, tmp_path / "s.fits"))
    data = ready(CatalogFile(path), test_fraction=0.0, val_fraction=0.0)
    scale = data.training_statistics()["scale"]
    assert scale[2] == 1.0
    assert (scale > 0).all()


def test_absent_feature_is_nan_not_good_and_refused_for_training(
    stars: Table, write: Write, tmp_path: Path
) -> None:
    del stars["bp_rp"]
    path = str(write(stars, tmp_path / "s.fits"))
    data = ready(CatalogFile(path), features=["x", "colour"], test_fraction=0.0)
    assert data.columns["features"][:, 1].isnan().all()
    assert not data.columns["good"][:, 1].any()
    assert data.columns["good"][:, 0].all()
    with pytest.raises(ValueError, match=r"features \['colour'\] are absent"):
        data.training_statistics()


def test_centre_travels_with_the_checkpoint() -> None:
    trained = ready()
    other = SyntheticField(300, [StarCluster(num_stars=100, offset=(0.2, 0.2))], radius=0.6)
    state = trained.state_dict()
    fresh = ready(other)
    own = fresh.centre
    assert not np.array_equal(own, trained.centre)
    fresh.load_state_dict(state)
    np.testing.assert_array_equal(fresh.centre, trained.centre)
    x, _ = tangent_plane(*(fresh.store.read()[n] for n in ("ra", "dec")), trained.centre)
    np.testing.assert_allclose(fresh.columns["features"][:, 0], x, atol=1e-6)
    early = ClusteringDataModule(other)
    early.load_state_dict(state)
    early.prepare_data()
    early.setup()
    np.testing.assert_array_equal(early.centre, trained.centre)
    given = ready(other, centre=[245.0, -26.0])
    given.load_state_dict(state)
    np.testing.assert_array_equal(given.centre, [245.0, -26.0])
    assert ClusteringDataModule(other).state_dict() == {}


class Mean(LightningModule):
    """A module of one parameter, to run a Trainer."""

    def __init__(self) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.zeros(5))

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        return (batch["features"] - self.value).square().mean()

    def predict_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        return batch["features"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-3)


def test_new_stars_are_predicted_in_the_frame_of_the_checkpoint(tmp_path: Path) -> None:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu"}
    quiet |= {"enable_model_summary": False, "enable_checkpointing": False, "limit_val_batches": 0}
    trained = ClusteringDataModule(SMALL)
    trainer = Trainer(max_epochs=1, **quiet)
    trainer.fit(Mean(), trained)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    fresh = ClusteringDataModule(SyntheticField(90, [StarCluster(num_stars=50, offset=(0.2, 0.1))]))
    predicted = Trainer(**quiet).predict(Mean(), fresh, ckpt_path=str(tmp_path / "last.ckpt"))
    stored = fresh.store.read(["ra", "dec"])
    x, _ = tangent_plane(stored["ra"], stored["dec"], trained.centre)
    found = torch.cat([part[:, 0] for part in predicted]).numpy()
    np.testing.assert_allclose(found, x, atol=1e-6)


def test_catalogue_has_names_units_and_exact_ids() -> None:
    data = ready()
    index = data.columns["index"][[5, 3, 500]]
    table = data.catalogue(index)
    np.testing.assert_array_equal(table["source_id"], data.names(index))
    assert table.colnames[0] == "source_id"
    assert str(table["pmra"].unit) == "mas / yr"
    assert str(table["ra"].unit) == "deg"
    assert table["pmra_pmdec_corr"].unit is None or str(table["pmra_pmdec_corr"].unit) == ""
    assert "true_parallax" in table.colnames


def test_provenance_is_plain_and_tells_defaults(stars: Table, write: Write, tmp_path: Path) -> None:
    import json

    path = str(write(stars, tmp_path / "s.csv"))
    provenance = ready(CatalogFile(path), test_fraction=0.0).provenance()
    again = json.loads(json.dumps(provenance))
    assert again["origin"] == [path]
    assert "ra_error: 0.8 x parallax_error" in again["defaults"]
    assert again["parameters"]["path"] == [fingerprint(Path(path))]


def test_what_was_done_is_printed(
    stars: Table, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("datamodules.clustering.datamodule.rank_zero_info", said.append)
    path = str(write(stars, tmp_path / "s.csv"))
    faint = int((stars["phot_g_mean_mag"] > 18).sum())
    ready(CatalogFile(path), cuts={"phot_g_mean_mag": {"max": 18}}, test_fraction=0.0)
    text = "\n".join(said)
    assert f"{12 - faint} of 12 stars from" in text
    assert f"cut phot_g_mean_mag (max 18): {faint} fail" in text
    assert "default: ra_error: 0.8 x parallax_error" in text
    assert "parallax zero point: not corrected" in text


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"features": ["x", "parralax"]}, "data.features"),
        ({"features": ["x", "x"]}, "data.features"),
        ({"centre": [10.0]}, "data.centre"),
        ({"centre": [10.0, 95.0]}, "data.centre"),
        ({"density_slope": -0.1}, "data.density_slope"),
        ({"cuts": {"ruwe": {"maximum": 1.4}}}, "data.cuts.ruwe"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        ClusteringDataModule(SMALL, **settings)


def test_sources_and_clusters_can_be_written_in_yaml() -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ClusteringDataModule, "data")
    text = """
    data:
      cuts: {phot_g_mean_mag: {max: 20}}
      source:
        class_path: datamodules.SyntheticField
        init_args:
          num_field: 50
          centre: [10, 20]
          clusters:
          - {num_stars: 30, profile: king, offset: [0.1, 0.0]}
          - {num_stars: 20, parallax: 2}
    """
    source = parser.instantiate_classes(parser.parse_string(text))["data"].source
    assert [cluster.num_stars for cluster in source.clusters] == [30, 20]
    assert source.clusters[0].profile == "king"
    assert len(source.table(0)) == 100


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        (CatalogFile, {"path": ["a.fits", "b.fits"], "column_map": {"parallax": "plx"}}),
        (CatalogFile, {"path": "a.fits", "missing": "drop"}),
        (GaiaArchive, {"ra": 10, "dec": 2, "radius": 1, "magnitude_limit": 19}),
    ],
)
def test_file_and_archive_can_be_written_in_yaml(source: type, arguments: dict[str, Any]) -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ClusteringDataModule, "data")
    entry = {"class_path": f"datamodules.{source.__name__}", "init_args": arguments}
    parsed = parser.parse_object({"data": {"source": entry}})
    assert isinstance(parser.instantiate_classes(parsed)["data"].source, source)


def test_real_globular_cluster(shared_data: Path) -> None:
    path = str(shared_data / "clustering" / "vb21" / "NGC_5053.txt.gz")
    names = {"parallax": "plx", "parallax_error": "plxe", "pmra_error": "pmrae"}
    names |= {"pmdec_error": "pmdece", "pmra_pmdec_corr": "pmcorr", "phot_g_mean_mag": "g_mag"}
    data = ready(CatalogFile(path, names, label_column="memberprob", extra_columns=["x", "y"]))
    assert len(data.columns["index"]) == 3245
    assert data.centre == pytest.approx([199.11, 17.70], abs=0.02)
    member = data.columns["label"] == 1
    mean = data.columns["features"][member, 3:].median(dim=0).values
    assert mean.numpy() == pytest.approx([-0.33, -1.21], abs=0.05)  # V&B's mean motion


def test_stars_of_a_position_alone_are_kept_unknown(write: Write, tmp_path: Path) -> None:
    stars = Table(dict(SMALL.table(0).columns))
    for name in stars.colnames:
        if name.startswith(("parallax", "pm")) or name.endswith("parallax_corr"):
            stars[name][:30] = np.nan
    stars["pmdec_error"][30:40] = np.nan  # half of a proper motion is none
    whole = ready(CatalogFile(str(write(stars, tmp_path / "s.fits")), missing="drop"))
    kept = ready(CatalogFile(str(tmp_path / "s.fits"), missing="keep"))
    assert (whole.record["num_stars"]["kept"], kept.record["num_stars"]["kept"]) == (560, 600)
    assert kept.record["without_motion"] == 40
    features, covariance = kept.columns["features"], kept.columns["covariance"]
    assert features[:30].isnan().sum(0).tolist() == [0, 0, 30, 30, 30]
    assert features[30:40].isnan().sum(0).tolist() == [0, 0, 0, 10, 10]
    assert torch.equal(kept.columns["good"], features.isfinite())
    unknown = features.isnan()
    assert torch.equal(covariance.isnan(), unknown[:, :, None] | unknown[:, None, :])
    assert kept.training_statistics()["location"].isfinite().all()


def test_two_parameter_solutions_of_gaia_are_kept(shared_data: Path) -> None:
    path = str(shared_data / "clustering" / "gaiadr3_ra45_dec0_r0.5_allcols.parquet")
    data = ready(CatalogFile(path, missing="keep"))
    bare = data.columns["features"][:, 2].isnan()
    solved = data.store.read(["astrometric_params_solved"])["astrometric_params_solved"]
    assert (len(bare), int(bare.sum())) == (2390, 375)
    np.testing.assert_array_equal(bare.numpy(), solved == 3)
    assert data.columns["covariance"][bare][:, :2, :2].isfinite().all()
    assert not any("parallax_pmra_corr" in line for line in data.record["defaults"])


def test_a_star_without_a_position_is_no_star(write: Write, tmp_path: Path) -> None:
    stars = Table(dict(SMALL.table(0).columns))
    stars["ra"][:3] = np.nan
    for one, other in (("parallax", "pmra"), ("parallax", "pmdec"), ("pmra", "pmdec")):
        stars[f"{one}_{other}_corr"][3:5] = -0.9  # no three can all oppose each other
    path = str(write(stars, tmp_path / "s.fits"))
    with pytest.raises(ValueError, match="no value of ra in 3 of 600 rows"):
        CatalogFile(path).table()
    kept = CatalogFile(path, missing="keep").table()
    assert len(kept.columns["ra"]) == 595
    reasons = "no value of ra", "correlations are not positive definite"
    counted = {f"{path}: {text}": n for text, n in zip(reasons, (3, 2), strict=True)}
    assert kept.attributes["dropped"] == counted
    stars.remove_rows(slice(0, 3))
    with pytest.raises(ValueError, match="not positive definite in 2 of 597 rows"):
        CatalogFile(str(write(stars, tmp_path / "t.fits"))).table()
