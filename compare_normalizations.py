"""Train one network with each of seven normalisation layers, and compare training, landscape, curvature and sharpness.

    python compare_normalizations.py                                       # all seven on 10,000 digits, one seed
    python compare_normalizations.py --norms batch none --subset 2000 --epochs 2
    python compare_normalizations.py --seeds 0 1 2 --subset None --epochs 10        # error bars over seeds
    python compare_normalizations.py --dataset fashion-mnist --out output_fashion

The normalisation layers are batch, layer (GroupNorm with one group), group (8 groups), rms, dyt (dynamic tanh),
piecewise (a learnable piecewise-linear function) and none. The network is NormCNN;
`train_classifier.py --model norm-cnn` trains it alone.

The script writes into the folder output: json/training_<norm>.json (history of every epoch),
json/landscape_<norm>.json (the loss over a filter-normalised random plane), json/hessian_<norm>.json (eigenvalues,
trace, density and sharpness), landscapes/, weights/ (checkpoints for the other scripts), figures/, and report.md with
tables. Every result is stored with its settings, so that the same command computes nothing again; after a change of a
setting, only the results that depend on it are computed again. A run that was killed continues where it stopped. An
estimate that did not converge is marked in the report and in the JSON files. An estimate that failed is named at the
end as well, and the exit code is then 2. With the default settings, each normalisation takes about five minutes on two
idle cores, so that all of them take about 35 minutes.
"""

from pathlib import Path
from typing import Any

import landscape_lib as ll
from landscape_lib import cli, studies


def main(
    study: studies.NormalizationStudy = studies.NormalizationStudy(),  # noqa: B008 (frozen)
    plane: cli.PlaneChoice = cli.PlaneChoice(resolution=15, faithfulness="never"),  # noqa: B008 (frozen)
    evaluation: cli.Evaluation = cli.Evaluation(tolerance=0.05),  # noqa: B008 (frozen)
    out: Path = Path("output"),
    figures: bool = True,
    files: cli.FigureFiles = cli.FigureFiles(dpi=110),  # noqa: B008 (frozen)
) -> None:
    """Training, landscape, curvature and sharpness of one network under several normalisation layers.

    Args:
        study: Settings of the training and of the measurements.
        plane: The plane through the weights of every network, and the seed of the samples it is evaluated on.
        evaluation: The computation of the losses; device, data folder and force hold for everything.
        out: Folder for the results.
        figures: Draw figures; --no-figures only computes and reports.
        files: The files of the figures.
    """
    study.check()
    plane.check()
    evaluation.check()
    files.check()
    cli.refuse_unused("here: no network is there yet at which a range could be found", range=(plane.range, None))
    cli.refuse_unused("here: the networks are trained with the cross-entropy", loss=(evaluation.loss, "cross_entropy"))
    for part in ("json", "weights", "landscapes", "figures"):
        cli.make_folder(out / part)
    data = studies.study_data(study, evaluation.data_dir)
    for name in ("samples", "curvature_samples"):
        cli.check_count(name, getattr(study, name), most=len(data["train"]))
    sizes = ", ".join(f"{len(part):,} {split}" for split, part in data.items())
    print(f"Data: {data['train'].name} ({data['train'].source}), {sizes}")
    print(f"Settings: {cli.describe(study, plane, evaluation)}")
    print("Networks are scored on the validation samples while they train, on the test samples once, at the end.")
    networks: dict[str, list[dict[str, Any]]] = {norm: [] for norm in study.norms}
    surfaces: dict[str, ll.Surface] = {}
    stored = {
        norm: [
            studies.StoredResults(out / "json" / f"{kind}_{norm}.json", force=evaluation.force)
            for kind in ("training", "landscape", "hessian")
        ]
        for norm in study.norms
    }
    for norm, seed in cli.with_time_left(list(study.networks())):
        print(f"{norm}, seed {seed}", flush=True)
        histories, landscapes, hessians = stored[norm]
        name = study.name(norm, seed)
        path = out / "weights" / f"model_{name}.pth"
        training, trained = studies.train_normalization(study, norm, seed, data, path, histories, evaluation.device)
        samples, few = (data["train"].subset(n, plane.seed) for n in (study.samples, study.curvature_samples))
        grid = out / "landscapes" / f"landscape_{name}.npz"
        surface = cli.checkpoint_surface(grid, trained, samples, cli.Conditions(plane, evaluation))
        surfaces.setdefault(norm, surface)
        target = evaluation.objective_of(trained.model, few)
        networks[norm].append(
            {
                "training": training,
                "landscape": studies.measure_landscape(surface, seed, landscapes),
                **studies.measure_curvature(study, seed, trained, target, hessians),
                **studies.measure_sharpness(study, seed, trained, target, hessians),
            }
        )
        cli.wrote(path)
    captions = {}
    with files.styled():
        for name, (caption, figure) in studies.normalization_figures(networks, surfaces).items() if figures else ():
            captions[caption] = f"figures/{files.save(figure, out / 'figures' / name).name}"
    facts = {"data": f"{data['train'].name} ({data['train'].source}): {sizes}", **study.facts}
    facts["plane"] = f"seed {plane.seed}, normalize {plane.normalize}, resolution {plane.resolution}, " + (
        f"tolerance {evaluation.tolerance}" if evaluation.tolerance else "every point evaluated"
    )
    report = studies.normalization_report(networks, facts=facts, target_loss=study.target_loss, figures=captions)
    cli.wrote(cli.write_text(out / "report.md", report))
    print(cli.SHARPNESS_CAUTION)
    if failed := studies.unmeasured(networks):
        raise ll.InputError(f"{len(failed)} measurements failed, as the report says; first {failed[0]}")


if __name__ == "__main__":
    cli.run_script(main)
