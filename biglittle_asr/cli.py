"""The `biglittle` command: each subcommand is an entry in `COMMANDS` and a thin call into a room.

Rooms are imported when their subcommand runs, so that `--help` and `score` do not wait for torch. What a user asked
for goes to standard output, everything else to standard error. Exit status: 0 where the work was done, 1 where it
could not be (one sentence says why), 2 for a command line that makes no sense, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biglittle_asr import __version__

if TYPE_CHECKING:
    import torch

    from biglittle_asr.profiling import Costs, Latency
    from biglittle_asr.scoring import Score


INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
PROGRESS = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"


@dataclass(frozen=True)
class Command:
    """A subcommand."""

    name: str
    """As typed."""
    help: str
    """One line for `biglittle --help`."""
    add_arguments: Callable[[argparse.ArgumentParser], None]
    """Declares its arguments."""
    run: Callable[[argparse.Namespace], None]
    """Does the work; raises ValueError or OSError, with a sentence for the user, if it cannot."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Arguments
    ---------
    arguments : sequence of str
        The words after `biglittle`; taken from the command line if not given.

    Returns
    -------
    int
        Exit status, 0 only where the work was done.

    Raises
    ------
    SystemExit
        After help or version (0), and for wrong usage (2).

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "ref.txt").write_text("one two")
    >>> main(["score", "--ref", str(folder / "ref.txt"), "--hyp", str(folder / "ref.txt"), "--bootstrap", "0"])
    speaker  segments  words  correct  sub  del  ins  errors  WER %  CER %  SER %
    all             1      2        2    0    0    0       0   0.00   0.00   0.00
    <BLANKLINE>
    WER 0.00 % (0 errors in 2 words: 0 sub, 0 del, 0 ins), CER 0.00 %, SER 0.00 % (0 of 1 utterances)
    0
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError) as error:
        _tell(_sentence(error))
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="biglittle", description="Big-Little networks for speech and images.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def _add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", metavar="CORPUS", help="name of the corpus, such as an4, librispeech or imagenet")
    parser.add_argument("data", metavar="DATA", type=Path, help="folder of the corpus as downloaded and unpacked")
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        help="folder for the manifests, one CSV file a split (imagenet: for the images)",
    )
    parser.add_argument("--strict", action="store_true", help="refuse a corpus with faults rather than leave them out")
    _add_json(parser)


def _prepare(options: argparse.Namespace) -> None:
    if options.corpus == "imagenet":
        _prepare_images(options)
        return
    from biglittle_asr.corpora import prepare

    manifests = prepare(options.corpus, options.data, options.out, strict=options.strict)
    splits = {split: _describe(path) for split, path in manifests.items()}
    if options.json:
        print(json.dumps(splits))
        return
    print("split             utterances  speakers   hours  manifest")
    for split, facts in splits.items():
        print("{:<16}{utterances:>12}{speakers:>10}{hours:>8.2f}  {manifest}".format(split, **facts))


def _prepare_images(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from biglittle_asr.corpora.imagenet import arrange, read_image_folder

    with tqdm(unit=" images", disable=None) as bar:

        def show(split: str, done: int, total: int) -> None:
            bar.set_description(split, refresh=False)
            bar.total = total or None
            bar.update(done - bar.n)

        folders = arrange(options.data, options.out, show)
    splits = {}
    for split, folder in folders.items():
        images = read_image_folder(folder)
        splits[split] = {"images": len(images.files), "classes": len(images.classes), "folder": str(folder)}
    if options.json:
        print(json.dumps(splits))
        return
    print("split     images  classes  folder")
    for split, facts in splits.items():
        print("{:<8}{images:>8}{classes:>9}  {folder}".format(split, **facts))


def _describe(manifest: Path) -> dict[str, Any]:
    """Size of a split, from its manifest."""
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        "utterances": len(rows),
        "speakers": len({row["spk_id"] for row in rows}),
        "hours": sum(float(row["duration"]) for row in rows) / 3600,
        "manifest": str(manifest),
    }


