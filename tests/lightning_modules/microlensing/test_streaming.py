import io
import json
import math
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.microlensing.alerts import AlertStream, answer_alerts
from lightning_modules.microlensing.streaming import Stream
from tests.lightning_modules.microlensing.curves import NAMES, build, epochs_of, light_curves

Epoch = tuple[float, float, float]


def run(stream: Stream, epochs: list[Epoch]) -> Tensor:
    """Probabilities after each epoch, shape (epochs, classes)."""
    return torch.tensor([list(stream.step(*epoch).probability.values()) for epoch in epochs])


def alerts_of(name: Any, epochs: list[Epoch]) -> list[dict[str, Any]]:
    return [{"id": name, "time": t, "flux": f, "error": e} for t, f, e in epochs]


@pytest.mark.parametrize("name", NAMES)
def test_the_stream_is_the_forward(name: str) -> None:
    model, batch = build(name), light_curves(3, 150)
    with torch.no_grad():
        whole = model.predict_step(batch)
    for row in range(3):
        stream, epochs = model.stream(), epochs_of(batch, row)
        expected = whole["probability"][row][batch["good"][row]]
        torch.testing.assert_close(run(stream, epochs), expected, atol=1e-5, rtol=0)
        assert stream.num_epochs == len(epochs) == whole["num_epochs"][row]
        torch.testing.assert_close(whole["final_probability"][row], expected[-1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", [1, 5, 52])
def test_the_state_survives_a_restart(name: str, cut: int) -> None:
    model, epochs = build(name), epochs_of(light_curves(1, 120), 0)
    expected = run(model.stream(), epochs)
    first = model.stream()
    run(first, epochs[:cut])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    run(first, epochs[cut:])  # goes on; what was saved stays
    second = model.stream()
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(run(second, epochs[cut:]), expected[cut:])


def test_a_state_has_constant_size() -> None:
    stream, epochs = build("dilated").stream(), epochs_of(light_curves(1, 100), 0)
    before = {key: value.shape for key, value in stream.state_dict().items()}
    run(stream, epochs)
    assert {key: value.shape for key, value in stream.state_dict().items()} == before


def test_a_state_of_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="not one of this network"):
        build("dilated").stream().load_state_dict(build("reference").stream().state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_repeated_times_get_the_same_answer_and_earlier_ones_are_refused(name: str) -> None:
    model, epochs = build(name), epochs_of(light_curves(1, 40), 0)
    stream, expected = model.stream(), run(model.stream(), epochs)
    for epoch, probability in zip(epochs, expected, strict=True):
        first = stream.step(*epoch)
        assert stream.step(*epoch) == first
        assert list(first.probability.values()) == probability.tolist()
    with pytest.raises(ValueError, match=r"time 2460000\.9.* is earlier than the last one"):
        stream.step(2460000.9, 1.0, 0.1)


@pytest.mark.parametrize(
    "epoch",
    [(1.0, math.nan, 0.1), (math.inf, 1.0, 0.1), (1.0, 1.0, 0.0), (1.0, 1.0, -0.1)],
)
def test_what_is_no_measurement_is_refused_and_leaves_no_trace(epoch: Epoch) -> None:
    stream = build("dilated").stream()
    with pytest.raises(ValueError, match="all must be finite and the error positive"):
        stream.step(*epoch)
    assert stream.num_epochs == 0


def test_training_on_does_not_change_a_stream() -> None:
    model, epochs = build("dilated"), epochs_of(light_curves(1, 40), 0)
    stream, expected = model.stream(), run(model.stream(), epochs)
    with torch.no_grad():
        model.net.output.weight.mul_(2)
    assert torch.equal(run(stream, epochs), expected)


def test_alerts_of_many_events_are_answered_as_their_streams_would(tmp_path: Path) -> None:
    model, batch = build("dilated"), light_curves(3, 60)
    names = ["OGLE-1", "MOA-2", 7]
    epochs = [epochs_of(batch, row) for row in range(3)]
    expected = [run(model.stream(), each) for each in epochs]
    alerts = [
        alert for name, each in zip(names, epochs, strict=True) for alert in alerts_of(name, each)
    ]
    alerts.sort(key=lambda alert: alert["time"])  # as they come
    answers: list[dict[str, Any]] = []
    for some in (alerts[:50], alerts[40:]):  # a restart, after which ten are delivered again
        lines = answer_alerts(model, map(json.dumps, some), tmp_path / "states.db")
        answers += [json.loads(line) for line in lines]
    assert answers[40:50] == answers[50:60]
    del answers[40:50]
    assert [(a["id"], a["time"]) for a in answers] == [(a["id"], a["time"]) for a in alerts]
    for name, each in zip(names, expected, strict=True):
        mine = [answer for answer in answers if answer["id"] == name]
        assert [answer["num_epochs"] for answer in mine] == list(range(1, len(each) + 1))
        found = torch.tensor([[a["probability"][c] for c in ("pspl", "binary")] for a in mine])
        assert torch.equal(found, each)


def test_an_old_alert_again_gets_its_old_answer(tmp_path: Path) -> None:
    epochs = epochs_of(light_curves(1, 30), 0)
    with closing(AlertStream(build("dilated").stream(), tmp_path / "states.db")) as alerts:
        first = [alerts.answer(alert) for alert in alerts_of("a", epochs)]
        again = [alerts.answer({**alert, "flux": 9.0}) for alert in alerts_of("a", epochs)]
        assert first == again
        assert [answer["num_epochs"] for answer in first] == list(range(1, len(epochs) + 1))


def test_what_cannot_be_answered_gets_a_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    model = build("dilated")
    lines = [
        '{"id": "a", "time": 2.0, "flux": 1.0, "error": 0.1}',
        '{"id": "a", "time": 1.0, "flux": 1.0, "error": 0.1}',
        '{"id": "a", "time": 3.0, "flux": NaN, "error": 0.1}',
        '{"id": "a", "flux": 1.0}',
        '{"id": null, "time": 3.0, "flux": 1.0, "error": 0.1}',
        '{"id": "a", "time": "3", "flux": 1.0, "error": 0.1}',
        '{"id": "a", "time": 3.0, "flux": 1.0, "error": 0.1, "reference_flux": 0}',
        "[1]",
        "flux=1",
        "",
        '{"id": "a", "time": 3.0, "flux": 200.0, "error": 20.0, "reference_flux": 200.0}',
    ]
    answers = [json.loads(line) for line in answer_alerts(model, lines, tmp_path / "s.db")]
    errors = [answer.get("error", "") for answer in answers]
    expected = [
        "", "earlier than the last one at 2.0", "finite", "has no time, error", "id=None",
        "time='3' must be a number", "reference_flux=0.0 must be positive", "JSON object",
        "Expecting value", "",
    ]  # fmt: skip
    assert len(errors) == len(expected)
    assert all(text in error for text, error in zip(expected, errors, strict=True))
    assert answers[1] == {"id": "a", "time": 1.0, "line": 2, "error": errors[1]}
    stream = model.stream()
    stream.step(2.0, 1.0, 0.1)
    last = stream.step(3.0, 1.0, 0.1)
    assert answers[-1] == {"id": "a", "time": 3.0, **last._asdict()}


def test_states_of_another_model_or_another_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "states.db"
    model = build("dilated")
    AlertStream(model.stream(), path).close()
    AlertStream(model.stream(), path).close()
    model.temperature.log_temperature += 0.1
    with pytest.raises(ValueError, match=r"states\.db: its states were made by another model"):
        AlertStream(model.stream(), path)
    (tmp_path / "table.csv").write_text("id,time,flux,error\n" * 100)
    with pytest.raises(ValueError, match=r"table\.csv: not a file of alert states"):
        AlertStream(model.stream(), tmp_path / "table.csv")


def test_an_alert_happens_wholly_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = epochs_of(light_curves(1, 20), 0)
    model = build("dilated")
    expected = run(model.stream(), epochs)
    path = tmp_path / "states.db"
    with closing(AlertStream(model.stream(), path)) as alerts:
        for alert in alerts_of("a", epochs[:7]):
            alerts.answer(alert)

        def die() -> list[torch.Tensor]:
            raise KeyboardInterrupt

        monkeypatch.setattr(alerts, "_floats", die)
        with pytest.raises(KeyboardInterrupt):
            alerts.answer(alerts_of("a", epochs)[7])
    with closing(AlertStream(model.stream(), path)) as alerts:
        answers = [alerts.answer(alert) for alert in alerts_of("a", epochs)]
    found = torch.tensor([list(answer["probability"].values()) for answer in answers])
    assert torch.equal(found, expected)
