"""CTC beam search with a language model, a lexicon and hotwords, using flashlight's decoders.

Kahn et al., "Flashlight: enabling innovation in tools for machine learning", ICML 2022. Two of its decoders are used:

- with words (a lexicon or a language model of words): `LexiconDecoder`, which searches a trie of spellings;
- without words: `LexiconFreeDecoder`, which allows any sequence of tokens, with or without a language model of tokens.

Both keep only the best alignment of each text.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from biglittle_asr.decoding.ctc.lexicon import SpelledWords, examples, read_words, spell, spellable_hotwords
from biglittle_asr.decoding.lm.language_model import LanguageModel, load_kenlm, open_language_model
from biglittle_asr.decoding.lm.sentences import token_names
from biglittle_asr.decoding.settings import DecodingSettings
from biglittle_asr.extras import missing_extra
from biglittle_asr.tokens.tokenizer import BLANK, CharacterTokenizer, Tokenizer
from biglittle_asr.tokens.words import PAUSE_SECONDS, TAIL_SECONDS, Token

BEAM = 50
"""Default number of hypotheses kept at each frame."""
TOKENS_PER_FRAME = 10
"""Number of most probable tokens tried at each frame; a network hardly ever hesitates between more than three."""
THRESHOLD = 20.0
"""Hypotheses this many nats below the best are dropped."""
IMPOSSIBLE = -1e4
"""Log-probability of impossible tokens: far below the threshold, but small enough to compute with."""
LN10 = math.log(10)


@dataclass(frozen=True)
class Hypothesis:
    """A text that a search found."""

    text: str
    """Words separated by single spaces."""
    tokens: tuple[Token, ...]
    """Tokens at the frames of the best alignment."""
    score: float
    """Score that ranks texts. For CTC, in nats: see :class:`DecodingSettings`."""
    network_score: float
    """The network's log-probability of the text in nats; for CTC and transducers, that of the alignment."""


