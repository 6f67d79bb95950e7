"""Every shipped configuration: printed against a snapshot, then run end to end, two steps each.

A snapshot holds `model` and `data` whole and, of the rest, what the file itself sets.
`ASTROLIT_UPDATE_SNAPSHOTS=1 pytest tests/test_configs.py` writes the snapshots anew.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from astropy.table import Table

import lightning_modules
from datamodules import SimulatedClusterMaps, StarCluster, SyntheticField
from datamodules.clustering.gaia_columns import OPTIONAL, REQUIRED
from datamodules.sidm.roles import assign_roles
from datamodules.spectra.simulate.emulator import FILES
from datamodules.spectra.simulate.spectra import Simulation, simulate_block
from lightning_modules.cli.app import main
from lightning_modules.cli.shipped_configs import config_folder, list_configs
from tests.datamodules.clustering.tap_server import Archive, serve
from tests.fixtures.apogee_files import write_survey
from tests.fixtures.cluster_maps import write_maps

HERE = Path(__file__).parent
METHOD_CONFIGS = [name for name in list_configs() if not name.startswith("trainer/")]
OVERLAYS = [name for name in list_configs() if name.startswith("trainer/")]

WRITTEN = {
    "clustering/catalog.yaml": ("--data.source.path", "catalog"),
    "clustering/gaia.yaml": ("--data.source.url", "gaia"),
    "clustering/vasiliev_baumgardt.yaml": ("--data.source.path", "vasiliev_baumgardt"),
    "clustering/vasiliev_baumgardt_idec.yaml": ("--data.source.path", "vasiliev_baumgardt"),
    "sidm/maps.yaml": ("--data.source.path", "maps"),
    "spectra/emulator.yaml": ("--data.source.emulator_path", "emulator"),
    "spectra/survey.yaml": ("--data.source.folder", "survey"),
}
"""Configuration to the option that points it at a fixture's data."""

SIZES = {
    "SyntheticField": [
        "--data.source.num_field", "300", "--data.source.clusters",
        "[{num_stars: 200, scale: 0.05}]",
    ],
    "SyntheticSpectra": ["--data.source.num_spectra", "60"],
    "SimulatedClusterMaps": [
        "--data.source.num_halos", "12", "--data.source.population_size", "4",
        "--data.source.num_pixels", "40", "--data.source.simulation_workers", "1",
    ],
    "MapFiles": ["--data.source.pixel_scale", "20"],
}  # fmt: skip
"""Sizes of simulated sets that the method's tiny.yaml does not make small."""

FEW = {"num_hidden": 6, "num_calibration": 4}
"""Populations of simulated maps, where a configuration has more."""

TINY = {
    "ClusterMixture": "tiny_mixture.yaml",
    "VaDE": "tiny_vade.yaml",
    "CrossSectionRegressor": "tiny_regressor.yaml",
}
"""Sizes of a model that needs others than those of its method."""

