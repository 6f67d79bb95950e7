"""The command `astrolit alerts`: live alerts, answered by a trained model alone."""

import sys
from contextlib import nullcontext
from pathlib import Path

from lightning_modules import TimeDistributedCNN
from lightning_modules.cli.checkpoints import load_model
from lightning_modules.cli.parser import AstroParser, prepare_parsing
from lightning_modules.microlensing.alerts import answer_alerts
from lightning_modules.runs import find_checkpoint, run_folder


def alerts(ckpt_path: str, input: str = "-", states: str | None = None) -> None:
    """Answer live alerts, one JSON line each, by a model that `astrolit fit` has trained.

    Args:
        ckpt_path: The model: a run's folder or a .ckpt file.
        input: File of alerts, one JSON object a line; - reads standard input as it comes.
        states: File of the states of all live events; alerts.db in the run's folder if null.

    Raises:
        ValueError: If the model answers no alerts.
        FileNotFoundError: If there is no such checkpoint or no such file of alerts.
    """
    path = Path(find_checkpoint(ckpt_path))
    model = load_model(path)
    if not isinstance(model, TimeDistributedCNN):
        raise ValueError(f"--ckpt_path {path}: a {type(model).__name__} answers no alerts")
    if input != "-" and not Path(input).is_file():
        raise FileNotFoundError(f"--input {input}: no such file; - reads standard input")
    place = states or (run_folder(str(path)) or path.parent) / "alerts.db"
    with nullcontext(sys.stdin) if input == "-" else Path(input).open() as lines:
        for line in answer_alerts(model, lines, place):
            print(line, flush=True)  # at once, so that a pipe sees each answer when it is given


def main(words: list[str]) -> None:
    """Parse the words after `astrolit alerts` and run."""
    prepare_parsing()
    about = "Answer live alerts, one JSON line each, by a model that `astrolit fit` has trained."
    parser = AstroParser(prog="astrolit alerts", description=about)
    parser.hint = "`astrolit alerts --help` lists the options"
    parser.add_function_arguments(alerts, as_group=False)
    alerts(**parser.parse_args(words).as_dict())