def _add_score_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ref", required=True, type=Path, help="file of what was said")
    parser.add_argument("--hyp", required=True, type=Path, help="file of what was recognized")
    parser.add_argument(
        "--format",
        choices=("auto", "plain", "kaldi", "trn"),
        default="auto",
        help="of both files: plain (line against line), kaldi (ID words), trn (words (speaker-utterance)); "
        "auto (the default) takes kaldi or trn only where every line clearly has an ID",
    )
    parser.add_argument(
        "--utt2spk", type=Path, help="file with lines `ID speaker`, for kaldi, or in place of the speakers in trn's IDs"
    )
    parser.add_argument("--alignments", type=Path, help="file to write every utterance's alignment to, errors marked")
    _add_bootstrap(parser)
    parser.add_argument("--case-sensitive", action="store_true", help="count Yes and yes as two words")
    parser.add_argument(
        "--missing-as-empty", action="store_true", help="count an utterance without hypothesis as an empty hypothesis"
    )
    _add_json(parser)


def _score(options: argparse.Namespace) -> None:
    from biglittle_asr.scoring import read_pair, read_utt2spk, score_texts

    pair = read_pair(options.ref, options.hyp, options.format)
    if options.format == "auto":
        _tell(f"reading {options.ref} and {options.hyp} as {pair.format} (if that is wrong, use --format).")
    speakers = pair.references.speakers
    if options.utt2spk is not None:
        if pair.format == "plain":
            raise ValueError(
                f"{options.utt2spk}: plain text has no utterance IDs to find speakers by; use kaldi or trn."
            )
        speakers = read_utt2spk(options.utt2spk)
    score = score_texts(
        pair.references.texts,
        pair.hypotheses.texts,
        speakers,
        bootstrap=options.bootstrap,
        case_sensitive=options.case_sensitive,
        missing_as_empty=options.missing_as_empty,
    )
    if options.alignments is not None:
        score.write(options.alignments, f"{options.hyp} against {options.ref} ({pair.format})")
    _print_score(score, options)


def _print_score(score: Score, options: argparse.Namespace) -> None:
    if options.bootstrap and score.all.wer_low is None:
        _tell("no interval for the WER: that takes two speakers or more, and reference words.")
    print(json.dumps(score.to_dict()) if options.json else f"{score.table()}\n\n{score.summary()}")


def _add_draw_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="encoder preset, image model, model folder, or a recipe's YAML file, which is executed as SpeechBrain "
        "executes it: use files you trust",
    )
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="of its configuration, such as alpha=4")
    parser.add_argument("--output", type=Path, metavar="FILE", help="SVG or PNG (default: the model's name, .svg)")
    _add_image_size(parser)


def _draw(options: argparse.Namespace) -> None:
    import torch

    from biglittle_asr.models import BigLittleEncoder, CTCModel, ImageClassifier, list_encoders, list_models
    from biglittle_asr.profiling import draw_network, save_drawing

    build = _builder(options.model, dict(map(_override, options.overrides)), images=options.image_size is not None)
    named = options.model in (*list_encoders(), *list_models())
    with torch.device("meta") if named else nullcontext():
        network = build()
    if isinstance(network, CTCModel):
        network = network.encoder
    if not isinstance(network, BigLittleEncoder | ImageClassifier):
        raise ValueError(f"{options.model}: is a {type(network).__name__}; only encoders and image models are drawn.")
    output = options.output or Path(f"{Path(options.model).stem}.svg")
    name = " ".join([options.model, *options.overrides])
    save_drawing(draw_network(network, name, options.image_size or 224), output)
    print(output)