TABLES = {"cross_section", "membership", "predictions", "spectra"}
"""Stems of what `predict` writes."""


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
    heads += ["pmrae", "pmdece", "pmcorr", "g_mag", "bp_rp", "Sigma", "memberprob"]
    member = (stars["label"] > 0).astype(float)
    lines = ["\t".join([*map(repr, row), "2.5", str(p)]) for row, p in zip(
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


@pytest.fixture
def maps() -> Path:
    """A small file of maps of four known simulations."""
    write_maps(Path("maps.npz"), size=40)
    return Path("maps.npz")


@pytest.fixture
def survey() -> Path:
    """A small survey in the files of DR17."""
    write_survey(Path("survey"), simulate_block(Simulation(), np.arange(60), 0), "dr17")
    return Path("survey")


@pytest.fixture
def emulator() -> Path:
    """A small emulator in the files of jobovy/apogee: flux 0.9, deeper in metal-rich stars."""
    folder = Path("emulator")
    folder.mkdir()
    coefficients, baseline = np.zeros((15, 7214)), np.array([4500.0, 2.0, -0.3, 0.05])
    coefficients[0], coefficients[3] = 0.9, -0.05
    for name, values in zip(FILES, (coefficients, baseline, np.full(7214, 0.006)), strict=False):
        np.savetxt(folder / name, values)
    labels = baseline + np.random.default_rng(0).normal(size=(40, 4)) * (150, 0.4, 0.2, 0.05)
    lines = [f"star{n}.fits " + " ".join(map(str, row)) for n, row in enumerate(labels)]
    (folder / FILES[3]).write_text("\n".join(lines) + "\n")
    return folder


def data_arguments(name: str, request: pytest.FixtureRequest) -> list[str]:
    """Return what points a configuration at data made by our own writers, or makes them few."""
    option, fixture = WRITTEN.get(name, ("", ""))
    words = [option, str(request.getfixturevalue(fixture))] if fixture else []
    source = yaml.safe_load((config_folder() / name).read_text())["data"]["init_args"]["source"]
    return [*words, *SIZES.get(source["class_path"], []), *fewer_maps(source.get("init_args", {}))]


def fewer_maps(source: dict[str, Any]) -> list[str]:
    """Return what makes the maps few of simulations and populations that say their own numbers."""
    words = [f"--data.source.{name}={number}" for name, number in FEW.items() if name in source]
    if simulations := source.get("simulations"):
        few = [{**one, "num_halos": 24} for one in simulations]
        words.append(f"--data.source.simulations={json.dumps(few)}")
    return words


def keys_of(printed: Any, given: Any) -> Any:
    """Return what a configuration prints of the keys that a file sets; lists are whole."""
    if not isinstance(given, dict):
        return printed
    return {key: keys_of(printed[key], value) for key, value in given.items()}


@pytest.mark.parametrize("name", [*METHOD_CONFIGS, *OVERLAYS])
def test_printed_config_equals_its_snapshot(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "-c", name] if name in METHOD_CONFIGS else ["fit", "-c", METHOD_CONFIGS[0]]
    words += ["-c", name] if name in OVERLAYS else []
    text = (config_folder() / name).read_text()
    for option, value in re.findall(r"(--data\.source\.\w+) (\S+)", text.split("\n", 1)[0]):
        words += [option, value if value.isdigit() else "stars.fits"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--print_config"])
    assert stop.value.code == 0
    whole = yaml.safe_load(capsys.readouterr().out)
    kept = keys_of(whole, yaml.safe_load(text))
    if name in METHOD_CONFIGS:
        kept |= {"model": whole["model"], "data": whole["data"]}
    snapshot = HERE / "configs" / name.replace(".yaml", ".snapshot.yaml")
    if os.environ.get("ASTROLIT_UPDATE_SNAPSHOTS"):
        snapshot.parent.mkdir(exist_ok=True)
        text = yaml.safe_dump(kept, sort_keys=False, default_flow_style=None, width=100)
        snapshot.write_text(text)
    # As values: whether 4 is printed as 4.0 depends on which module names a union of types first.
    saved = yaml.safe_load(snapshot.read_text())
    assert kept == saved, f"{name} prints another configuration than {snapshot}"


@pytest.fixture
def _drawn_once_a_method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the figures of each method's demo alone: the others' are the same, and most of a run."""
    if not request.getfixturevalue("name").endswith("/demo.yaml"):
        monkeypatch.setattr("callbacks.report.base.save_figures", lambda *args, **kwargs: None)
        monkeypatch.setattr("callbacks.sidm.report.sidm_figures", lambda findings: {})


@pytest.mark.usefixtures("_drawn_once_a_method")
@pytest.mark.parametrize("name", METHOD_CONFIGS)
def test_fit_validate_test_predict(name: str, request: pytest.FixtureRequest) -> None:
    model = yaml.safe_load((config_folder() / name).read_text())["model"]["class_path"]
    tiny = HERE / "configs" / Path(name).parent / TINY.get(model, "tiny.yaml")
    words = ["-c", name, "-c", str(tiny), *data_arguments(name, request)]
    main(["fit", *words])
    run = Path("runs") / Path(name).with_suffix("") / "version_0"
    best = run / "checkpoints" / "best.ckpt"
    assert best.is_file()
    for command in ("validate", "test", "predict"):
        main([command, *words, "--ckpt_path", str(run)])
    assert json.loads((run / "report.json").read_text())["run_record"]["stop_reason"]
    assert any(path.stem in TABLES for path in run.iterdir()), "predict wrote no table"
    assert (run / "figures").is_dir() == name.endswith("/demo.yaml")
    assert [path.name for path in Path("runs").rglob("version_*")] == ["version_0"]
    saved = torch.load(best, weights_only=True)
    kind = saved["hyper_parameters"]["_class_path"].rsplit(".", 1)[-1]
    loaded = getattr(lightning_modules, kind).load_from_checkpoint(best, weights_only=True)
    sizes = yaml.safe_load(tiny.read_text())["model"]["init_args"]
    assert {name: saved["hyper_parameters"][name] for name in sizes} == sizes
    assert type(loaded).__name__ == kind
    weights = dict(saved["state_dict"])
    torch.testing.assert_close(loaded.state_dict(), weights, rtol=0, atol=0, equal_nan=True)


def test_idec_stands_beside_the_mixture_of_compare(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The three commands of docs/clustering.md, first as they are, then with few stars."""
    monkeypatch.setattr("callbacks.report.base.save_figures", lambda *args, **kwargs: None)
    text = (HERE.parent / "docs" / "clustering.md").read_text()
    lines = [line.split("#")[0].split() for line in text.splitlines() if "compare.yaml" in line]
    commands = [line[1:] for line in lines if line[:1] == ["astrolit"]]
    assert [command[0] for command in commands] == ["fit", "fit", "test"]
    sources = []
    for command in commands[:2]:
        with pytest.raises(SystemExit, match="0"):
            main([*command, "--print_config"])
        sources.append(yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["source"])
    assert sources[0] == sources[1]
    assert [cluster["num_stars"] for cluster in sources[0]["init_args"]["clusters"]] == [
        2000,
        800,
        400,
    ]
    sizes = HERE / "configs" / "clustering"
    for command in commands:
        deep = "clustering/idec.yaml" in command
        tiny = ["-c", str(sizes / ("tiny_vade.yaml" if deep else "tiny_mixture.yaml"))]
        columns = ["--model.num_clusters", "2"] if deep else []
        main([*command, *tiny, "-c", str(sizes / "few_stars.yaml"), *columns])
    report = json.loads(Path("runs/clustering/compare/version_0/report.json").read_text())
    assert report["num_objects"] == 300
    assert -1 < report["baseline/idec/ari/split=held_out"] <= 1


def test_the_regressor_stands_beside_the_demo(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The commands of the two headers, on the same data, with few maps."""
    monkeypatch.setattr("callbacks.report.base.save_figures", lambda *args, **kwargs: None)
    monkeypatch.setattr("callbacks.sidm.report.sidm_figures", lambda findings: {})
    texts = [(config_folder() / f"sidm/{name}.yaml").read_text() for name in ("demo", "regression")]
    demo, regression = map(yaml.safe_load, texts)
    assert regression["data"] == demo["data"]
    assert regression["trainer"]["max_epochs"] == demo["trainer"]["max_epochs"]
    command = texts[1].splitlines()[1].removeprefix("# ").split()
    assert command[0] == "test"
    sizes = HERE / "configs" / "sidm"
    tiny, regressor = (["-c", str(sizes / f"{n}.yaml")] for n in ("tiny", "tiny_regressor"))
    few = [*data_arguments("sidm/demo.yaml", request), "--data.val_fraction", "0.3"]
    main(["fit", "-c", "sidm/demo.yaml", *tiny, *few])
    main(["fit", "-c", "sidm/regression.yaml", *regressor, *few])
    main([*command, *tiny, *few])
    report = json.loads(Path("runs/sidm/demo/version_0/report.json").read_text())
    for key in (
        "cross_section/simulation=hidden_000",
        "median_error",
        "map_median/simulation=noise",
    ):
        assert {f"model/{key}", f"model_regression/{key}"} <= report.keys()


@pytest.mark.parametrize("name", ["demo", "reduced", "full", "paper", "unlabelled", "foreign"])
def test_classes_are_those_of_the_simulations(name: str) -> None:
    """Of each configuration, and of each step of the cumulative study."""
    config = yaml.safe_load((config_folder() / f"sidm/{name}.yaml").read_text())
    source = SimulatedClusterMaps(**config["data"]["init_args"]["source"]["init_args"])
    values = {one.name: one.cross_section for one in source.all_simulations(0)}
    data, model = config["data"]["init_args"], config["model"].get("init_args", {})
    points = [(data, model)]
    if name == "foreign":
        space = yaml.safe_load((config_folder() / "sidm/space_cumulative.yaml").read_text())
        for step in space["space"]["steps"].values():
            lists = {option[5:]: x for option, x in step.items() if option.startswith("data.")}
            points.append((data | lists, model | {"num_classes": step["model.num_classes"]}))
    for data, model in points:
        lists = {role: data.get(role, []) for role in ("known", "hidden", "calibration", "foreign")}
        roles = assign_roles(lists, list(values), name)
        known = {values[one] for one, role in roles.items() if role == "known"}
        own = data.get("train_on_hidden", True) and model.get("hidden", "class") == "class"
        hidden = list(roles.values()).count("hidden") if own else 0
        assert model.get("num_classes", 4) == len(known) + hidden
