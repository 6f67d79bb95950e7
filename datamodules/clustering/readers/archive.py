"""The Gaia archive as a source of stars: a cone search through TAP, counted and checked."""

import time
import warnings
from typing import Any, Literal

from astropy.table import Table

from datamodules.clustering.gaia_columns import OPTIONAL, REQUIRED, StarTable
from datamodules.clustering.readers.globulars import find_globular
from datamodules.clustering.readers.validation import Reading, standardise
from datamodules.clustering.source import ClusteringSource

ESAC = "https://gea.esac.esa.int/tap-server/tap"
COLUMNS = ", ".join(name for name in (*REQUIRED, *OPTIONAL) if name != "source_density")
"""What is fetched: all but the density on the sky, which Gaia's table does not have."""


class GaiaArchive(ClusteringSource):
    """Stars of the Gaia archive within a cone (needs `pip install astrolit[archive]`).

    The rows are counted first (`SELECT COUNT(*)`), then fetched by an asynchronous job, and the
    counts compared, so that no row limit of the server goes unnoticed. The result is stored with
    the text of its query; the archive is not asked again until a setting changes.

    Args:
        ra: Right ascension of the cone's centre in degrees.
        dec: Declination of the cone's centre in degrees.
        radius: Of the cone in degrees; by default that of the cluster named.
        name: A globular cluster, such as `NGC 6121`, `M 4` or `47 Tuc`, in place of `ra` and `dec`;
            centre and radius come from a table of published positions, without network.
        table: Table to search; it must have the columns of `gaia_source`.
        magnitude_limit: Faintest G.
        missing: `drop` asks for stars with parallax and proper motions alone; `keep` for all, with
            NaN where Gaia has a position alone.
        condition: Further ADQL condition, for example `ruwe < 1.4`.
        url: TAP service.
        timeout: Seconds to wait for each job.
    """

    def __init__(
        self,
        ra: float | None = None,
        dec: float | None = None,
        radius: float | None = None,
        name: str | None = None,
        table: str = "gaiadr3.gaia_source",
        magnitude_limit: float | None = None,
        missing: Literal["drop", "keep"] = "drop",
        condition: str | None = None,
        url: str = ESAC,
        timeout: float = 3600.0,
    ) -> None:
        self.ra, self.dec, self.radius = _cone(ra, dec, radius, name)
        self.table_name = table
        self.magnitude_limit = magnitude_limit
        self.missing = missing
        self.condition = condition
        self.url = url
        self.timeout = timeout

    def parameters(self) -> dict[str, Any]:
        """Return the query and the address, which determine the stars."""
        return {"url": self.url, "query": self.query(COLUMNS)}

    def query(self, selection: str) -> str:
        """Write the ADQL query for a selection of columns."""
        conditions = [
            f"1 = CONTAINS(POINT('ICRS', ra, dec), "
            f"CIRCLE('ICRS', {self.ra!r}, {self.dec!r}, {self.radius!r}))",
        ]
        if self.missing == "drop":
            conditions.append("parallax IS NOT NULL")
        if self.magnitude_limit is not None:
            conditions.append(f"phot_g_mean_mag <= {self.magnitude_limit!r}")
        if self.condition is not None:
            conditions.append(f"({self.condition})")
        return f"SELECT {selection} FROM {self.table_name} WHERE {' AND '.join(conditions)}"

    def table(self, seed: int = 0) -> StarTable:
        """Ask the archive; `seed` has no effect.

        Raises:
            ValueError: The archive cannot be reached, refuses the query, or returns fewer or more
                rows than it counted.
        """
        counted = self._run(self.query("COUNT(*) AS number"), maxrec=1)
        number = int(next(iter(counted.columns.values()))[0])
        if number == 0:
            raise ValueError(
                f"{self.url}: no star matches; enlarge data.source.radius or loosen the condition: "
                f"{self.query('...')}"
            )
        rows = self._run(self.query(COLUMNS), maxrec=number + 1)
        if len(rows) != number:
            raise ValueError(
                f"{self.url}: the archive counted {number} stars but returned {len(rows)} (a row "
                "limit, or a broken transfer); try again, or ask for less by data.source.radius "
                "or magnitude_limit"
            )
        reading = Reading(missing="keep" if self.missing == "keep" else "error")
        stars = standardise(rows, self.url, reading)
        stars.attributes |= {"query": self.query(COLUMNS), "counted": number}
        return stars

    def _run(self, query: str, maxrec: int) -> Table:
        """Run one asynchronous job and give its whole result."""
        try:
            import pyvo
        except ImportError as error:
            raise ValueError(
                "GaiaArchive needs pyvo; install it by `pip install 'astrolit[archive]'`"
            ) from error
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with pyvo.dal.TAPService(self.url).submit_job(query, maxrec=maxrec) as job:
                    self._wait(job.run())
                    job.raise_if_error()
                    result = job.fetch_result()
        except (pyvo.dal.DALAccessError, OSError, LookupError, ValueError, EOFError) as error:
            reason = " ".join(str(error).split())[:400]
            raise ValueError(
                f"{self.url}: the query failed: {reason}; mend it or try again; it was: {query}"
            ) from error
        if result.status[0].lower() == "overflow":
            raise ValueError(
                f"{self.url}: the server cut the result at its row limit (QUERY_STATUS=OVERFLOW, "
                f"{len(result)} rows); ask for less by data.source.radius or magnitude_limit"
            )
        return result.to_table()

    def _wait(self, job: Any) -> None:
        """Wait until a job has ended, asking ever less often."""
        start, pause = time.monotonic(), 0.05
        while job.phase not in ("COMPLETED", "ERROR", "ABORTED"):
            if time.monotonic() - start > self.timeout:
                raise TimeoutError(
                    f"the job did not end within {self.timeout:g} s; raise data.source.timeout or "
                    "ask for less by data.source.radius or magnitude_limit"
                )
            time.sleep(pause)
            pause = min(1.5 * pause, 10.0)


def _cone(
    ra: float | None, dec: float | None, radius: float | None, name: str | None
) -> tuple[float, float, float]:
    """Return the cone's centre and radius in degrees, perhaps of a named cluster."""
    if name is not None:
        if ra is not None or dec is not None:
            raise ValueError(
                f"data.source.name: {name} and data.source.ra, dec both say where the cone is; "
                "remove one of them"
            )
        cluster = find_globular(name)
        ra, dec, radius = cluster.ra, cluster.dec, cluster.radius if radius is None else radius
    if ra is None or dec is None or radius is None:
        raise ValueError("data.source needs a name, or ra, dec and radius in degrees")
    if not 0 < radius <= 90 or not -90 <= dec <= 90 or not 0 <= ra <= 360:
        raise ValueError(
            f"data.source: ra={ra}, dec={dec}, radius={radius} is no cone in degrees "
            "(0..360, -90..90, 0..90)"
        )
    return ra, dec, radius
