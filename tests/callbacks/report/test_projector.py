from pathlib import Path
from typing import Any

import numpy as np
import pytest

from callbacks.report.projector import EmbeddingProjector


def test_embedding_and_metadata_are_written(stars: Any, tmp_path: Path) -> None:
    callback = EmbeddingProjector(max_objects=100)
    stars.trainer(tmp_path, callback, tensorboard=True).test(
        stars.module(), stars.data(), verbose=False
    )
    assert 'tensor_path: "' in (tmp_path / "projector_config.pbtxt").read_text()
    (metadata,) = tmp_path.glob("**/metadata.tsv")
    lines = metadata.read_text().splitlines()
    assert lines[0].split("\t") == ["name", "assignment", "index", "label", "split"]
    assert len(lines) == 101
    vectors = np.loadtxt(metadata.with_name("tensors.tsv"))
    assert vectors.shape == (100, 8)
    name, _, index, *_ = lines[1].split("\t")
    assert int(name) == 6_000_000_000_000_000_001 + int(index)


def test_without_tensorboard_it_says_so(
    stars: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stars.trainer(tmp_path, EmbeddingProjector()).test(stars.module(), stars.data(), verbose=False)
    assert "no TensorBoard logger" in capsys.readouterr().out


def test_module_without_the_key_is_refused(stars: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no 'codes'"):
        stars.trainer(tmp_path, EmbeddingProjector("codes")).test(stars.module(), stars.data())
