"""Alerts of many live events: JSON lines in, JSON lines out, states in one file."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from lightning_modules.microlensing.module import TimeDistributedCNN
from lightning_modules.microlensing.streaming import Stream, StreamOutput

TABLES = """
CREATE TABLE IF NOT EXISTS model (fingerprint TEXT);
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY, id TEXT UNIQUE, num_epochs INTEGER, time REAL, flux REAL,
    error REAL, state BLOB);
CREATE TABLE IF NOT EXISTS answer (
    event INTEGER, time REAL, num_epochs INTEGER, probability BLOB,
    PRIMARY KEY (event, time)) WITHOUT ROWID;
"""


class AlertStream:
    """Answers alerts of any number of live events, each from the state that its last alert left.

    States and answers are in one SQLite file. An alert is one transaction: after a crash or a
    restart an alert has either happened or not, and a delivery repeated (by id and time, also of an
    older epoch) gets the answer it had. The cost of an alert does not depend on the epochs before.

    Args:
        stream: Of the model; it serves all events in turn.
        state_path: The file; made if absent.

    Raises:
        ValueError: The file is of another model, or no such file.
    """

    def __init__(self, stream: Stream, state_path: str | Path) -> None:
        self.stream = stream
        self.database = sqlite3.connect(state_path, timeout=60.0, isolation_level=None)
        try:
            self.database.execute("PRAGMA journal_mode = WAL")
            self.database.execute("PRAGMA synchronous = NORMAL")
            self.database.executescript(TABLES)
            self._check_model(state_path)
        except sqlite3.DatabaseError as error:
            self.close()
            raise ValueError(f"{state_path}: not a file of alert states ({error})") from error
        except ValueError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def answer(self, alert: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one alert.

        Args:
            alert: `id` (text or whole number), `time` in days, `flux` and `error`, both over the
                reference flux; or in any unit, if `reference_flux` is given too.

        Returns:
            `id`, `time`, `num_epochs` and `probability`, class to calibrated probability.

        Raises:
            ValueError: A key is missing or no number, or the time is earlier than one answered.
        """
        epoch = _read_epoch(alert)
        with self.database:  # commits, or rolls back on an exception
            self.database.execute("BEGIN IMMEDIATE")
            given = self._answer(json.dumps(alert["id"]), *epoch)
        return {"id": alert["id"], "time": alert["time"], **given._asdict()}

    def _answer(self, name: str, time: float, flux: float, error: float) -> StreamOutput:
        """Return the answer of old, or take the epoch and keep state and answer."""
        self.database.execute("INSERT OR IGNORE INTO event (id) VALUES (?)", (name,))
        row: list[Any] = self._row("SELECT * FROM event WHERE id = ?", name)
        number, _, *saved = row
        query = "SELECT num_epochs, probability FROM answer WHERE event = ? AND time = ?"
        if (old := self._row(query, number, time)) is not None:
            probability = np.frombuffer(old[1], dtype=np.float32).tolist()
            return StreamOutput(old[0], dict(zip(self.stream.classes, probability, strict=True)))
        self._load(*saved)
        given = self.stream.step(time, flux, error)
        state = self.stream.state
        floats = parameters_to_vector(self._floats()).numpy().tobytes()
        values = given.num_epochs, *state["epoch"].tolist(), floats, number
        self.database.execute(
            "UPDATE event SET num_epochs=?, time=?, flux=?, error=?, state=? WHERE number=?", values
        )
        blob = state["probability"].numpy().tobytes()
        self.database.execute(
            "INSERT INTO answer VALUES (?, ?, ?, ?)", (number, time, given.num_epochs, blob)
        )
        return given

    def _load(
        self, num_epochs: int | None, time: float, flux: float, error: float, blob: bytes
    ) -> None:
        """Put the state of an event into the stream."""
        self.stream.reset()
        if num_epochs is not None:
            self.stream.state["num_epochs"].fill_(num_epochs)
            self.stream.state["epoch"] = torch.tensor([time, flux, error], dtype=torch.float64)
            saved = torch.frombuffer(bytearray(blob), dtype=torch.float32)
            vector_to_parameters(saved, self._floats())

    def _floats(self) -> list[Tensor]:
        """Return all of the stream's state that is float32."""
        return [value for value in self.stream.state.values() if value.dtype == torch.float32]

    def _row(self, query: str, *values: Any) -> Any:
        """Return the first row of a query, or None."""
        return self.database.execute(query, values).fetchone()

    def _check_model(self, path: str | Path) -> None:
        """Refuse states that other weights have made: their continuation would be nonsense."""
        digest = hashlib.sha256(json.dumps(self.stream.classes).encode())
        for module in (self.stream.network, self.stream.temperature):
            for name, value in module.state_dict().items():
                digest.update(name.encode() + value.numpy().tobytes())
        fingerprint = digest.hexdigest()
        self.database.execute(
            "INSERT INTO model SELECT ? WHERE NOT EXISTS (SELECT * FROM model)", (fingerprint,)
        )
        if self._row("SELECT fingerprint FROM model")[0] != fingerprint:
            raise ValueError(
                f"{path}: its states were made by another model; go on with that one, or begin a "
                "new file"
            )


def answer_alerts(
    module: TimeDistributedCNN, lines: Iterable[str], state_path: str | Path
) -> Iterator[str]:
    """Answer alerts, one JSON line for each, as they come.

    An alert that cannot be answered (no JSON, a missing key, an earlier time) gets a line with
    `line`, its number, and `error` in place of a probability; the next alert is not affected.

    Args:
        module: The trained model.
        lines: Alerts as `AlertStream.answer` takes them, one JSON object each.
        state_path: File of the states of all live events.
    """
    with closing(AlertStream(module.stream(), state_path)) as alerts:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            alert: Any = None
            try:
                alert = json.loads(line)
                yield json.dumps(alerts.answer(alert))
            except ValueError as error:
                known = alert if isinstance(alert, dict) else {}
                named = {key: known[key] for key in ("id", "time") if key in known}
                yield json.dumps({**named, "line": number, "error": str(error)})


def _read_epoch(alert: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return time, flux and error of an alert, the latter two over the reference flux.

    Raises:
        ValueError: If it is not an alert; names the key.
    """
    if not isinstance(alert, Mapping):
        raise ValueError(f"an alert must be a JSON object with id, time, flux, error, not {alert}")
    missing = [key for key in ("id", "time", "flux", "error") if key not in alert]
    if missing:
        raise ValueError(f"the alert has no {', '.join(missing)}")
    if not isinstance(alert["id"], str | int) or isinstance(alert["id"], bool):
        raise ValueError(f"id={alert['id']!r} must be text or a whole number")
    numbers = {key: alert.get(key, 1.0) for key in ("time", "flux", "error", "reference_flux")}
    for key, value in numbers.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{key}={value!r} must be a number")
    reference = float(numbers["reference_flux"])
    if not reference > 0:
        raise ValueError(f"reference_flux={reference} must be positive")
    time, flux, error = (float(numbers[key]) for key in ("time", "flux", "error"))
    return time, flux / reference, error / reference
