"""Train the matrix of small networks: architectures x activations x optimizers x data sets x seeds.

    python run_full_matrix.py                                          # 90 networks on moons
    python run_full_matrix.py --include-circles --include-xor --include-gaussians
    python run_full_matrix.py --architectures medium deep-small --activations relu --seeds 0 1 2 3 4
    python run_full_matrix.py --noise 0.3 --epochs 200 --lr-step-size 100 --output-root reports/noisy
    torchrun --nproc-per-node=2 run_full_matrix.py --jobs 1           # distributed over processes or machines

Networks of one shape are trained together, with the numbers that each would have alone, up to rounding. The script
writes a folder dataset=.../arch=.../act=.../opt=.../seed=... for each network, with checkpoints/ (init.pth,
mid_<epoch>.pth, final.pth), metrics.json (loss and accuracy of every epoch) and, last, summary.json (all settings). A
folder that is complete and has the same settings is not trained again; any other one is. Files that this script did
not write are not touched. Networks whose training diverged are kept, but named at the end, and the exit code is then
2. The next step is `python run_probes_and_reports.py`.
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
    matrix: studies.Matrix = studies.Matrix(),  # noqa: B008 (frozen)
    output_root: Path = Path("reports/experiments"),
    device: str = "auto",
    jobs: int | None = None,
) -> None:
    """Train every network of the matrix that is not there yet.

    Args:
        matrix: The networks, their data sets and their training.
        output_root: Folder for the folders of all runs.
        device: Device: cpu, cuda, cuda:N or mps. auto takes the first one available of cuda, mps, cpu.
        jobs: Number of processes, each with one thread. None takes one for every core.
    """
    plans = matrix.plans()
    cli.check_count("jobs", jobs)
    select_device(device)
    root = cli.make_folder(output_root)
    print(f"Settings: {cli.describe(matrix, device=device)}\n{len(plans)} networks; writing into {root}", flush=True)
    trained = 0
    for summary in studies.train_matrix(plans, root, jobs=jobs or os.cpu_count() or 1, device=device):
        trained += 1
        accuracy = summary["final"]["test_accuracy"]
        print(f"Wrote {root / summary['place']} (test accuracy {accuracy:.2%})", flush=True)
    print(f"{trained} networks trained here; all {len(plans)} are in {root}")
    if diverged := studies.diverged_runs(plans, root):
        raise InputError(
            f"the loss of {len(diverged)} of {len(plans)} networks is not finite, first {diverged[0]}; lower --lr"
        )


if __name__ == "__main__":
    cli.run_script(main)