def _add_profile_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words",
        metavar="MODEL [KEY=VALUE ...]",
        nargs="+",
        help="one or more of: encoder preset, image model (both with options behind them, such as alpha=2), model "
        "folder, or a recipe's YAML file, which is executed as SpeechBrain executes it: use files you trust",
    )
    parser.add_argument(
        "--convention",
        choices=("macs", "seed-dnw", "micronet"),
        default="macs",
        help="how to count (default: %(default)s); docs/costs.md explains them",
    )
    parser.add_argument("--layers", action="store_true", help="also print a line for every layer")
    parser.add_argument(
        "--sparsity", type=float, metavar="RATE", help="prune this part of each layer's weights, all but the first's"
    )
    parser.add_argument(
        "--dense", action="append", default=[], metavar="PATTERN", help="with --sparsity: keep these layers; repeatable"
    )
    _add_image_size(parser)
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="only list what alpha and beta cost a Big-Little model, and published errors",
    )
    parser.add_argument(
        "--runs", type=_count, default=10, help="forward passes to time, at most (default: %(default)s; 0: none)"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=5.0, help="to time them in, at most, or one pass (default: %(default)g)"
    )
    parser.add_argument("--batch", type=_positive_count, default=1, help="to time (default: %(default)s)")
    parser.add_argument("--threads", type=_positive_count, help="to time with (default: PyTorch's choice)")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="PNG, SVG or PDF to draw the models in by cost and error"
    )
    parser.add_argument(
        "--errors",
        metavar="FILE|E,E,...",
        help="for --plot: errors in percent, in the order of the models, or a CSV file with columns name and error",
    )
    _add_json(parser)


@dataclass(frozen=True)
class _Profile:
    """A model whose costs are asked for."""

    name: str
    costs: dict[str, Costs]
    """Of its parts."""
    measured: Callable[[], tuple[torch.nn.Module, list[torch.Tensor]]]
    """Makes what the latency is measured of, and an input."""
    input: str
    measured_input: str
    acoustic: bool

    def total(self, attribute: str) -> int:
        return sum(getattr(part, attribute) for part in self.costs.values())


def _profile(options: argparse.Namespace) -> None:
    from biglittle_asr.profiling import layer_table
    from biglittle_asr.profiling.tables import check_plot

    if options.sweep:
        _sweep(options)
        return
    if options.dense and options.sparsity is None:
        raise ValueError("--dense keeps layers dense when others are not: say how sparse with --sparsity.")
    if options.errors is not None and options.plot is None:
        raise ValueError("--errors are for a plot: name its file with --plot.")
    if options.plot is not None:
        check_plot(options.plot)
    models = list(_models(options.words))
    errors = _errors(options.errors, [name for name, _, _ in models]) if options.plot is not None else []
    profiles, facts = [], []
    for name, word, overrides in models:
        profile = _profile_model(name, word, overrides, options)
        profiles.append(profile)
        facts.append(_profile_facts(profile, options))
        if not options.json:
            print(_describe_profile(facts[-1], profile))
            if options.layers:
                print(f"\n{layer_table(profile.costs, options.convention)}")
    if options.json:
        print(json.dumps(facts[0] if len(facts) == 1 else {"models": facts}))
    if options.plot is not None:
        _plot_profiles(profiles, facts, errors, options)


def _sweep(options: argparse.Namespace) -> None:
    from biglittle_asr.profiling import sweep, sweep_table

    models = list(_models(options.words))
    for name, word, overrides in models:
        if overrides:
            raise ValueError(f"{name}: --sweep sets alpha and beta itself; leave out {next(iter(overrides))}.")
        if not options.json:
            print(sweep_table(word))
    if options.json:
        tables = [
            {"name": name, "convention": "macs", "variants": [variant.to_dict() for variant in sweep(name)]}
            for name, _, _ in models
        ]
        print(json.dumps(tables[0] if len(tables) == 1 else {"models": tables}))


