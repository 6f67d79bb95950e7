"""Every shipped configuration: printed against a snapshot, then run end to end, two steps each.

`ASTROLIT_UPDATE_SNAPSHOTS=1 pytest tests/test_configs.py` writes the snapshots anew.
"""

import os
from pathlib import Path

import pytest
import torch

from lightning_modules import BaseModule
from lightning_modules.cli import main
from lightning_modules.shipped_configs import config_folder, list_configs

HERE = Path(__file__).parent
METHOD_CONFIGS = [name for name in list_configs() if not name.startswith("trainer/")]
OVERLAYS = [name for name in list_configs() if name.startswith("trainer/")]


def data_arguments(name: str, request: pytest.FixtureRequest) -> list[str]:
    """Return what points a configuration at data made by our own writers."""
    if name in ("clustering/catalog.yaml", "clustering/vasiliev_baumgardt.yaml"):
        return ["--data.source.path", str(request.getfixturevalue(Path(name).stem))]
    if name == "clustering/gaia.yaml":
        return ["--data.source.url", str(request.getfixturevalue("tap_url"))]
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
    loaded = BaseModule.load_from_checkpoint(best) if "_class_path" in saved else None
    assert saved["hyper_parameters"]["latent_dim"] == 2
    assert loaded is None or not loaded.training
