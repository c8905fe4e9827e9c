"""Measure and draw the loss landscape of every network of a matrix, and write reports that compare the numbers.

    python run_full_matrix.py && python run_probes_and_reports.py
    python run_probes_and_reports.py --experiments-root reports/noisy --figures-root reports/noisy/figures \\
        --reports-root reports/noisy
    python run_probes_and_reports.py --plane-resolution 41 --k 10 --sharpness sam keskar gaussian
    python run_probes_and_reports.py --format png pdf --figure-style paper    # figures for a paper, too
    torchrun --nproc-per-node=2 run_probes_and_reports.py --jobs 1    # distributed over processes or machines

For every run, the script measures the line from the initial to the trained network (loss and accuracy; also
layer-normalised), a random line and a random plane, the eigenvalues, the trace and the spectral density of the Hessian,
and the sharpness. For every group of seeds, it measures the barriers on the line, after permutation alignment and on a
Bezier curve, and projects the paths of training onto their PCA plane. Numbers are written into the folders of the runs
(probes/, group/), figures into a folder of the same tree, and summary.md, depth_study.md, width_study.md,
activation_study.md, optimizer_study.md, connectivity_study.md and index.html into the folder for reports. Complete
results of the same networks with the same settings are not computed again. Networks that cannot be measured, or not
completely, are named in the reports and at the end, and the exit code is then 2.
"""

import os
from pathlib import Path

from landscape_lib import (
    InputError,
    cli,
    select_device,
    studies,
)


def main(
    probes: studies.Probes = studies.Probes(),  # noqa: B008 (frozen)
    experiments_root: Path = Path("reports/experiments"),
    figures_root: Path = Path("reports/figures"),
    reports_root: Path = Path("reports"),
    device: str = "auto",
    jobs: int | None = None,
    files: cli.FigureFiles = cli.FigureFiles(dpi=110),  # noqa: B008 (frozen)
) -> None:
    """Probes, figures and reports of the networks that run_full_matrix.py trained.

    Args:
        probes: The measurements.
        experiments_root: Folder with the folders of all runs.
        figures_root: Folder for the figures.
        reports_root: Folder for the reports.
        device: Device: cpu, cuda, cuda:N or mps. auto takes the first one available of cuda, mps, cpu.
        jobs: Number of processes, each with one thread. None takes one for every core.
        files: The files of the figures; png, which the reports show, is always among them.
    """
    probes.check()
    files.check()
    if "png" not in files.format:
        raise InputError(f"the reports show figures in png, which is not among {', '.join(files.format)}; add png")
    cli.check_count("jobs", jobs)
    select_device(device)
    runs, left_out = studies.find_runs(experiments_root)
    figures, reports = cli.make_folder(figures_root), cli.make_folder(reports_root)
    print(
        f"Settings: {cli.describe(probes, files, device=device)}\n{len(runs)} networks in {experiments_root}",
        flush=True,
    )
    for place, reason in left_out.items():
        print(f"Left out: {place}, {reason}")
    lost = {}
    for place, measured, drawn, failed in studies.probe_study(
        runs, probes, figures, writer=files, jobs=jobs or os.cpu_count() or 1, device=device
    ):
        for folder, new in ((experiments_root, measured), (figures, drawn)):
            if new:
                print(f"Wrote {folder / place}", flush=True)
        if failed:
            lost[place] = failed
            print(f"Not whole: {place}, {failed}", flush=True)
    if cli.is_first_rank():
        for path in studies.write_reports(runs, left_out, figures, reports):
            print(f"Wrote {path}")
    if lost:
        place, reason = next(iter(lost.items()))
        raise InputError(
            f"{len(lost)} folders of networks and of groups are not whole, as the reports say; first {place}: {reason}"
        )


if __name__ == "__main__":
    cli.run_script(main)
