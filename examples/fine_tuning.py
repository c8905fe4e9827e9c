"""Draw the loss around a small GPT before and after fine-tuning, on the text it knew and on the new one.

    python examples/fine_tuning.py                                      # about three minutes on two cores
    python examples/fine_tuning.py --text mine.txt --steps 1000 --new-steps 300
    python examples/fine_tuning.py --layers 1 --steps 60 --new-steps 30 --tokens 1024 --resolution 7      # a quick look

The GPT learns the topics of pydoc, then Python code of the standard library (or --text). One random plane, of one seed,
through both networks, on held-out parts of both texts, shows how the bowl has moved; the line between them shows what
was gained and what was forgotten. The script writes the recorded weights, surfaces, planes.png, line.png and
fine_tuning.json to --out, and computes nothing twice.
"""

import argparse
import ast
import inspect
import sys
import typing
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import landscape_lib as ll

CODE = (argparse, ast, inspect, typing)  # modules whose source is the new text


def main(
    text: Path | None = None,
    layers: int = 3,
    steps: int = 600,
    new_steps: int = 200,
    tokens: int = 4096,
    resolution: int = 9,
    span: float = 1.0,
    seed: int = 42,
    device: str = "auto",
    out: Path = Path("fine_tuning_results"),
) -> None:
    """Planes around a GPT before and after fine-tuning, and the line between.

    Args:
        text: File of the new text in UTF-8; None takes Python code of the standard library.
        layers: Blocks of the GPT, of width 128.
        steps: Training steps on the topics of pydoc.
        new_steps: Training steps on the new text, at a tenth of the learning rate.
        tokens: Held-out tokens of each text that the loss is evaluated on.
        resolution: Grid points along both axes of every plane.
        span: The planes go from -SPAN to SPAN, in units of the filter norms.
        seed: Of weights, sequences and directions.
        device: auto, cpu, cuda, cuda:N or mps.
        out: Folder for the results.
    """
    out = ll.cli.make_folder(out)
    training = ll.cli.LanguageTraining(steps=steps, points=2, seed=seed)
    choice, network = ll.cli.LanguageChoice(tokens=tokens, device=device), ll.cli.GPTOptions(layers=layers)
    subject = ll.cli.load_language_subject(choice, network, training, out)
    path = text or ll.cli.write_text(out / "code.txt", "\n".join(map(inspect.getsource, CODE)))
    new, held_out = ll.cli.load_text(path, ll.cli.Bytes(), 128).divided()
    points = ll.cli.load_or_record_language_model(
        out / "fine_tuned.points", partial(ll.model_at, subject.model, ll.parameters_of(subject.model)),
        {"base": subject.points.fingerprint}, new, held_out, replace(training, steps=new_steps, lr=training.lr / 10),
        device=device,
    )  # fmt: skip
    networks = {"before": subject.model, "after": ll.model_at(subject.model, points[-1]).eval()}
    texts = {"topics": subject.parts["held-out"], "new text": held_out.subset(min(len(held_out), tokens // 128), seed)}

    surfaces, lines = {}, {}
    for name, part in texts.items():
        for when, model in networks.items():
            target = choice.objective_of(model, part)
            surfaces[f"{name}, {when}"] = ll.load_or_evaluate(
                out / f"surface_{when}_{name.replace(' ', '_')}.npz", target, ll.random_plane(model, seed=seed),
                alpha_range=(-span, span), beta_range=(-span, span), resolution=resolution,
            )  # fmt: skip
        lines[name] = ll.barrier(choice.objective_of(networks["before"], part), *networks.values(), resolution=11)
    wrote(ll.save_figure(ll.plot_comparison([*surfaces.values()], titles=[*surfaces]), out / "planes.png"))
    wrote(ll.save_figure(ll.plot_barriers(lines), out / "line.png"))
    losses = {name: float(surface.loss[surface.centre]) for name, surface in surfaces.items()}
    print("\n".join(f"{name}: {loss:.3f} nats a token" for name, loss in losses.items()))
    barriers = {name: line.numbers for name, line in lines.items()}
    wrote(ll.cli.write_json(out / "fine_tuning.json", {"losses": losses, "barriers": barriers}))


def wrote(path: Path) -> None:
    print(f"Wrote {path}", flush=True)


if __name__ == "__main__":
    ll.cli.run_script(main)
