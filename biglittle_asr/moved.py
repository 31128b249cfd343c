"""Former names of modules, so that older YAML files and scripts still work.

`biglittle_asr/__init__.py` installs :class:`MovedModules`. An old name then gives the new module, with a
`DeprecationWarning` that gives the new name. The table lists the modules that documentation, recipes and YAML files
have named.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

PACKAGE = "biglittle_asr"
MOVED: dict[str, tuple[str, ...]] = {
    "corpora.audio": ("audio.files",),
    "corpora.containers": ("audio.containers",),
    "corpora.espeak": ("corpora.synthesis.espeak",),
    "corpora.ffmpeg": ("audio.ffmpeg",),
    "corpora.fisher": ("corpora.telephone.fisher",),
    "corpora.hub5": ("corpora.telephone.hub5",),
    "corpora.image_folder": ("corpora.images.folder",),
    "corpora.imagenet": ("corpora.images.imagenet",),
    "corpora.shards": ("shards",),
    "corpora.sphere": ("audio.sphere",),
    "corpora.switchboard": ("corpora.telephone.switchboard",),
    "corpora.telephone_synthesis": ("corpora.telephone.synthesis",),
    "corpora.transcripts": ("corpora.telephone.transcripts",),
    "decoding.arpa": ("decoding.lm.arpa",),
    "decoding.beam": ("decoding.ctc.beam",),
    "decoding.greedy": ("decoding.ctc.greedy",),
    "decoding.hmm.lexicon": ("tokens.lexicon",),
    "decoding.hotwords": ("decoding.ctc.hotwords",),
    "decoding.hybrid": ("decoding.hmm.decoder",),
    "decoding.language_model": ("decoding.lm.language_model",),
    "decoding.lexicon": ("decoding.ctc.lexicon",),
    "decoding.ngram": ("decoding.lm.ngram",),
    "decoding.sentences": ("decoding.lm.sentences",),
    "decoding.tokenizer": ("tokens.tokenizer",),
    "decoding.words": ("tokens.words",),
    "inference.card": ("inference.folder.card",),
    "inference.config": ("inference.folder.config", "files", "messages"),
    "inference.formats": ("inference.transcripts",),
    "inference.images": ("inference.classification", "inference.folder.classifier"),
    "inference.kinds": ("inference.folder.kinds",),
    "inference.packing": ("inference.folder.packing",),
    "inference.weights": ("inference.folder.weights",),
    "scoring.assignment": ("scoring.nist.assignment",),
    "scoring.ctm": ("scoring.nist.ctm",),
    "scoring.files": ("scoring.texts",),
    "scoring.glm": ("scoring.nist.glm",),
    "scoring.graph_alignment": ("scoring.nist.graph_alignment",),
    "scoring.hub5": ("scoring.nist.score",),
    "scoring.hub5_report": ("scoring.nist.report",),
    "scoring.matched_pairs": ("scoring.nist.matched_pairs",),
    "scoring.stm": ("scoring.nist.stm",),
    "scoring.wordgraph": ("scoring.nist.wordgraph",),
    "tasks.attention": ("tasks.speech.attention",),
    "tasks.brain": ("tasks.engine.brain",),
    "tasks.checkpoints": ("tasks.engine.checkpoints",),
    "tasks.ctc": ("tasks.speech.ctc",),
    "tasks.curves": ("tasks.engine.curves",),
    "tasks.data": ("tasks.speech.data", "tasks.engine.batches"),
    "tasks.failures": ("tasks.engine.failures",),
    "tasks.flat_start": ("tasks.hybrid.flat_start",),
    "tasks.hybrid_recipe": ("tasks.hybrid.train",),
    "tasks.hybrid_system": ("tasks.hybrid.system",),
    "tasks.hybrid_training": ("tasks.hybrid.training",),
    "tasks.init_from": ("tasks.speech.init_from",),
    "tasks.iterations": ("tasks.hybrid.iterations",),
    "tasks.kaldi_start": ("tasks.hybrid.kaldi_start",),
    "tasks.linear_start": ("tasks.hybrid.linear_start",),
    "tasks.logs": ("tasks.engine.logs",),
    "tasks.mmi": ("tasks.hybrid.mmi",),
    "tasks.model_folder": ("tasks.speech.model_folder",),
    "tasks.processes": ("tasks.engine.batches",),
    "tasks.randomness": ("tasks.engine.batches",),
    "tasks.recipe": ("recipe.yaml", "recipe.network", "recipe.prepare", "recipe.run"),
    "tasks.recognition": ("tasks.speech.brain",),
    "tasks.schedule": ("tasks.engine.schedule",),
    "tasks.training": ("tasks.speech.train", "tasks.speech.evaluation"),
    "tasks.transducer": ("tasks.speech.transducer",),
}
"""Modules that now have the content of each old module."""
RENAMED: dict[str, dict[str, tuple[str, str]]] = {
    "tasks.recipe": {
        "CTC_KEYS": ("tasks.speech.settings", "CTCRecipe"),
        "ATTENTION_KEYS": ("tasks.speech.settings", "AttentionRecipe"),
        "TRANSDUCER_KEYS": ("tasks.speech.settings", "TransducerRecipe"),
        "HYBRID_KEYS": ("tasks.hybrid.settings", "HybridRecipe"),
        "IMAGE_KEYS": ("tasks.images.settings", "ImageRecipe"),
    },
}
"""Names in old modules that were replaced, with the module and name of their replacement."""


class MovedModules(MetaPathFinder, Loader):
    """Finds modules by their old names.

    Example
    -------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     from biglittle_asr.tasks.schedule import WarmupCosine
    >>> WarmupCosine.__module__
    'biglittle_asr.tasks.engine.schedule'
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a specification for an old name, None for any other."""
        package, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == PACKAGE and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Make an empty module, which :meth:`exec_module` fills."""
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module with the names that it had."""
        places = self._places(module.__name__)
        warnings.warn(f"{module.__name__} has moved to {' and '.join(places)}", DeprecationWarning, stacklevel=2)
        for place in places:
            contents = vars(importlib.import_module(place))
            vars(module).update({name: contents[name] for name in contents if not name.startswith("__")})
        for name, (place, new_name) in RENAMED.get(module.__name__.partition(".")[2], {}).items():
            vars(module)[name] = getattr(importlib.import_module(f"{PACKAGE}.{place}"), new_name)

    def get_code(self, fullname: str) -> CodeType:
        """Return the code that `python -m` runs for an old name, which runs the new module."""
        (place,) = self._places(fullname)
        source = f"import runpy; runpy.run_module({place!r}, run_name='__main__', alter_sys=True)"
        return compile(source, fullname, "exec")

    @staticmethod
    def _places(fullname: str) -> list[str]:
        return [f"{PACKAGE}.{place}" for place in MOVED[fullname.partition(".")[2]]]


def install() -> None:
    """Let Python find modules by their old names, after all other ways have failed."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
