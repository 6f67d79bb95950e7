"""All figures of the sidm report, by name."""

from matplotlib.figure import Figure

from callbacks.report.plots import subject_colours
from callbacks.sidm.figures.latent import (
    component_figure,
    corner_figure,
    parameter_figure,
    path_figure,
)
from callbacks.sidm.figures.look import Findings, colours, shown
from callbacks.sidm.figures.maps import map_figure, profile_figure
from callbacks.sidm.figures.network import saliency_figure, traversal_figure
from callbacks.sidm.figures.posteriors import coverage_figure, posterior_figure, survey_figure
from callbacks.sidm.figures.trust import confidence_figure, confusion_figure


def sidm_figures(findings: Findings) -> dict[str, Figure]:
    """Return all figures that the data allow."""
    model, subjects, report = findings.model, findings.subjects, findings.run.report
    by_subject, by_name = subject_colours(report), colours(model)
    known = sorted(model.populations.known, key=lambda one: one.cross_section)
    figures: dict[str, Figure | None] = {
        "maps": map_figure(findings, [*known, *shown(model, 4)]),
        "profiles": profile_figure(findings, by_name),
        "latent": component_figure(model, by_name) if known[0].latent.shape[2] > 1 else None,
        "latent_corner": corner_figure(model, by_name),
        "parameters": parameter_figure(findings),
        "saliency": saliency_figure(findings),
        "traversal": traversal_figure(findings),
        "path": path_figure(model, by_name),
        "confusion": confusion_figure(model, findings.classes) if findings.classes else None,
        "coverage": coverage_figure(subjects, by_subject),
        "survey_size": survey_figure(subjects, report),
    }
    if model.populations.measured:
        figures["posteriors"] = posterior_figure(subjects, by_subject)
        figures["confidence"] = confidence_figure(subjects, report)
    return {name: figure for name, figure in figures.items() if figure is not None}
