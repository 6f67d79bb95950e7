"""The reference's pickles, in every form, give the same maps; what is wrong is one sentence."""

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules import PickledMaps, SIDMDataModule
from datamodules.store import RowStore

COUNT = 8
RNG = np.random.default_rng(0)
MAPS = RNG.uniform(1e7, 1e9, (COUNT, 3, 5, 5))
NORMS = MAPS.max(axis=(2, 3))
IMAGES = MAPS / NORMS[:, :, None, None]
MASS = RNG.uniform(14, 15, COUNT)
LABELS = {
    "label": 0.1,
    "name": "BAHAMAS",
    "norms": NORMS,
    "mass": MASS,
    "redshift": np.repeat([0.0, 0.125], 4),
    "projection": [0, 1] * 4,
    "cluster": np.arange(COUNT) // 4,
    "props": {"BCG_e1": list(np.arange(COUNT) / 10), "galaxy_catalogues": None},
}
FOUR_IMAGES, FOUR_NORMS = np.insert(IMAGES, 1, -1.0, axis=1), np.insert(NORMS, 1, 7.0, axis=1)
"""The second of four channels is left out, with its norms."""

CHANNELS = ["total", "xray", "stars"]


def write(name: str, content: Any, protocol: int = 4) -> None:
    path = Path("maps", name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))


def read(**settings: Any) -> dict[str, np.ndarray]:
    settings = {"channels": CHANNELS, **settings}
    PickledMaps("maps", **settings).prepare(Path("store.h5"), 0)
    return RowStore("store.h5", "astrolit.sidm", 1).read()


def refused(message: str, content: Any, **settings: Any) -> None:
    write("a.pkl", content)
    with pytest.raises(ValueError, match=message) as error:
        read(**settings)
    assert str(error.value).startswith("maps/a.pkl: ")
    assert "\n" not in str(error.value)


