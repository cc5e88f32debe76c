"""The `dcgan-vanilla` preset against the classical loop, at the same mathematics: 1.15 times is the aim.

Run: python -m benchmarks.dcgan_vs_classic [--rounds 30]
"""

from typing import Annotated

import typer

from benchmarks.loops import STEPS_A_TURN, atelier, classical, settled
from benchmarks.side_by_side import side_by_side


def main(rounds: Annotated[int, typer.Option(help="Turns of each loop.")] = 30) -> None:
    """Time both at 32 x 32, width 32, batch 64 by turns."""
    spec = settled("dcgan-vanilla")
    comparison = side_by_side(atelier(spec), classical(spec), rounds)
    images = STEPS_A_TURN * spec.batch_size
    print(
        f"{STEPS_A_TURN} steps of Atelier's loop ({spec.memory_format}) and the classical one: {comparison}"
    )
    print(f"{images / comparison.first:,.0f} against {images / comparison.second:,.0f} images a second")


if __name__ == "__main__":
    typer.run(main)
