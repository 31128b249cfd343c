"""AN4's CTC recipe, which can halt before steps until a test lets it go on, and which records what it trains on.

    HALT_FOLDER=/some/folder HALT_AT='[[2, 4]]' torchrun ... tests/support/halting.py RECIPE.yaml ...

Before step 4 of epoch 2, each process writes a file `halted-2-4-RANK` to the folder and waits for a file `go-2-4`.
After every step, it adds a line to `steps-RANK.txt`: epoch, step, and the examples that it was trained on.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

POLLING = 0.05
"""Seconds between two looks for a file."""


def wait_for(condition: Any, seconds: float = 120.0) -> None:
    """Wait until a condition holds; a test that waits in vain fails.

    Raises
    ------
    TimeoutError
        If it does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s in vain")
        time.sleep(POLLING)


def halted(folder: Path, place: tuple[int, int], processes: int = 2) -> bool:
    """Whether all processes have halted before a step of an epoch."""
    return all((folder / f"halted-{place[0]}-{place[1]}-{rank}").exists() for rank in range(processes))


def let_go(folder: Path, place: tuple[int, int]) -> None:
    """Let the processes that have halted there go on."""
    (folder / f"go-{place[0]}-{place[1]}").touch()


def steps(folder: Path, processes: int = 2) -> list[list[tuple[tuple[int, int], list[str]]]]:
    """What each process was trained on, in all its runs: epoch and step, and examples."""
    lines = [(folder / f"steps-{rank}.txt").read_text().splitlines() for rank in range(processes)]
    return [[((epoch, step), names) for epoch, step, names in map(json.loads, each)] for each in lines]


def _main() -> None:
    from biglittle_asr.recipe.run import run
    from biglittle_asr.tasks.speech.ctc import CTCBrain
    from biglittle_asr.tasks.speech.train import train_recognizer

    rank, folder = os.environ["RANK"], Path(os.environ["HALT_FOLDER"])
    places = [tuple(place) for place in json.loads(os.environ.get("HALT_AT", "[]"))]
    fit_batch = CTCBrain.fit_batch

    def fit_and_record(brain: CTCBrain, batch: Any) -> Any:
        epoch, step = brain.hparams.epoch_counter.current, brain.step
        if (epoch, step) in places:
            (folder / f"halted-{epoch}-{step}-{rank}").touch()
            wait_for((folder / f"go-{epoch}-{step}").exists)
        loss = fit_batch(brain, batch)
        names = [] if batch.examples is None else list(batch.examples.id)
        with (folder / f"steps-{rank}.txt").open("a") as file:
            file.write(f"{json.dumps([epoch, step, names])}\n")
        return loss

    CTCBrain.fit_batch = fit_and_record
    run(lambda argv: train_recognizer(argv, "an4", CTCBrain))


if __name__ == "__main__":
    _main()
