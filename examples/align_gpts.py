"""Measure the barrier between two small GPTs trained from different seeds on one text, before and after alignment.

    python examples/align_gpts.py                                       # minutes on two cores
    python examples/align_gpts.py --layers 1 --steps 60 --tokens 1024 --resolution 5          # a quick look

Both learn the topics of pydoc, with the same settings except for the seed. Heads, the dimensions inside them, the units
of the MLPs and the residual stream of the second GPT are permuted, which does not change what it computes; the loss on
the straight line to the first GPT, on held-out text, is drawn before and after. The script writes the recorded weights,
barriers.png and barriers.json to --out, and trains nothing twice.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import landscape_lib as ll


def main(
    layers: int = 2,
    steps: int = 400,
    tokens: int = 4096,
    resolution: int = 15,
    seeds: tuple[int, int] = (0, 1),
    device: str = "auto",
    out: Path = Path("align_gpts_results"),
) -> None:
    """Barriers between two GPTs, before and after alignment.

    Args:
        layers: Blocks of the GPTs, of width 128.
        steps: Training steps.
        tokens: Held-out tokens that the loss is evaluated on.
        resolution: Number of points on every line.
        seeds: Seeds of weights and sequences of the two GPTs.
        device: auto, cpu, cuda, cuda:N or mps.
        out: Folder for the results.
    """
    out, training = ll.cli.make_folder(out), ll.cli.LanguageTraining(steps=steps, points=2, seed=seeds[0])
    choice, network = ll.cli.LanguageChoice(tokens=tokens, device=device), ll.cli.GPTOptions(layers=layers)
    first, second = (
        ll.cli.load_language_subject(
            choice, network, replace(training, seed=seed), ll.cli.make_folder(out / f"seed_{seed}")
        )
        for seed in seeds
    )  # fmt: skip
    target = choice.objective_of(first.model, first.parts["held-out"])
    result = ll.connectivity(target, first.model, second.model, resolution=resolution, seed=seeds[0])
    print(ll.cli.barrier_table(result.barriers))
    wrote(ll.save_figure(ll.plot_barriers(result.barriers), out / "barriers.png"))
    record = {
        "settings": {"layers": layers, "steps": steps, "tokens": tokens, "seeds": list(seeds)},
        "barriers": {name: barrier.numbers for name, barrier in result.barriers.items()},
        "alignments": {
            method: {"rounds": aligned.rounds, "converged": aligned.converged, "deviation": aligned.deviation}
            for method, aligned in result.alignments.items()
        },
    }
    wrote(ll.cli.write_json(out / "barriers.json", record))


def wrote(path: Path) -> None:
    print(f"Wrote {path}", flush=True)


if __name__ == "__main__":
    ll.cli.run_script(main)
