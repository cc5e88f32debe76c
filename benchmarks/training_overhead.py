"""What the loop costs above a bare torch loop of the same networks: at most 5 % is the aim.

Run: python -m benchmarks.training_overhead [--rounds 30]
"""

from typing import Annotated

import typer

from benchmarks.loops import STEPS_A_TURN, atelier, bare, settled
from benchmarks.side_by_side import side_by_side


def main(rounds: Annotated[int, typer.Option(help="Turns of each loop.")] = 30) -> None:
    """Time dcgan-vanilla at 32 x 32, width 32, batch 64 in both loops by turns."""
    spec = settled("dcgan-vanilla")
    comparison = side_by_side(bare(spec), atelier(spec), rounds)
    print(f"{STEPS_A_TURN} steps of the bare loop and of Atelier's ({spec.memory_format}): {comparison}")
    print(f"overhead {100 * (comparison.ratio - 1):+.1f} %")


if __name__ == "__main__":
    typer.run(main)