class BeamSearch:
    """Finds the texts with the highest scores for a network's output.

    Arguments
    ---------
    tokenizer : Tokenizer
        The network's tokenizer.
    settings : DecodingSettings
    report : function of str
        Called with messages about words that the network cannot spell or the language model does not know.

    Attributes
    ----------
    has_words : bool
        Whether the search is limited to the words of a lexicon or of a language model of words.
    pause_seconds : float
        Pause without tokens that ends a word. Infinite with a lexicon, as its words stay whole.

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If a file is invalid, or does not match the tokenizer or the other files; or if flashlight-text is missing.

    Example
    -------
    >>> import torch
    >>> from biglittle_asr.tokens.tokenizer import CharacterTokenizer
    >>> search = BeamSearch(CharacterTokenizer(" GON"), DecodingSettings(beam=8, nbest=2))
    >>> log_probs = torch.tensor([[0.1, 0, 0.7, 0.2, 0], [0.1, 0, 0, 0.8, 0.1], [0.8, 0, 0, 0, 0.2]]).log()
    >>> [(found.text, round(found.score, 2)) for found in search(log_probs)]
    [('GO', -0.8), ('O', -2.06)]
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        settings: DecodingSettings = DecodingSettings(),  # noqa: B008 (frozen)
        report: Callable[[str], None] = lambda message: None,
    ) -> None:
        try:
            import flashlight.lib.text.decoder  # noqa: F401
        except ImportError as error:
            raise ValueError(missing_extra("a beam search needs flashlight-text", "lm", error)) from error
        self.tokenizer = tokenizer
        hotwords = spellable_hotwords(settings.hotwords, tokenizer, report)
        self.settings = settings = dataclasses.replace(settings, hotwords=hotwords)
        model = None if settings.lm is None else open_language_model(settings.lm)
        self._lexicon = _make_lexicon(tokenizer, settings, model, report)
        if self._lexicon is None and settings.word_score:
            raise ValueError("--word-score: only with a lexicon or a language model of words are there words to score.")
        names = token_names(tokenizer) if self._lexicon is None else self._lexicon.words
        self._kenlm = None if model is None else load_kenlm(model, names)
        self._set_word_ends()
        self._prepare()

    tail_seconds = TAIL_SECONDS

    @property
    def has_words(self) -> bool:
        """See the class."""
        return self._lexicon is not None

    @property
    def pause_seconds(self) -> float:
        """See the class."""
        return math.inf if self.has_words else PAUSE_SECONDS

    def blanks(self, log_probs: Tensor) -> list[bool]:
        """Return for each frame of (T, V) log-probabilities whether the blank is most probable."""
        found: list[bool] = log_probs.argmax(dim=-1).eq(BLANK).tolist()
        return found

    def reweighted(self, lm_weight: float, word_score: float) -> BeamSearch:
        """Return the same search with other weights; both share the language model."""
        search = copy.copy(self)
        search.settings = dataclasses.replace(self.settings, lm_weight=lm_weight, word_score=word_score)
        search._prepare()
        return search

    def __call__(self, log_probs: Tensor | np.ndarray[Any, Any]) -> list[Hypothesis]:
        """Search one utterance.

        Arguments
        ---------
        log_probs : Tensor or array
            (T, V) log-probabilities.

        Returns
        -------
        list of Hypothesis
            Hypotheses of different texts, best first: at least one, at most `settings.nbest`.
        """
        emissions = np.asarray(log_probs, dtype=np.float32)
        extended = self._extend(emissions)
        results = self._decoder.decode(extended.ctypes.data, *extended.shape)
        found: dict[str, Hypothesis] = {}
        for result in results:
            hypothesis = self._hypothesis(result, emissions)
            found.setdefault(hypothesis.text, hypothesis)
            if len(found) == self.settings.nbest:
                break
        return list(found.values())

    def _prepare(self) -> None:
        """Build the decoder that the settings describe."""
        from flashlight.lib.text import decoder as flashlight

        from biglittle_asr.decoding.ctc.hotwords import BoostedTokens, BoostedWords

        settings, lexicon = self.settings, self._lexicon
        inner = flashlight.ZeroLM() if self._kenlm is None else self._kenlm
        weight = settings.lm_weight * LN10
        options: dict[str, Any] = {
            "beam_size": settings.width(BEAM),
            "beam_size_token": min(self._columns, TOKENS_PER_FRAME),
            "beam_threshold": THRESHOLD,
            "lm_weight": 1.0 if settings.hotwords else weight,
            "sil_score": 0.0,
            "log_add": False,
            "criterion_type": flashlight.CriterionType.CTC,
        }
        # flashlight does not keep its language model alive.
        self._lm: Any = inner
        if lexicon is None:
            if settings.hotwords:
                pieces = ["", *map(self.tokenizer.piece, range(1, self.tokenizer.size))]
                self._lm = BoostedTokens(inner, weight, settings.hotwords, pieces)
            # This decoder does not treat silence specially; the search begins after a blank.
            self._decoder = flashlight.LexiconFreeDecoder(
                flashlight.LexiconFreeDecoderOptions(**options), self._lm, BLANK, BLANK, []
            )
            return
        if settings.hotwords:
            boosts = {
                index: settings.hotwords[word] for index, word in enumerate(lexicon.words) if word in settings.hotwords
            }
            self._lm = BoostedWords(inner, weight, boosts)
        trie = flashlight.Trie(self._columns, self._word_end)
        anywhere = self._lm.start(True)
        for index, spelling in enumerate(lexicon.spellings):
            _, score = self._lm.score(anywhere, index)
            for ending in self._endings:
                trie.insert([*spelling, *ending], index, score)
        # An incomplete word has the score of the most probable word that continues it.
        trie.smear(flashlight.SmearingMode.MAX)
        self._decoder = flashlight.LexiconDecoder(
            flashlight.LexiconDecoderOptions(word_score=settings.word_score, unk_score=-math.inf, **options),
            trie,
            self._lm,
            self._word_end,
            BLANK,
            -1,
            [],
            False,
        )

    def _set_word_ends(self) -> None:
        """Choose how spellings end.

        In flashlight, a word is complete at the frame in which the last token of its spelling begins. Until the next
        word, only "silence" and blanks may follow, so further frames of that token would be lost.

        - Characters: a spelling ends in the space, which is the silence. One frame is appended in which only a space
          is possible. Thus all alignments of all texts are searched.
        - Word pieces, which have no space: a spelling ends in its last piece, or in a blank after it, which has its own
          column. Before that blank, the piece can last any number of frames. The only alignments missing are those in
          which a word's last piece lasts several frames and no blank separates it from the next word.
        """
        size = self.tokenizer.size
        spaces = [index for index in range(1, size) if self.tokenizer.piece(index) == " "]
        self._blank_end: int | None = None
        if isinstance(self.tokenizer, CharacterTokenizer):
            self._word_end = spaces[0] if spaces else size
            self._endings: tuple[tuple[int, ...], ...] = ((self._word_end,),)
        else:
            self._word_end, self._blank_end = size, size + 1
            self._endings = ((), (self._blank_end,))
        self._columns = max(size, self._word_end + 1, (self._blank_end or 0) + 1)

    def _extend(self, emissions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Extend log-probabilities (T, V) for the decoder: to (T + 1, V or more) if there are words."""
        if self._lexicon is None:
            return np.ascontiguousarray(emissions)
        frames, size = emissions.shape
        extended = np.full((frames + 1, self._columns), IMPOSSIBLE, dtype=np.float32)
        extended[:frames, :size] = emissions
        extended[frames, self._word_end] = 0.0
        if self._blank_end is not None:
            extended[:frames, self._blank_end] = emissions[:, BLANK]
            extended[frames, self._blank_end] = 0.0
        return extended

    def _hypothesis(self, result: Any, emissions: np.ndarray[Any, Any]) -> Hypothesis:
        frames, size = emissions.shape
        # The first entry belongs to the state before the first frame.
        tokens, words = result.tokens[1 : frames + 2], result.words[1 : frames + 2]
        path = [index if index < size else BLANK for index in tokens[:frames]]
        network_score = float(emissions[np.arange(frames), path].sum(dtype=np.float64))
        score = result.score
        if self._lexicon is not None:
            if tokens[frames] not in (self._word_end, self._blank_end):
                # No hypothesis ended at the end of a word: the last word was cut off.
                score -= IMPOSSIBLE
            last = max((frame for frame, word in enumerate(words) if word >= 0), default=-1)
            path[last + 1 :] = [BLANK] * len(path[last + 1 :])
        found = _tokens(path, emissions)
        return Hypothesis(self.tokenizer.decode([token.index for token in found]), found, score, network_score)