def one_a_map(labels: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the labels as one dict a map; some lack a key."""
    rows = []
    for k in range(COUNT):
        props = {"BCG_e1": labels["props"]["BCG_e1"][k]}
        single = {
            n: v if isinstance(v, float | str) else v[k] for n, v in labels.items() if n != "props"
        }
        rows.append({**single, "props": props})
    return rows


@pytest.mark.parametrize(
    "content",
    [
        (LABELS, IMAGES),
        [IMAGES, LABELS],
        (one_a_map(LABELS), IMAGES),
        (list(IMAGES), LABELS),
        ({**LABELS, "norms": None}, MAPS),
        ({**LABELS, "norms": [None] * COUNT}, MAPS),
        ({**LABELS, "norms": FOUR_NORMS}, FOUR_IMAGES),
    ],
    ids=["dict", "images first", "dicts", "list", "raw", "no norms", "four channels"],
)
def test_every_form_gives_the_maps(content: Any) -> None:
    write("bahamas_0.1.pkl", content)
    found = read(halo_key="cluster")
    np.testing.assert_allclose(found["map"], MAPS, rtol=1e-6)
    assert found["good"].all()
    assert set(found["simulation"]) == {"bahamas_0.1"}
    assert found["name"].tolist() == [f"bahamas_0.1_{k}" for k in range(COUNT)]
    np.testing.assert_array_equal(found["cross_section"], np.full(COUNT, 0.1, np.float32))
    np.testing.assert_allclose(found["log_mass"], MASS, rtol=1e-6)
    assert found["redshift"].tolist() == [0.0] * 4 + [0.125] * 4
    assert found["projection"].tolist() == [0, 1] * 4
    assert found["halo"].tolist() == [0] * 4 + [1] * 4
    np.testing.assert_allclose(found["bcg_e1"], np.arange(COUNT) / 10, rtol=1e-6)
    assert np.isnan(found["stellar_fraction"]).all()


def test_channels_are_chosen_by_name() -> None:
    write("a.pkl", (LABELS, IMAGES))
    found = read(channels=["stars", "total"])
    np.testing.assert_allclose(found["map"], MAPS[:, [2, 0]], rtol=1e-6)
    write("a.pkl", ({**LABELS, "norms": NORMS[:, 0]}, IMAGES[:, 0]))
    np.testing.assert_allclose(read(channels=["total"])["map"][:, 0], MAPS[:, 0], rtol=1e-6)
    refused(r"it has the channels \['total'\]; set", ({**LABELS, "norms": None}, IMAGES[:, 0]))


def test_many_simulations_and_what_is_missing() -> None:
    few = {"label": 0, "sim": "cdm low"}
    write("a.pkl", (few, MAPS))
    write("b.pickle", ({"label": None}, MAPS[:3]))
    Path("maps/README.md").write_text("not a pickle")
    found = read()
    assert found["simulation"].tolist() == ["cdm low"] * COUNT + ["b"] * 3
    assert found["cross_section"][:COUNT].tolist() == [0.0] * COUNT
    assert np.isnan(found["cross_section"][COUNT:]).all()
    assert len(set(found["halo"])) == COUNT + 3
    attributes = RowStore("store.h5").attributes
    assert attributes["pixel_scale"] == 20.0
    assert "maps without a halo id" in attributes["defaults"][0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (IMAGES, "not a pair of labels"),
        ((LABELS, IMAGES, IMAGES), "not a pair of labels"),
        ((IMAGES, IMAGES), "not a pair of labels"),
        ((LABELS, {"x": 1}), "its images are no array"),
        ((LABELS, [*IMAGES[:2], IMAGES[0, 0]]), "list of arrays of one shape"),
        ((LABELS, [IMAGES[0]] * 10_000), "list of arrays of one shape"),
        ((LABELS, IMAGES[0, 0]), r"images have the shape \(5, 5\)"),
        ((LABELS, np.zeros((8, 5, 4, 4))), r"images have the shape \(8, 5, 4, 4\)"),
        ((LABELS, IMAGES[:5]), r"mass has 8 values for 5 maps"),
        (({**LABELS, "norms": NORMS[:, :2]}, IMAGES), r"16 norms for images of \(8, 3\)"),
        (({**LABELS, "norms": ["x"] * 24}, IMAGES), "norms are not numbers"),
        (({**LABELS, "mass": ["x"] * COUNT}, IMAGES), "mass is not numeric"),
        (({**LABELS, "mass": {1: 2}}, IMAGES), "mass is neither a value, an array nor a list"),
        (({**LABELS, "norms": None}, IMAGES.astype(complex)), "refused, .*dtype 'c16'"),
        (({**LABELS, "name": print}, IMAGES), r"refused, .*names builtins\.print"),
    ],
)
def test_wrong_content_is_refused(content: Any, message: str) -> None:
    refused(message, content)


def test_references_do_not_multiply_memory() -> None:
    """The labels are as large as the file, and would be 60 times so if each map had its own."""
    shared = {str(key): key for key in range(5_000)} | {"label": 0.1}
    write("a.pkl", ([shared] * COUNT * 40, np.repeat(MAPS, 40, axis=0)))
    tracemalloc.start()
    found = read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["cross_section"].tolist() == [np.float32(0.1)] * COUNT * 40
    assert peak < 8 * Path("maps/a.pkl").stat().st_size
    refused("320 labels for 8 images", ([shared] * COUNT * 40, MAPS))
    labels = [{"norms": [list(range(9))] * 3}] * COUNT
    refused(r"0 norms for images of \(8, 3\)", (labels, IMAGES))
    refused("sim is longer than 200", ({"label": 0.1, "sim": "x" * 201}, MAPS))


def test_a_wrong_halo_key_is_refused() -> None:
    refused(r"no key 'halo' in its labels; .*halo_key", (LABELS, IMAGES), halo_key="halo")
    with pytest.raises(FileNotFoundError, match=r"none: no file \.pkl or"):
        PickledMaps("none").parameters()


def test_pickles_reach_the_batch() -> None:
    write("cdm.pkl", ({**LABELS, "label": 0.0}, IMAGES))
    write("sidm.pkl", ({**LABELS, "label": 1.0}, IMAGES))
    source = PickledMaps("maps", halo_key="cluster")
    data = SIDMDataModule(source, ["cdm", "sidm"], val_fraction=0.0, test_fraction=0.0)
    data.prepare_data()
    data.setup("fit")
    (batch,) = data.train_dataloader()
    assert batch["map"].shape == (16, 1, 5, 5)
    assert batch["label"].tolist() == batch["simulation"].tolist()
    assert set(data.groups(batch["index"])) == {0, 1}  # twins share a halo
