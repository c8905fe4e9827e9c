"""Measure the loss around a language model: planes, the basin along random directions, and the sharpness of its layers.

    python visualize_language_model.py                                  # trains a small GPT first, minutes on two cores
    python visualize_language_model.py --text novel.txt --steps 3000 --sequence-length 256
    python visualize_language_model.py --lora 8                         # also the plane of adapters (LoRA)
    python visualize_language_model.py --model FOLDER --text FILE --tokens 4096 --parameters attention mlp
    python visualize_language_model.py --model FOLDER --dtype None --spill /tmp    # no copy, in its own precision
    torchrun --nproc-per-node=2 visualize_language_model.py             # shares the points of every grid

Without --model, a GPT of a million parameters is trained to predict the bytes of a text, of which the last tenth is
held out; its weights are recorded during training, and an interrupted run is continued. With --model, nothing is
trained except adapters. A model is a folder of the transformers library with safetensors; a folder that holds pickled
files is refused.

The script writes into language_model_results: language_model.points (the recorded weights), planes, paths and basin
(.npz), layers and judgement (.json), their figures, and report.md with the numbers, their reliability, and the limits
of what a plane shows. The judgement says what the random plane leaves out; it is stored with that plane as well. A
second run computes nothing again.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import landscape_lib as ll
from landscape_lib import cli


def main(
    choice: cli.LanguageChoice = cli.LanguageChoice(),  # noqa: B008 (frozen)
    view: cli.LanguageView = cli.LanguageView(),  # noqa: B008
    network: cli.GPTOptions = cli.GPTOptions(),  # noqa: B008
    training: cli.LanguageTraining = cli.LanguageTraining(),  # noqa: B008
    files: cli.FigureFiles = cli.FigureFiles(),  # noqa: B008 (frozen)
    out: Path = Path("language_model_results"),
    force: bool = False,
) -> None:
    """Planes, basin and sharpness around a language model.

    Args:
        choice: The model and the text.
        view: The measurements.
        network: The GPT that is trained if no model is named.
        training: The training of the GPT, and of adapters with their own number of steps.
        files: The files of the figures.
        out: Folder for the results; those of other models and texts stay.
        force: Train and compute again even if the same result is stored.
    """
    cli.check_language_options(choice, view, network, training)
    files.check()
    out = cli.make_folder(out)
    settings = cli.describe(choice, view, network, training)
    subject = cli.load_language_subject(choice, network, training, out, force=force, settings=settings)
    print("\n".join(f"{name}: {text}" for name, text in subject.facts.items()), flush=True)
    measured = cli.LanguageMeasurements(subject, choice, view, training, out, force=force)
    figures: dict[str, Path] = {}

    def draw(caption: str, name: str, plot: Callable[..., Any], *drawn: Any, **options: Any) -> None:
        figures[caption] = files.draw(measured.path(name), plot, *drawn, **options)

    planes = {"random plane": measured.random_plane()}
    caption = "The loss over a filter-normalised random plane"
    for part, surface in planes["random plane"].items():
        if surface.faithfulness:
            print(surface.faithfulness.box, flush=True)
            caption += f"; at the centre, {part}: {surface.faithfulness.caption}"
    draw(
        caption, "random_plane", ll.plot_comparison, [*planes["random plane"].values()],
        titles=[*planes["random plane"]],
    )  # fmt: skip
    surfaces, paths = measured.training_plane()
    if paths:
        planes["plane of training"] = surfaces
        panels = {part: partial(ll.plot_path, surface, paths[part]) for part, surface in surfaces.items()}
        draw(
            "The path of training on the loss over the plane of its first, middle and last weights",
            "training_plane", cli.plot_panels, panels, columns=2, size=(5.6, 4.8),
        )  # fmt: skip
        draw("The loss along the path, and of its shadow", "path_losses", ll.plot_path_losses, [*paths.values()])
    basin = measured.basin()
    draw(f"The loss along {len(basin)} random directions", "basin", ll.plot_basin_radii, basin)
    layers = measured.layers()
    if layers:
        draw(
            "The rise of the loss under noise in one layer alone, by the kind of the layer", "sharpness",
            ll.plot_sharpness, layers, labels=ll.studies.kinds_of_layers(layers),
        )  # fmt: skip
    adapters = measured.adapters()
    if adapters:
        titles = [f"{name}: |dW| / |W| up to {moved:.2g}" for name, (_, moved) in adapters.items()]
        draw(
            "A plane of the weights beside one of the adapters, in equal units and as far", "adapters",
            ll.plot_comparison, [surface for surface, _ in adapters.values()], titles=titles,
        )  # fmt: skip
    report = ll.studies.LanguageModelResults(
        facts=subject.facts, planes=planes, basin=basin, layers=layers, judgement=measured.judgement, paths=paths,
        adapters=adapters, figures={caption: path.name for caption, path in figures.items()},
    )  # fmt: skip
    cli.wrote(cli.write_text(measured.path("report.md"), ll.studies.language_model_report(report)))


if __name__ == "__main__":
    cli.run_script(main)
