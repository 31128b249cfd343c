"""`biglittle lm`: train an n-gram language model."""

from __future__ import annotations

import argparse
import json
from itertools import chain
from pathlib import Path

from biglittle_asr.commands.shared import check_output, positive_count, tell


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "text",
        metavar="TEXT",
        type=Path,
        nargs="+",
        help="text file, one sentence per line, or manifest (CSV file with columns ID, wav, wrd)",
    )
    parser.add_argument("arpa", metavar="OUT.arpa", type=Path, help="ARPA file to write")
    parser.add_argument(
        "--order",
        type=positive_count,
        default=3,
        metavar="N",
        help="order of the model, the length of the longest n-grams (default: %(default)s)",
    )
    parser.add_argument(
        "--tokens",
        type=Path,
        metavar="MODEL",
        help="train on the tokens (characters, word pieces) of this model folder instead of words; such a language "
        "model has no fixed vocabulary, and needs a higher order, such as 6",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a line")


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    from biglittle_asr.decoding.lm.arpa import write_arpa
    from biglittle_asr.decoding.lm.ngram import train_ngrams
    from biglittle_asr.decoding.lm.sentences import read_sentences, token_sentences
    from biglittle_asr.inference.folder.store import find_folder
    from biglittle_asr.tokens.tokenizer import load_tokenizer

    check_output(options.arpa)
    if options.arpa in options.text:
        raise ValueError(f"{options.arpa}: is the text and the file to write; name the text first, then a new file.")
    sentences = chain.from_iterable(map(read_sentences, options.text))
    if options.tokens is not None:
        tokenizer = load_tokenizer(find_folder(options.tokens) / "tokenizer.json")
        model = train_ngrams(token_sentences(sentences, tokenizer), options.order)
    else:
        model = train_ngrams(sentences, options.order)
    write_arpa(options.arpa, model.orders)
    for remark in model.remarks(options.order):
        tell(remark)
    if options.json:
        counts = [len(grams) for grams in model.orders]
        print(json.dumps({"arpa": str(options.arpa), "ngrams": counts, "fallback_orders": model.fallback_orders}))
    else:
        print(f"{options.arpa}: {model}")
