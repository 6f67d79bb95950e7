"""Old names and what they are now, so that configurations and checkpoints of before keep working.

A class that only moved needs no row: `callbacks.<module>.<Name>` is the export `callbacks.<Name>`.
"""

import importlib
import inspect
import pkgutil
from typing import Any

PACKAGES = ("lightning_modules", "datamodules", "callbacks")

CLASSES = {
    "DefaultEarlyStopping": "callbacks.EarlyStopping",
    "DefaultLearningRateMonitor": "callbacks.LearningRateMonitor",
    "RNGState": "callbacks.ExactResume",
}
"""Class paths, by the last word of the old one; also of the keys of callback states."""

SHORT_NAMES = {
    "EarlyStopping": "lightning.pytorch.callbacks.EarlyStopping",
    "LearningRateMonitor": "lightning.pytorch.callbacks.LearningRateMonitor",
}
"""Classes named without a module that two packages have; Lightning's were there before."""

ARGUMENTS = {
    "MicrolensingDataModule": {"memory_limit": "memory_limit_gib"},
    "MicrolensingReport": {"max_classical": "max_fit"},
    "PhotometricErrors": {"error": "sigma_mag"},
    "SimulatedEvents": {
        "errors": "photometry",
        "photometry.error": "photometry.sigma_mag",
        "negatives": "single_lens_prior",
        "workers": "simulation_workers",
    },
    "SpectraDataModule": {"memory_limit": "memory_limit_gib"},
    "SpectraVAE": {"free_bits": "free_nats"},
    "SyntheticSpectra": {"workers": "simulation_workers"},
}
"""Arguments (and hyper-parameters) of an exported class; a dot goes into a mapping."""

REMOVED = {
    "ClusteringDataModule": ["error_inflation"],
    "StellarAutoencoder": ["compile"],
    "StellarVAE": ["compile"],
}
"""Arguments that a class and its subclasses no longer take: they changed no result, or
what a model learns now."""


def renew_class_path(path: str) -> str:
    """Return the class path of today; any other text as it is.

    Args:
        path: Such as `callbacks.rng_state.RNGState`, or a class without its module.
    """
    package, dot, rest = path.partition(".")
    name = rest.rsplit(".", 1)[-1]
    if not dot:
        return CLASSES.get(path) or SHORT_NAMES.get(path, path)
    if package not in PACKAGES or _is_there(path):
        return path
    exported = name in importlib.import_module(package).__all__
    return CLASSES.get(name) or (f"{package}.{name}" if exported else path)


def _is_there(path: str) -> bool:
    """Return whether a class path can be imported as it is."""
    try:
        pkgutil.resolve_name(path)
    except (ImportError, AttributeError):
        return False
    return True


def renew_arguments(owner: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of a class by the names of today.

    Args:
        owner: The class; a name that it takes is not old.
        arguments: Name to value.
    """
    renewed, taken = dict(arguments), inspect.signature(owner).parameters
    for parent in owner.__mro__:
        for old, new in ARGUMENTS.get(parent.__name__, {}).items():
            if old not in taken:
                _rename(renewed, old, new)
        for old in set(REMOVED.get(parent.__name__, ())) - set(taken):
            renewed.pop(old, None)
    return renewed


def renew_config(value: Any) -> Any:
    """Return a loaded YAML, or any part of one, by the names of today.

    Args:
        value: Mappings, lists and scalars.
    """
    if isinstance(value, list):
        return [renew_config(item) for item in value]
    if not isinstance(value, dict):
        return renew_class_path(value) if isinstance(value, str) and "." in value else value
    renewed = {key: renew_config(item) for key, item in value.items()}
    if isinstance(path := renewed.get("class_path"), str):
        renewed["class_path"] = path = renew_class_path(path)
        owner = _exported(path)
        if owner is not None and isinstance(renewed.get("init_args"), dict):
            renewed["init_args"] = renew_arguments(owner, renewed["init_args"])
    return renewed


def renew_callback_states(states: dict[str, Any]) -> dict[str, Any]:
    """Return the states of callbacks by the keys of today.

    Args:
        states: State key, `Name` or `Name{...}`, to state.
    """
    renewed = {}
    for key, state in states.items():
        name, brace, rest = key.partition("{")
        renewed[CLASSES.get(name, name).rsplit(".", 1)[-1] + brace + rest] = state
    return renewed


def _exported(path: str) -> type | None:
    """Return the class of ours that a class path, or a name without a module, stands for."""
    package, _, name = path.rpartition(".")
    places = [importlib.import_module(place) for place in PACKAGES if package in ("", place)]
    found = next((getattr(place, name) for place in places if name in place.__all__), None)
    return found if isinstance(found, type) else None


def _rename(values: dict[str, Any], old: str, new: str) -> None:
    """Rename a key, in a mapping inside if there is a dot; one that is there already stays."""
    outer, dot, rest = old.partition(".")
    if not dot and old in values and new not in values:
        values[new] = values.pop(old)
    elif dot and isinstance(values.get(outer), dict):
        values[outer] = dict(values[outer])
        _rename(values[outer], rest, new.partition(".")[2])
