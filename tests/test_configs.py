"""Every shipped configuration: printed against a snapshot, then run end to end, two steps each.

`ASTROLIT_UPDATE_SNAPSHOTS=1 pytest tests/test_configs.py` writes the snapshots anew.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from astropy.table import Table

import lightning_modules
from datamodules import StarCluster, SyntheticField
from datamodules.clustering.columns import OPTIONAL, REQUIRED
from lightning_modules.cli import main
from lightning_modules.shipped_configs import config_folder, list_configs
from tests.datamodules.clustering.tap_server import Archive, serve

HERE = Path(__file__).parent
METHOD_CONFIGS = [name for name in list_configs() if not name.startswith("trainer/")]
OVERLAYS = [name for name in list_configs() if name.startswith("trainer/")]


@pytest.fixture
def stars() -> Table:
    """A small simulated field as a table with Gaia's column names."""
    cluster = StarCluster(num_stars=200, scale=0.05)
    return Table(dict(SyntheticField(300, [cluster]).table(0).columns))


@pytest.fixture
def catalog(stars: Table) -> Path:
    """The stars as a FITS file."""
    stars.write("stars.fits")
    return Path("stars.fits")


@pytest.fixture
def vasiliev_baumgardt(stars: Table) -> Path:
    """The stars in the layout of Vasiliev & Baumgardt's catalogues."""
    names = ["source_id", "ra", "dec", "parallax", "pmra", "pmdec", "parallax_error"]
    names += ["pmra_error", "pmdec_error", "pmra_pmdec_corr", "phot_g_mean_mag", "bp_rp"]
    heads = ["source_id", "ra", "dec", "plx", "pmra", "pmdec", "plxe"]
    heads += ["pmrae", "pmdece", "pmcorr", "g_mag", "bp_rp", "memberprob"]
    member = (stars["label"] > 0).astype(float)
    lines = ["\t".join([*map(repr, row), str(p)]) for row, p in zip(
        zip(*(stars[name].tolist() for name in names), strict=True), member, strict=True
    )]  # fmt: skip
    Path("stars.txt").write_text("\n".join(["# " + "\t".join(heads), *lines]) + "\n")
    return Path("stars.txt")


@pytest.fixture
def gaia(stars: Table) -> Iterator[str]:
    """Address of a loopback TAP server that holds the stars."""
    for name in (*REQUIRED, *OPTIONAL):
        if name not in stars.colnames:
            stars[name] = np.full(len(stars), 0.1, dtype=np.float32)
    archive = Archive(stars)
    server = serve(archive)
    yield archive.url
    server.shutdown()
    server.server_close()


def data_arguments(name: str, request: pytest.FixtureRequest) -> list[str]:
    """Return what points a configuration at data made by our own writers."""
    if name in ("clustering/catalog.yaml", "clustering/vasiliev_baumgardt.yaml"):
        return ["--data.source.path", str(request.getfixturevalue(Path(name).stem))]
    if name == "clustering/gaia.yaml":
        return ["--data.source.url", str(request.getfixturevalue("gaia"))]
    if name.startswith("microlensing/"):
        return []  # its tiny.yaml makes the simulated sets small
    small = "[{num_stars: 200, scale: 0.05}]"
    return ["--data.source.num_field", "300", "--data.source.clusters", small]


@pytest.mark.parametrize("name", [*METHOD_CONFIGS, *OVERLAYS])
def test_printed_config_equals_its_snapshot(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "-c", name] if name in METHOD_CONFIGS else ["fit", "-c", METHOD_CONFIGS[0]]
    words += ["-c", name] if name in OVERLAYS else []
    if "source.path" in (config_folder() / name).read_text().split("\n", 1)[0]:
        words += ["--data.source.path", "stars.fits"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--print_config"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    snapshot = HERE / "configs" / name.replace(".yaml", ".snapshot.yaml")
    if os.environ.get("ASTROLIT_UPDATE_SNAPSHOTS"):
        snapshot.parent.mkdir(exist_ok=True)
        snapshot.write_text(printed)
    assert printed == snapshot.read_text(), f"{name} prints another configuration than {snapshot}"


@pytest.mark.parametrize("name", METHOD_CONFIGS)
def test_fit_validate_test_predict(name: str, request: pytest.FixtureRequest) -> None:
    tiny = HERE / "configs" / Path(name).parent / "tiny.yaml"
    words = ["-c", name, "-c", str(tiny), *data_arguments(name, request)]
    main(["fit", *words])
    run = Path("runs") / Path(name).with_suffix("") / "version_0"
    best = run / "checkpoints" / "best.ckpt"
    assert best.is_file()
    for command in ("validate", "test", "predict"):
        main([command, *words, "--ckpt_path", str(run)])
    assert (run / "report.json").is_file()
    assert [path.name for path in Path("runs").rglob("version_*")] == ["version_0"]
    saved = torch.load(best, weights_only=True)
    kind = saved["hyper_parameters"]["_class_path"].rsplit(".", 1)[-1]
    loaded = getattr(lightning_modules, kind).load_from_checkpoint(best, weights_only=True)
    sizes = yaml.safe_load(tiny.read_text())["model"]["init_args"]
    assert {name: saved["hyper_parameters"][name] for name in sizes} == sizes
    assert type(loaded).__name__ == kind
    assert all(torch.equal(loaded.state_dict()[name], x) for name, x in saved["state_dict"].items())