def _tokens(path: list[int], emissions: np.ndarray[Any, Any]) -> tuple[Token, ...]:
    """Collect the tokens of an alignment, given the token of each frame."""
    tokens, start = [], 0
    for index, run in itertools.groupby(path):
        end = start + len(list(run))
        if index != BLANK:
            tokens.append(Token(index, start, end, float(emissions[start:end, index].max())))
        start = end
    return tuple(tokens)


def _make_lexicon(
    tokenizer: Tokenizer, settings: DecodingSettings, model: LanguageModel | None, report: Callable[[str], None]
) -> SpelledWords | None:
    """Make the lexicon of the words that may be found; None if any sequence of tokens may be found."""
    if model is not None and model.of_tokens:
        if settings.lexicon is not None:
            raise ValueError(
                f"{settings.lexicon}: cannot be used together with {model.path}, a language model of tokens; "
                "a lexicon needs one of words, or none."
            )
        strangers = sorted((model.words or frozenset()).difference(token_names(tokenizer)))
        if strangers:
            raise ValueError(
                f"{model.path}: is a language model of tokens, but {len(strangers)} of its tokens are not "
                f"this model's, such as {examples(strangers)}; train one with `biglittle lm --tokens MODEL`."
            )
        return None
    if settings.lexicon is not None:
        words, source = read_words(settings.lexicon), str(settings.lexicon)
    elif model is None:
        return None
    elif model.words is None:
        raise ValueError(f"{model.path}: was built without its words; give them with --lexicon.")
    else:
        words, source = sorted(model.words), str(model.path)
        if not words:
            raise ValueError(f"{model.path}: knows no words; train it on more text.")
    lexicon = spell(dict.fromkeys([*words, *settings.hotwords]), tokenizer, source, report)
    if settings.lexicon is not None and model is not None and model.words is not None:
        unknown = [word for word in lexicon.words if word not in model.words]
        count = f"{len(unknown)} of its {len(lexicon.words)} words are not in {model.path}, such as {examples(unknown)}"
        if 2 * len(unknown) > len(lexicon.words):
            raise ValueError(
                f"{source}: does not fit the language model: {count}; take one made of the same kind of text."
            )
        if unknown:
            report(f"{source}: {count}; they count as unknown words.")
    return lexicon
