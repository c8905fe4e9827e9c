"""Ask whether a loss that looks flat over adapters (LoRA) is flat, or whether they only move the weights less.

    python examples/lora_plane.py                                       # about three minutes on two cores; needs peft
    python examples/lora_plane.py --rank 2 --directions 20
    python examples/lora_plane.py --layers 1 --steps 60 --adapter-steps 30 --tokens 1024                  # a quick look

A small GPT learns the topics of pydoc; adapters of low rank are then trained in all of its blocks. Through the same
network go random lines that move the adapters, and random lines that move the adapted weights themselves, both
normalised filter by filter. The figure draws the loss along them against the coordinate, in which the adapters look
flat, and against |dW| / |W|, how far the weights of the adapted layers have really moved. The script writes the
recorded weights, the lines, lora.png and lora.json to --out.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import landscape_lib as ll

ADAPTERS = ("*lora_*",)
COLORS = {"weights": "#0072B2", "adapters": "#D55E00"}


def main(
    rank: int = 8,
    layers: int = 3,
    steps: int = 600,
    adapter_steps: int = 200,
    tokens: int = 4096,
    directions: int = 8,
    span: float = 1.0,
    farthest: float = 8.0,
    seed: int = 42,
    device: str = "auto",
    out: Path = Path("lora_results"),
) -> None:
    """The loss along random lines of the adapters and of the weights, at equal coordinates and at equal distance.

    Args:
        rank: Rank of the adapters.
        layers: Blocks of the GPT, of width 128.
        steps: Training steps of the GPT on the topics of pydoc.
        adapter_steps: Training steps of the adapters, on the same text.
        tokens: Held-out tokens that the loss is evaluated on.
        directions: Lines of each kind.
        span: The lines of the weights go from 0 to SPAN, in units of the filter norms.
        farthest: Those of the adapters go FARTHEST times as far, to move the weights as much.
        seed: Of weights, sequences and directions.
        device: auto, cpu, cuda, cuda:N or mps.
        out: Folder for the results.
    """
    out = ll.cli.make_folder(out)
    training = ll.cli.LanguageTraining(steps=steps, points=2, seed=seed)
    choice = ll.cli.LanguageChoice(tokens=tokens, device=device, lora=str(rank), adapter_steps=adapter_steps)
    subject = ll.cli.load_language_subject(choice, ll.cli.GPTOptions(layers=layers), training, out)
    model = ll.cli.with_adapters(subject, choice, training, out)
    target = choice.objective_of(model, subject.parts["held-out"])
    kinds = {
        "weights": ({"parameters": ("*base_layer.weight",)}, span),
        "adapters": ({"parameters": ADAPTERS}, span * farthest),
    }
    lines, moved = {}, {}
    for kind, (options, end) in kinds.items():
        lines[kind], moved[kind] = [], []
        for k in range(directions):
            line = ll.random_line(model, seed=seed + k, **options)
            lines[kind].append(
                ll.load_or_evaluate(out / f"line_{kind}_{k}.npz", target, line, alpha_range=(0, end), resolution=17)
            )
            moved[kind].append([distance(model, line, t) for t in lines[kind][-1].alphas])
    wrote(ll.save_figure(draw(lines, moved, span), out / "lora.png"))
    rises = {kind: rise_at(lines[kind], moved[kind], 0.1) for kind in lines}
    print("\n".join(f"{kind}: {rise:.3g} nats a token at |dW| / |W| = 0.1 (mean)" for kind, rise in rises.items()))
    wrote(ll.cli.write_json(out / "lora.json", {"rank": rank, "rise at |dW| / |W| = 0.1": rises}))


def distance(model: nn.Module, line: ll.Line, t: float) -> float:
    """|dW| / |W| of the adapted layers at the coordinate ``t`` of ``line``."""
    return ll.cli.adapter_step(model, ll.model_at(model, {**ll.parameters_of(model), **line(float(t))}))


def rise_at(lines: list[ll.Surface], moved: list[list[float]], distance: float) -> float:
    """The mean rise of the loss where the weights have moved so far, linear between the points of the lines."""
    rises = [np.interp(distance, x, line.loss - line.loss[0]) for line, x in zip(lines, moved, strict=True)]
    return float(np.mean(rises))


def draw(lines: dict[str, list[ll.Surface]], moved: dict[str, list[list[float]]], span: float) -> Figure:
    """The rise of the loss against the coordinate, and against the distance that the weights move."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    shortest = min(x[-1] for several in moved.values() for x in several)
    highest = 0.0
    for kind, surfaces in lines.items():
        for k, surface in enumerate(surfaces):
            rise, label = surface.loss - surface.loss[0], f"random lines of the {kind}" if k == 0 else None
            for ax, x, end in zip(panels, (surface.alphas, np.array(moved[kind][k])), (span, shortest), strict=True):
                ax.plot(x, rise, color=COLORS[kind], linewidth=1, alpha=0.7, label=label)
                highest = max(highest, float(np.interp(end, x, rise)))
    panels[0].set(xlim=(0, span), xlabel="coordinate, filter-norm units", ylabel="rise of the loss, nats a token")
    panels[1].set(xlim=(0, shortest), ylim=(-0.05 * highest, 1.1 * highest), xlabel="|dW| / |W| of the adapted layers")
    for ax, title in zip(panels, ("at equal coordinate", "at equal distance"), strict=True):
        ax.set_title(title, fontsize=10)
    panels[0].legend(fontsize=8)
    return figure


def wrote(path: Path) -> None:
    print(f"Wrote {path}", flush=True)


if __name__ == "__main__":
    ll.cli.run_script(main)
