"""All probes, figures and reports of a study, over processes."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from landscape.runtime import ranks
from landscape.runtime.progress import progress_bar
from landscape.runtime.tasks import run_tasks
from landscape.runtime.threads import one_thread
from landscape.storage.records import own_folder, whole_record
from landscape.studies.matrix.figures import FIGURES, FigureWriter, draw_group, draw_once, draw_run
from landscape.studies.matrix.groups import probe_group
from landscape.studies.matrix.probes import Probes, probe_run
from landscape.studies.matrix.runs import GROUP, PROBES, StudyRun, group_runs

__all__ = ["probe_study"]


def probe_study(
    runs: Sequence[StudyRun], probes: Probes, figures: Path, *, writer: FigureWriter, jobs: int, device: str
) -> Iterator[tuple[str, bool, bool, str | None]]:
    """Measure and draw every run and every group; (place, measured now, drawn now, why not whole) as they finish.

    What is there with the same settings, of the same checkpoints, is not measured again; figures of the same
    measurements are not drawn again by the same ``writer``.
    """
    probes.check()
    tasks = [[run] for run in runs] + [list(group) for group in group_runs(runs).values()]
    work = partial(_probe, singles=len(runs), probes=probes, figures=figures, writer=writer, device=device)
    with progress_bar(ranks.is_first_rank(), "Probing", len(tasks), unit="folders") as bar:
        for done in run_tasks(work, list(enumerate(tasks)), jobs):
            bar.update()
            yield done


def _probe(
    task: tuple[int, list[StudyRun]], singles: int, probes: Probes, figures: Path, writer: FigureWriter, device: str
) -> tuple[str, bool, bool, str | None]:
    """Measure and draw one run, or from task ``singles`` on one group."""
    number, runs = task
    with one_thread():
        if number < singles:
            place, path, measure, draw = runs[0].place, PROBES, partial(probe_run, runs[0]), draw_run
        else:
            place, path, measure, draw = runs[0].group, GROUP, partial(probe_group, runs), draw_group
        record = runs[0].root / place / path
        with own_folder(record), own_folder(figures / place / FIGURES):
            measured = measure(probes, device)
            drawn = draw_once(record, figures / place, draw, writer)
    return place, measured, drawn, whole_record(record).get("failed")
