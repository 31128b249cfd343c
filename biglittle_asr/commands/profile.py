"""`biglittle profile`: the costs of networks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biglittle_asr.commands.networks import find_network, override
from biglittle_asr.commands.shared import add_image_size, add_json, count, positive_count, positive_seconds
from biglittle_asr.files import read_table

if TYPE_CHECKING:
    import torch

    from biglittle_asr.profiling import Costs, Latency


SWEPT = ("words", "sweep", "json")
"""Arguments that --sweep reads."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "words",
        metavar="MODEL [KEY=VALUE ...]",
        nargs="+",
        help="one or more of: encoder preset or image model, each followed by its options, such as alpha=2; model "
        "folder; or a recipe's YAML file, which is executed as in SpeechBrain: use only files you trust",
    )
    parser.add_argument(
        "--convention",
        choices=("macs", "seed-dnw", "micronet"),
        default="macs",
        help="counting convention (default: %(default)s); see docs/costs.md",
    )
    parser.add_argument("--layers", action="store_true", help="also print one line per layer")
    parser.add_argument(
        "--sparsity", type=float, metavar="RATE", help="prune this fraction of the weights in each layer but the first"
    )
    parser.add_argument(
        "--dense",
        action="append",
        default=[],
        metavar="PATTERN",
        help="with --sparsity, keep these layers dense; may be repeated",
    )
    add_image_size(parser)
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="only list the cost of a Big-Little model for each alpha and beta, with published errors",
    )
    parser.add_argument(
        "--runs", type=count, default=10, help="most forward passes to time (default: %(default)s; 0 for none)"
    )
    parser.add_argument(
        "--seconds",
        type=positive_seconds,
        default=5.0,
        help="time limit for them in seconds; one pass is always timed (default: %(default)g)",
    )
    parser.add_argument("--batch", type=positive_count, default=1, help="batch size for timing (default: %(default)s)")
    parser.add_argument("--threads", type=positive_count, help="threads for timing (default: PyTorch's choice)")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="PNG, SVG or PDF file to write, with a plot of the models by cost and error",
    )
    parser.add_argument(
        "--errors",
        metavar="FILE|E,E,...",
        help="for --plot, errors in percent in the order of the models, or a CSV file with columns name and error",
    )
    add_json(parser)


@dataclass(frozen=True)
class _Profile:
    """A model to profile."""

    name: str
    costs: dict[str, Costs]
    """Costs of its parts, by name."""
    measured: Callable[[], tuple[torch.nn.Module, list[torch.Tensor]]]
    """Makes the module whose latency is measured, and its input."""
    input: str
    measured_input: str
    acoustic: bool

    def total(self, attribute: str) -> int:
        return sum(getattr(part, attribute) for part in self.costs.values())


def run(options: argparse.Namespace) -> None:
    """Run the command; raises ValueError or OSError, with a sentence for the user, if it fails."""
    from biglittle_asr.profiling import layer_table
    from biglittle_asr.profiling.tables import check_plot

    if options.sweep:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        default = vars(parser.parse_args(["MODEL"]))
        ignored = [name for name in default if name not in SWEPT and getattr(options, name) != default[name]]
        if ignored:
            raise ValueError(
                "--sweep only lists MACs (convention macs), of images of 224 x 224 pixels as published, and times "
                f"nothing; leave out --{ignored[0].replace('_', '-')}."
            )
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
    """Yield the name, first word and options of each model on the command line; options follow the model's word."""
    starts = [index for index, word in enumerate(words) if "=" not in word]
    if not starts or starts[0]:
        raise ValueError(f"'{words[0]}' is an option: name the model before it.")
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        yield " ".join(words[start:end]), words[start], dict(map(override, words[start + 1 : end]))


def _profile_model(name: str, word: str, overrides: dict[str, Any], options: argparse.Namespace) -> _Profile:
    import torch

    from biglittle_asr.models import BigLittleEncoder, CTCModel
    from biglittle_asr.nnet.sparse import freeze, sparsify
    from biglittle_asr.profiling import count_costs, encoder_costs, head_costs

    network = find_network(word, overrides, options.image_size)

    def make(on: str | None = None) -> torch.nn.Module:
        with torch.device(on) if on is not None else nullcontext():
            module = network.build()
        return module if options.sparsity is None else sparsify(module, options.sparsity, options.dense)

    # The weights of a preset are random, so shapes suffice; on the meta device they take neither time nor memory.
    module = make("meta" if network.named else None).eval()
    acoustic = isinstance(module, BigLittleEncoder | CTCModel)
    if acoustic and options.image_size is not None:
        raise ValueError(f"{word}: takes audio, so --image-size does not apply.")
    if isinstance(module, CTCModel):
        encoder = module.encoder
        costs = {"encoder": encoder_costs(encoder), "head": head_costs(module)}
    elif isinstance(module, BigLittleEncoder):
        encoder = module
        costs = {"encoder": encoder_costs(encoder)}
    else:
        size = network.image_size
        channels = getattr(getattr(module, "config", None), "input_channels", 3)
        costs = {"model": count_costs(module, torch.empty(1, channels, size, size, device="meta"))}

    def measured() -> tuple[torch.nn.Module, list[torch.Tensor]]:
        # Frozen, since a sparse layer computes its mask in every pass, which a released network does not.
        frozen = freeze(make() if network.named else module)
        if not acoustic:
            return frozen, [torch.randn(options.batch, channels, size, size)]
        features = torch.randn(options.batch, 1000, encoder.config.input_size)
        lengths = [torch.full((options.batch,), 1000)] if isinstance(frozen, CTCModel) else []
        return frozen, [features, *lengths]

    if acoustic:
        taken = f"1 s of audio: 100 frames x {encoder.config.input_size} features"
        return _Profile(name, costs, measured, taken, "10 s of audio", acoustic)
    taken = f"1 image: {channels} x {size} x {size}"
    return _Profile(name, costs, measured, taken, "an image", acoustic)


def _profile_facts(profile: _Profile, options: argparse.Namespace) -> dict[str, Any]:
    """The facts about a model that --json prints."""
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
    """Read the errors of the models, in their order, from a CSV file or a list such as 23.1,22.4."""
    if text is None:
        raise ValueError("--plot takes the models' errors as well: give them with --errors.")
    path = Path(text)
    if path.suffix.lower() == ".csv":
        found = {row["name"]: row["error"] for row in read_table(path, ("name", "error"))}
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