def _models(words: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, first word and options of each model on the command line; options stand behind the model's word."""
    starts = [index for index, word in enumerate(words) if "=" not in word]
    if not starts or starts[0]:
        raise ValueError(f"'{words[0]}' is an option: name the model before it.")
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        yield " ".join(words[start:end]), words[start], dict(map(_override, words[start + 1 : end]))


def _profile_model(name: str, word: str, overrides: dict[str, Any], options: argparse.Namespace) -> _Profile:
    import torch

    from biglittle_asr.models import BigLittleEncoder, CTCModel, list_encoders, list_models
    from biglittle_asr.nnet.sparse import freeze, sparsify
    from biglittle_asr.profiling import count_costs, encoder_costs, head_costs

    build = _builder(word, overrides, images=options.image_size is not None)

    def make(on: str | None = None) -> torch.nn.Module:
        with torch.device(on) if on is not None else nullcontext():
            module = build()
        return module if options.sparsity is None else sparsify(module, options.sparsity, options.dense)

    # A network known by its name has no weights worth counting: shapes will do, and take neither time nor memory.
    named = word in (*list_encoders(), *list_models())
    module = make("meta" if named else None).eval()
    acoustic = isinstance(module, BigLittleEncoder | CTCModel)
    if acoustic and options.image_size is not None:
        raise ValueError(f"{word}: takes audio, so --image_size does not apply.")
    if isinstance(module, CTCModel):
        encoder = module.encoder
        costs = {"encoder": encoder_costs(encoder), "head": head_costs(module)}
    elif isinstance(module, BigLittleEncoder):
        encoder = module
        costs = {"encoder": encoder_costs(encoder)}
    else:
        size = options.image_size or 224
        channels = getattr(getattr(module, "config", None), "input_channels", 3)
        costs = {"model": count_costs(module, torch.empty(1, channels, size, size, device="meta"))}

    def measured() -> tuple[torch.nn.Module, list[torch.Tensor]]:
        # Frozen: a sparse layer makes its mask in every pass, which a trained network need not.
        network = freeze(make() if named else module)
        if not acoustic:
            return network, [torch.randn(options.batch, channels, size, size)]
        features = torch.randn(options.batch, 1000, encoder.config.input_size)
        lengths = [torch.full((options.batch,), 1000)] if isinstance(network, CTCModel) else []
        return network, [features, *lengths]

    if acoustic:
        taken = f"1 s of audio: 100 frames x {encoder.config.input_size} features"
        return _Profile(name, costs, measured, taken, "10 s of audio", acoustic)
    taken = f"1 image: {channels} x {size} x {size}"
    return _Profile(name, costs, measured, taken, "an image", acoustic)


def _builder(word: str, overrides: dict[str, Any], images: bool) -> Callable[[], torch.nn.Module]:
    """What makes the network that a word on the command line stands for."""
    import difflib

    from biglittle_asr.models import create_encoder, create_model, list_encoders, list_models

    if word in list_encoders() and not (images and word in list_models()):
        return lambda: create_encoder(word, **overrides)
    if word in list_models():
        return lambda: create_model(word, **overrides)
    path = Path(word)
    if path.is_dir():
        from biglittle_asr.inference import load_model

        if overrides:
            raise ValueError(f"{word}: a model folder is what it is; leave out {next(iter(overrides))}.")
        return lambda: load_model(path).model
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        from biglittle_asr.tasks.recipe import load_network

        return lambda: load_network(path, overrides)
    known = [*list_encoders(), *list_models()]
    close = difflib.get_close_matches(word, known, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(
        f"unknown model {word!r}: {hint}known are recipes (FILE.yaml), model folders, options of a model (KEY=VALUE), "
        f"the encoders {', '.join(list_encoders())}, and the image models {', '.join(list_models())}"
    )


def _profile_facts(profile: _Profile, options: argparse.Namespace) -> dict[str, Any]:
    """What --json prints of a model."""
    from biglittle_asr.profiling import count_operations, count_parameters, micronet_scores

    def operations(*parts: str) -> float:
        return sum(count_operations(profile.costs[part], options.convention) for part in parts if part in profile.costs)

    latency = _latency(profile, options)
    facts = {
        "name": profile.name,
        "convention": options.convention,
        "input": profile.input,
        "parameters": sum(count_parameters(part, options.convention) for part in profile.costs.values()),
        "nonzero_parameters": profile.total("nonzero_parameters"),
        "weights": profile.total("weights"),
        "nonzero_weights": profile.total("nonzero_weights"),
        "macs": operations(*profile.costs),
        "nonzero_macs": profile.total("nonzero_macs"),
        "activation_bytes": profile.total("activation_bytes"),
    }
    if profile.acoustic:
        facts |= {"encoder_macs": operations("encoder"), "head_macs": operations("head")}
    elif options.convention != "macs":
        facts["scores"] = micronet_scores(profile.costs["model"])
    facts["latency_ms"] = None if latency is None else latency.facts()
    if latency is not None:
        facts |= {"latency_runs": latency.runs, "machine": latency.machine}
    if options.layers:
        facts["layers"] = [
            {"part": part, **asdict(layer)} for part, counted in profile.costs.items() for layer in counted.layers
        ]
    return facts


def _latency(profile: _Profile, options: argparse.Namespace) -> Latency | None:
    if not options.runs:
        return None
    import torch
    from tqdm import tqdm

    from biglittle_asr.profiling import measure_latency

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    module, example = profile.measured()
    with tqdm(desc=f"timing {profile.name}", unit="pass", delay=2, disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return measure_latency(module, *example, runs=options.runs, seconds=options.seconds, progress=show)


def _describe_profile(facts: dict[str, Any], profile: _Profile) -> str:
    from biglittle_asr.profiling import CONVENTIONS

    convention = CONVENTIONS[facts["convention"]]
    each = "per s of audio" if profile.acoustic else "per image"
    head = "" if not profile.acoustic or "head" in profile.costs else "without an output layer"
    rows = [
        ("parameters", f"{facts['parameters']:,.10g}", head),
        ("  of convolutions, linear", f"{facts['weights']:,}", "weights, zero ones too"),
        ("  of these not zero", f"{facts['nonzero_weights']:,}", ""),
        (f"{convention.unit}", f"{facts['macs']:,.10g}", each),
    ]
    if "head" in profile.costs:
        rows += [(f"  {part}", f"{facts[f'{part}_macs']:,.10g}", each) for part in profile.costs]
    if facts["nonzero_weights"] != facts["weights"]:
        rows.append(("MACs not with zero", f"{facts['nonzero_macs']:,}", each))
    rows.append(("activations, MB", f"{facts['activation_bytes'] / 1e6:,.1f}", f"{each}, all layers together"))
    rows += [(f"score, {name}", f"{score:.6f}", "") for name, score in facts.get("scores", {}).items()]
    latency = facts["latency_ms"]
    if latency is not None:
        rows.append(
            (
                "latency, ms",
                f"{latency['median']:.1f}",
                f"{profile.measured_input}: {latency['low']:.1f} to {latency['high']:.1f} in {facts['latency_runs']} "
                f"runs, {latency['threads']} threads, batch {latency['batch']}, {latency['dtype']}",
            )
        )
        rows.append(("", "", facts["machine"]))
    width = max(len(row[0]) for row in rows)
    lines = [f"  {name:{width}}  {value:>16}  {remark}".rstrip() for name, value, remark in rows]
    return "\n".join(
        [facts["name"], f"  input: {facts['input']}", f"  convention {facts['convention']}: {convention.rule}", *lines]
    )


def _errors(text: str | None, names: Sequence[str]) -> list[float]:
    """Errors of the models, in their order, from a CSV file or the words themselves."""
    if text is None:
        raise ValueError("--plot takes the models' errors as well: give them with --errors.")
    path = Path(text)
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"name", "error"} <= rows[0].keys():
            raise ValueError(f"{text}: has no rows with columns name and error.")
        found = {row["name"]: row["error"] for row in rows}
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(f"{text}: has no error of '{missing[0]}'.")
        values = [found[name] for name in names]
    else:
        values = text.split(",")
        if len(values) != len(names):
            raise ValueError(f"--errors: {len(values)} errors for {len(names)} models; give one for each.")
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise ValueError(f"--errors {text}: errors are numbers, in percent.") from error


def _plot_profiles(
    profiles: Sequence[_Profile], facts: Sequence[dict[str, Any]], errors: Sequence[float], options: argparse.Namespace
) -> None:
    from biglittle_asr.profiling import CONVENTIONS, Point, plot_costs

    if len({profile.acoustic for profile in profiles}) > 1:
        raise ValueError("--plot: MACs per image and per second of audio are not the same; plot one kind of model.")
    unit = CONVENTIONS[options.convention].unit
    each = "second of audio" if profiles[0].acoustic else "image"
    points = [Point(fact["name"], fact["macs"], error) for fact, error in zip(facts, errors, strict=True)]
    plot_costs(points, options.plot, cost=f"{unit} per {each} (convention: {options.convention})")


def _add_pack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", metavar="EXPERIMENT", type=Path, help="output folder of a recipe")
    parser.add_argument("out", metavar="OUT", type=Path, help="model folder to write")


def _pack(options: argparse.Namespace) -> None:
    from biglittle_asr.inference import pack

    print(pack(options.experiment, options.out))


def _add_transcribe_arguments(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument(
        "audio",
        metavar="AUDIO",
        nargs="+",
        help="audio file, folder, manifest (CSV file with columns ID and wav), or - for standard input",
    )
    parser.add_argument(
        "--format",
        choices=("text", "json", "ctm", "srt"),
        default="text",
        help="json, ctm and srt have the times of words, json and ctm also confidences (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="short for --format json")
    parser.add_argument(
        "--stream",
        action="store_true",
        help="print words as they come, from one file, pipe or standard input; takes a causal model",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="file, or folder for a file a recording (if it is new, end it in a slash); standard output if not given",
    )
    parser.add_argument(
        "--channel", type=_positive_count, metavar="N", help="read channel N, from 1; the mean of all if not given"
    )
    parser.add_argument(
        "--window",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="longer audio is read in windows of this size; it changes memory, but no word (default: %(default)g)",
    )
    _add_batch_seconds(parser)
    parser.add_argument("--profile", action="store_true", help="show at the end where the time went")


def _transcribe(options: argparse.Namespace) -> None:
    if options.stream:
        _transcribe_stream(options)
        return
    from tempfile import TemporaryDirectory

    import torch

    from biglittle_asr.inference import load_model
    from biglittle_asr.inference.formats import Output
    from biglittle_asr.inference.inputs import find_recordings
    from biglittle_asr.inference.transcription import Failure, transcribe
    from biglittle_asr.profiling import Stopwatch

    recognizer = load_model(options.model, _device(options.device))
    if options.profile:
        on_gpu = recognizer.model.output.weight.is_cuda
        recognizer.stopwatch = Stopwatch(synchronize=torch.cuda.synchronize if on_gpu else None)
    with TemporaryDirectory(prefix="biglittle") as spool:
        recordings = find_recordings(options.audio, Path(spool), options.channel)
        output = Output(options.format, options.output, len(recordings) > 1)
        failures: list[Failure] = []
        with _audio_progress("transcribing") as progress:
            for result in transcribe(
                recognizer,
                recordings,
                window_seconds=options.window,
                batch_seconds=options.batch_seconds,
                progress=progress,
            ):
                if isinstance(result, Failure):
                    failures.append(result)
                    if len(recordings) > 1:
                        _tell(str(result.error))
                output.add(result)
        output.finish([recording.name for recording in recordings])
    if options.profile:
        _tell("where the time went, without loading the model:\n" + recognizer.stopwatch.table())
    if failures and len(recordings) == 1:
        raise failures[0].error
    if failures:
        raise ValueError(f"{len(failures)} of {len(recordings)} recordings could not be transcribed.")


def _transcribe_stream(options: argparse.Namespace) -> None:
    from biglittle_asr.inference import load_model
    from biglittle_asr.inference.inputs import find_stream
    from biglittle_asr.inference.streaming import transcribe_stream

    if len(options.audio) != 1 or options.format != "text" or options.output is not None:
        raise ValueError("--stream prints the words of one recording: take one, as text, without --output.")
    recognizer = load_model(options.model, _device(options.device))
    between = ""
    try:
        for word in transcribe_stream(recognizer, find_stream(options.audio[0], options.channel)):
            print(f"{between}{word.text}", end="", flush=True)
            between = " "
    finally:
        # The line ends where the audio does, or where the user stops it.
        if between:
            print()


def _add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    _add_model(parser, "model folder, or name of an image model, such as bl_resnet50")
    parser.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        help="manifest (CSV file with columns ID, wav, wrd, spk_id), with --corpus the corpus as downloaded, or, of "
        "images, a folder of class folders",
    )
    parser.add_argument("--weights", metavar="FILE", type=Path, help="checkpoint of an image model that is named")
    parser.add_argument("--skip-bad", "--skip_bad", action="store_true", help="leave out images that cannot be read")
    parser.add_argument(
        "--batch-size", "--batch_size", type=_positive_count, default=64, help="images at once (default: %(default)s)"
    )
    parser.add_argument(
        "--workers", type=_count, default=0, help="processes that read images (default: %(default)s: this one)"
    )
    parser.add_argument("--corpus", help="name of the corpus in DATA, such as an4 or librispeech")
    parser.add_argument("--split", default="test", help="of the corpus (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, help="file to write counts and every utterance's alignment to, errors marked"
    )
    _add_bootstrap(parser)
    _add_batch_seconds(parser)
    _add_json(parser)


def _evaluate(options: argparse.Namespace) -> None:
    from biglittle_asr.inference.images import is_classifier

    if is_classifier(str(options.model)):
        _evaluate_images(options)
    elif options.weights is not None:
        from biglittle_asr.models import list_models

        names = ", ".join(list_models())
        raise ValueError(f"{options.model}: is no image model's name, which --weights needs; choose one of {names}.")
    else:
        _evaluate_speech(options)


def _evaluate_images(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from biglittle_asr.inference.images import evaluate_images, find_images, load_classifier

    classifier = load_classifier(str(options.model), options.weights)
    images = find_images(classifier, options.data, options.skip_bad)
    if images.empty:
        _tell(f"{len(images.empty)} class folders are empty, such as {images.folder / images.empty[0]}.")
    with tqdm(desc="evaluating", unit=" images", total=len(images.files), disable=None) as bar:
        score = evaluate_images(
            classifier,
            images,
            batch_size=options.batch_size,
            workers=options.workers,
            device=_device(options.device),
            skip_bad=options.skip_bad,
            progress=lambda done, _: bar.update(done - bar.n),
            report=_tell,
        )
    if options.json:
        print(json.dumps(score.to_dict()))
        return
    print(f"{classifier.name} on {images.folder}: {score.images} images, {score.skipped} skipped")
    print(f"  top-1 accuracy  {score.top1:6.2f} %   (error {100 - score.top1:.2f} %)")
    print(f"  top-5 accuracy  {score.top5:6.2f} %   (error {100 - score.top5:.2f} %)")
    print(f"  cross-entropy   {score.loss:8.4f} nats")


def _evaluate_speech(options: argparse.Namespace) -> None:
    from tempfile import TemporaryDirectory

    from biglittle_asr.corpora import prepare
    from biglittle_asr.corpora.manifest import read_manifest
    from biglittle_asr.inference import load_model
    from biglittle_asr.inference.evaluation import EVALUATION_COLUMNS, evaluate
    from biglittle_asr.inference.transcription import Failure

    if options.corpus is None:
        if options.data.is_dir():
            raise ValueError(f"{options.data}: a folder, where a manifest is expected; name its corpus with --corpus.")
        rows = read_manifest(options.data, EVALUATION_COLUMNS)
    else:
        with TemporaryDirectory(prefix="biglittle") as folder:
            manifests = prepare(options.corpus, options.data, folder)
            if options.split not in manifests:
                splits = ", ".join(manifests)
                raise ValueError(f"{options.data}: no split {options.split}; choose one of {splits} with --split.")
            rows = read_manifest(manifests[options.split])
    if options.output is not None and not options.output.parent.is_dir():
        raise ValueError(f"{options.output.parent}: no such folder; make it, or write the output elsewhere.")
    recognizer = load_model(options.model, _device(options.device))
    failures: list[Failure] = []

    def report(failure: Failure) -> None:
        failures.append(failure)
        _tell(str(failure.error))

    with _audio_progress("evaluating") as progress:
        score = evaluate(
            recognizer,
            rows,
            batch_seconds=options.batch_seconds,
            bootstrap=options.bootstrap,
            progress=progress,
            report=report,
        )
    if options.output is not None:
        score.write(options.output, f"{options.model} on {options.data}")
    _print_score(score, options)
    if failures:
        raise ValueError(f"{len(failures)} of {len(rows)} utterances could not be transcribed, and are not scored.")


def _override(text: str) -> tuple[str, Any]:
    """Key and value of `alpha=2`; a value is a number, a list, true or false, or else text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"'{text}' is not KEY=VALUE, such as alpha=2.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


COMMANDS = (
    Command("draw", "Draw a network: branches and merges, with shapes and MACs.", _add_draw_arguments, _draw),
    Command(
        "evaluate",
        "Measure a model's errors on a manifest, a corpus or a folder of images.",
        _add_evaluate_arguments,
        _evaluate,
    ),
    Command("pack", "Make a model folder of what a recipe trained.", _add_pack_arguments, _pack),
    Command("prepare", "Check a corpus and write its manifests.", _add_prepare_arguments, _prepare),
    Command("profile", "Count a model's parameters and MACs, and time it.", _add_profile_arguments, _profile),
    Command("score", "Compare recognized words with what was said.", _add_score_arguments, _score),
    Command("transcribe", "Write down the words of audio.", _add_transcribe_arguments, _transcribe),
)


def _add_image_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image-size",
        "--image_size",
        type=_positive_count,
        metavar="N",
        help="of image models, in pixels (default: 224); says also that an image model is meant by a name that an "
        "encoder has as well",
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of the table")


def _add_model(parser: argparse.ArgumentParser, description: str = "model folder") -> None:
    parser.add_argument("model", metavar="MODEL", type=Path, help=description)
    parser.add_argument("--device", default="cpu", help="such as cuda (default: %(default)s)")


def _device(name: str) -> torch.device:
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"--device {name}: not usable here ({reason}); take cpu.") from error
    return device


def _add_bootstrap(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bootstrap",
        type=_count,
        default=1000,
        metavar="N",
        help="sets of speakers drawn for the 95 %% interval of the WER (default: %(default)s; 0: no interval)",
    )


def _add_batch_seconds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-seconds",
        "--batch_seconds",
        type=_seconds,
        default=120.0,
        metavar="SECONDS",
        help="audio of a batch, which changes no word (default: %(default)g)",
    )


@contextmanager
def _audio_progress(description: str) -> Iterator[Callable[[float, float], None]]:
    """A progress bar over seconds of audio, done and in all, on standard error where that is a terminal."""
    from tqdm import tqdm

    with tqdm(desc=description, unit=" s of audio", disable=None, bar_format=PROGRESS) as bar:

        def show(done: float, total: float) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 0 or more")
    return int(text)


def _positive_count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of 1 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds above 0")
    return seconds


def _tell(message: str) -> None:
    # A progress bar, where there is one, steps aside.
    bars = sys.modules.get("tqdm")
    with bars.tqdm.external_write_mode(file=sys.stderr) if bars is not None else nullcontext():
        print(f"biglittle: {message}", file=sys.stderr)


def _sentence(error: Exception) -> str:
    """What to tell the user; the system's own errors (a full disk, a folder in place of a file) name the file last."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        return f"{place}{error.strerror}."
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
