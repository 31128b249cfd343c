"""train_log.txt and tensorboard: one line or point per epoch, whatever was interrupted.

Both follow the epochs that the checkpoints hold. They are appended to during training. They are rewritten when a
training starts and after an evaluation, so that entries that a killed run wrote twice or not at all appear exactly
once.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechbrain.utils.train_logger import FileTrainLogger, TensorboardLogger, TrainLogger

from biglittle_asr.files import replacing

Row = Mapping[str, float]
"""One row of an :class:`~biglittle_asr.tasks.engine.curves.EpochHistory`."""


def log_epoch(row: Row, logger: TrainLogger, verbose: bool = True) -> None:
    """Append an epoch to train_log.txt and, if `verbose`, print it."""
    meta = {name: row[name] for name in ("epoch", "lr", "seconds")}
    logger.log_stats({**meta, "epoch": int(row["epoch"])}, *_statistics(row), verbose=verbose)


def draw_epoch(row: Row, board: TensorboardLogger) -> None:
    """Add an epoch's points to tensorboard."""
    train, dev = _statistics(row)
    # SpeechBrain's logger counts calls: after a resume it would start again at the first epoch.
    before = int(row["epoch"]) - 1
    board.global_step = {
        "train": dict.fromkeys(train, before),
        "valid": dict.fromkeys(dev, before),
        "test": {},
        "meta": before,
    }
    board.log_stats({"lr": row["lr"], "seconds": row["seconds"]}, train, dev)


def rewrite_log(rows: Sequence[Row], evaluations: Sequence[Mapping[str, Any]], logger: TrainLogger) -> None:
    """Make train_log.txt hold exactly these epochs and evaluations; other kinds of logger are left alone.

    Arguments
    ---------
    rows : sequence of dict
        Rows of the history.
    evaluations : sequence of dict
        Each with the keys "Evaluated", "weights", and results by name, such as "WER".
    logger : TrainLogger
        Writes the file.
    """
    if not isinstance(logger, FileTrainLogger):
        return
    whole = Path(logger.save_file)
    with replacing(whole) as temporary:
        temporary.write_text("", encoding="utf-8")
        logger.save_file = str(temporary)
        try:
            for row in rows:
                log_epoch(row, logger, verbose=False)
            for each in evaluations:
                meta = {name: each[name] for name in ("Evaluated", "weights")}
                results = {name: value for name, value in each.items() if name not in meta}
                logger.log_stats(meta, test_stats=results, verbose=False)
        finally:
            logger.save_file = str(whole)


def restart_board(rows: Sequence[Row], board: TensorboardLogger) -> TensorboardLogger:
    """Make a tensorboard logger that holds these epochs' points, in place of `board` and of earlier runs' files."""
    board.writer.close()
    for events in Path(board.save_dir).glob("events.out.tfevents.*"):
        events.unlink()
    fresh = type(board)(board.save_dir)
    for row in rows:
        draw_epoch(row, fresh)
    return fresh


def _statistics(row: Row) -> tuple[dict[str, float], dict[str, float]]:
    """Statistics of train and of dev for an epoch, by the columns' names."""
    train, dev = (
        {_display(name.removeprefix(prefix)): value for name, value in row.items() if name.startswith(prefix)}
        for prefix in ("train_", "dev_")
    )
    return train, dev


def _display(name: str) -> str:
    return name.upper() if name in ("wer", "cer") else name
