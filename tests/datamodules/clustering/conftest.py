"""Fixtures of the clustering data: a small catalogue and writers of every format."""

import gzip
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from astropy.table import Table

BIG = 4_611_686_018_427_387_905  # above 2^62, odd: no float holds it


def _load(name: str) -> ModuleType:
    """Import a helper module that lies beside the tests."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def make_stars(count: int = 12, seed: int = 0) -> Table:
    """Make a small catalogue with odd 64-bit ids, required columns and photometry."""
    rng = np.random.default_rng(seed)
    error = rng.uniform(0.05, 0.5, count)
    table = Table(
        {
            "source_id": BIG + 2 * np.arange(count, dtype=np.int64),
            "ra": rng.uniform(10.0, 11.0, count),
            "dec": rng.uniform(-41.0, -40.0, count),
            "parallax": rng.normal(1.0, 0.2, count),
            "pmra": rng.normal(3.0, 1.0, count),
            "pmdec": rng.normal(-2.0, 1.0, count),
            "parallax_error": error,
            "pmra_error": 1.03 * error,
            "pmdec_error": 0.89 * error,
            "phot_g_mean_mag": rng.uniform(13.0, 20.0, count),
            "bp_rp": rng.uniform(0.5, 2.0, count),
        }
    )
    for name, unit in (("ra", "deg"), ("dec", "deg"), ("parallax", "mas"), ("pmra", "mas / yr")):
        table[name].unit = unit
    return table


def _write_text(table: Table, path: Path) -> None:
    """Write whitespace columns below a `#` line, masked values as `nan`."""
    lines = ["# " + "\t".join(table.colnames)]
    for row in table:
        lines.append(
            "\t".join("nan" if row[n] is np.ma.masked else str(row[n]) for n in row.colnames)
        )
    path.write_text("\n".join(lines) + "\n")


def _write_parquet(table: Table, path: Path) -> None:
    """Write nullable Arrow columns."""
    arrays = {
        name: pa.array(np.asarray(column), mask=np.asarray(getattr(column, "mask", None)))
        if hasattr(column, "mask")
        else pa.array(np.asarray(column))
        for name, column in table.columns.items()
    }
    pyarrow.parquet.write_table(pa.table(arrays), path)


def write_table(table: Table, path: Path) -> Path:
    """Write a table in the format of its suffix, gzipped if it ends in `.gz`."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    writers: dict[str, Callable[[], Any]] = {
        ".fits": lambda: table.write(plain, format="fits", overwrite=True),
        ".ecsv": lambda: table.write(plain, format="ascii.ecsv", overwrite=True),
        ".csv": lambda: table.write(plain, format="ascii.csv", overwrite=True),
        ".vot": lambda: table.write(plain, format="votable", overwrite=True),
        ".parquet": lambda: _write_parquet(table, plain),
        ".txt": lambda: _write_text(table, plain),
    }
    writers[plain.suffix]()
    if path != plain:
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    return path


@pytest.fixture
def stars() -> Table:
    """A small catalogue."""
    return make_stars()


@pytest.fixture
def write() -> Callable[[Table, Path], Path]:
    """The writer of every format."""
    return write_table


@pytest.fixture
def archive() -> Iterator[Any]:
    """A TAP server on the loopback address, with 40 stars."""
    module = _load("tap_server")
    table = make_stars(40)
    catalog_columns = _load_columns()
    for name in catalog_columns:
        if name not in table.colnames:
            table[name] = np.full(40, 0.1, dtype=np.float32)
    held = module.Archive(table)
    server = module.serve(held)
    yield held
    server.shutdown()
    server.server_close()


def _load_columns() -> list[str]:
    """List the columns that Gaia's table has."""
    from datamodules.clustering.gaia_columns import OPTIONAL, REQUIRED

    return [name for name in (*REQUIRED, *OPTIONAL) if name != "source_density"]
