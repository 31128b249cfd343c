"""From transcripts with marks to words, for telephone speech: Switchboard, Fisher, Hub5.

Each token is processed alone, and a token without marks changes only its case: SUMMER has no hesitation in it, and
UH-HUH is not a fragment. Besides words, the result has hyphens where a word is cut off (AB-, -Y), sounds as separate
tokens (`NOISES`), and `UNINTELLIGIBLE` for speech that could not be transcribed.

lhotse, whose recipes also read these corpora, leaves all marks in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

NOISE, VOCALIZED_NOISE, LAUGHTER = "[NOISE]", "[VOCALIZED-NOISE]", "[LAUGHTER]"
NOISES = (NOISE, VOCALIZED_NOISE, LAUGHTER)
"""Sounds other than words, as the Mississippi State transcripts name them."""
UNINTELLIGIBLE = "[UNINTELLIGIBLE]"

SILENT = frozenset({"[SILENCE]", "[PAUSE]", "[[SKIP]]"})
"""Marks without a sound."""
ASIDE = re.compile(r"<[BE]_ASIDE>(?:[ \t]+|$)?", re.IGNORECASE | re.MULTILINE)
"""Marks around words addressed to somebody in the room."""
SOUNDS = {
    "[LAUGH]": LAUGHTER,
    "[MN]": VOCALIZED_NOISE,
    **{token: token for token in (*NOISES, UNINTELLIGIBLE)},
}
"""Sounds by their mark; any other word in brackets, such as Fisher's [sigh], counts as noise."""
SOUND = re.compile(r"\[[^][]+\]")

LAUGHED = re.compile(r"(-?)\[LAUGHTER-(.+)\](-?)")
MISPRONOUNCED = re.compile(r"\[?([^/]+)/[^/]*\](-?)")
COINED = re.compile(r"\{(.+)\}(-?)")
UNSAID = re.compile(r"-?\[[^][]*\]-?")
PRONUNCIATION = re.compile(r"_\d+")

FOREIGN = re.compile(r"<[^<>]*>")
UNSURE = re.compile(r"\(\((.*?)\)\)")
SPELLED_POSSESSIVE = re.compile(r"(?<=\b[A-Za-z])\.'[Ss]\b|(?<=\b[A-Z])\.s\b")
PUNCTUATION = re.compile(r"\._|[.,?!;:\"*()]")
BRACKETS = re.compile(r"\[\[?[^][]*\]?\]")

ALTERNATION = re.compile(r"\{([^{}]*)\}")
HESITATION = "%HESITATION"


def switchboard_words(text: str, spelled: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """Parse the words of a line of the Mississippi State transcripts.

    Arguments
    ---------
    text : str
        A line in upper or lower case.
    spelled : mapping from word to letters, optional
        Words to write as separate letters, see :func:`spelled_words`.

    Returns
    -------
    list of str
        Words in upper case.

    Example
    -------
    >>> switchboard_words("[noise] uh-huh ab[solute]- them_1 {yuppiedom} [it'n/isn't] -[an]y <b_aside> wait <e_aside>")
    ['[NOISE]', 'UH-HUH', 'AB-', 'THEM', 'YUPPIEDOM', "IT'N", '-Y', 'WAIT']
    >>> switchboard_words("[silence] [laughter-tv] ammu[n]it- [laughter]- [any]-", {"TV": ["T", "V"]})
    ['T', 'V', 'AMMU-IT-', '[LAUGHTER]']
    """
    words: list[str] = []
    for token in ASIDE.sub(" ", text).upper().split():
        word = _switchboard_word(token)
        words += (spelled or {}).get(word, [word] if word else [])
    return words


def _switchboard_word(token: str) -> str:
    """The word of a token in upper case; empty if the token has no sound."""
    if token in SILENT:
        return ""
    for mark, replacement in ((LAUGHED, r"\1\2\3"), (MISPRONOUNCED, r"\1\2"), (COINED, r"\1\2")):
        found = mark.fullmatch(token)
        if found:
            token = found.expand(replacement)
    if SOUND.fullmatch(token):
        return _sound(token)
    if UNSAID.fullmatch(token):
        # No letters of a word are left, but there may be a cut-off sound: [laughter]-.
        return SOUNDS.get(token.strip("-"), "")
    # The part in brackets is not spoken: ab[solute]- is AB-, and -[an]y is -Y.
    return PRONUNCIATION.sub("", UNSAID.sub("-", token)).replace("--", "-")


def _sound(token: str) -> str:
    """Write the token of a sound in our notation; other tokens are returned unchanged."""
    return SOUNDS.get(token, NOISE) if SOUND.fullmatch(token) else token


def fisher_words(text: str) -> list[str]:
    """Parse the words of a line of Fisher's transcripts.

    Words that the transcriber was unsure of are kept. Spelled letters are separated, as in Hub5's references.

    Example
    -------
    >>> fisher_words("an- so the topic is [laughter] ((holidays)) uh on T. V.")
    ['AN-', 'SO', 'THE', 'TOPIC', 'IS', '[LAUGHTER]', 'HOLIDAYS', 'UH', 'ON', 'T', 'V']
    >>> fisher_words("(( )) [sigh] it's T.V.'s <german (( ja wohl )) >, you know?")
    ['[UNINTELLIGIBLE]', '[NOISE]', "IT'S", 'T', "V'S", '[UNINTELLIGIBLE]', 'YOU', 'KNOW']
    """
    text = SPELLED_POSSESSIVE.sub("'s", text).upper()
    text = FOREIGN.sub(f" {UNINTELLIGIBLE} ", text)
    text = UNSURE.sub(lambda found: f" {found[1].strip() or UNINTELLIGIBLE} ", text)
    text = BRACKETS.sub(r" \g<0> ", PUNCTUATION.sub(" ", text))
    return [_sound(token) for token in text.split() if token not in SILENT and token != "-"]


def hub5_words(text: str) -> list[str]:
    """Parse the words of a line of Hub5's references, for a plain word error rate and for language models.

    The first of several alternatives is used, and hesitations become UH. NIST's scoring uses the references themselves.

    Example
    -------
    >>> hub5_words("(%HESITATION) YEAH { IT'S / IT IS } TRUE <B_ASIDE> (TH-) OKAY")
    ['UH', 'YEAH', "IT'S", 'TRUE', 'TH-', 'OKAY']
    """
    text = mend_stm(text.upper())
    while ALTERNATION.search(text):
        text = ALTERNATION.sub(lambda found: found[1].partition("/")[0], text)
    words = text.replace("(", " ").replace(")", " ").replace(HESITATION, "UH").split()
    return [word for word in words if word != "@"]


def mend_stm(text: str) -> str:
    """Correct known errors in the STM of Hub5'00: doubled brackets, and leftover marks of asides.

    Example
    -------
    >>> mend_stm("((%HESITATION) <B_ASIDE> YEAH <e_aside> OKAY")
    '(%HESITATION) YEAH OKAY'
    """
    return ASIDE.sub("", text).replace("((", "(").replace("))", ")")


def without_noises(words: Iterable[str]) -> list[str]:
    """Remove sounds from a list of words.

    Example
    -------
    >>> without_noises(["[NOISE]", "YES", "[LAUGHTER]"])
    ['YES']
    """
    return [word for word in words if word not in NOISES]


def spelled_words(lexicon: Iterable[tuple[str, Sequence[str]]]) -> dict[str, list[str]]:
    """Find the words of a lexicon that are spoken letter by letter in all of their pronunciations.

    References write them letter by letter (T V), but the Mississippi State transcripts write one word (tv).

    Arguments
    ---------
    lexicon : iterable of (word, phones)
        One entry per pronunciation; single letters must be among the words.

    Returns
    -------
    dict from word to letters
        Words in upper case, including their possessives.

    Example
    -------
    >>> letters = [("t", ["t", "iy"]), ("v", ["v", "iy"]), ("e", ["iy"])]
    >>> spelled_words([*letters, ("tv", ["t", "iy", "v", "iy"]), ("vet", ["v", "eh", "t"])])
    {'TV': ['T', 'V'], "TV'S": ['T', "V'S"]}
    """
    pronunciations: dict[str, set[tuple[str, ...]]] = {}
    for word, phones in lexicon:
        pronunciations.setdefault(word.upper(), set()).add(tuple(phones))
    spelled: dict[str, list[str]] = {}
    for word, spoken in pronunciations.items():
        if len(word) < 2 or not all(letter in pronunciations for letter in word):
            continue
        if spoken <= _spellings([pronunciations[letter] for letter in word]):
            spelled[word] = list(word)
            spelled[f"{word}'S"] = [*word[:-1], f"{word[-1]}'S"]
    return spelled


def normalize_lexicon(lexicon: Sequence[tuple[str, Sequence[str]]]) -> Iterator[tuple[str, Sequence[str]]]:
    """Convert a lexicon's words to those that :func:`switchboard_words` makes from transcripts.

    Arguments
    ---------
    lexicon : sequence of (word, phones)
        Words may have the transcripts' marks: ab[solute]- is the entry for AB-.

    Yields
    ------
    (str, sequence of str)
        Words in upper case, and their phones. Spelled words are replaced by their letters.

    Example
    -------
    >>> letters = [("t", ["t", "iy"]), ("v", ["v", "iy"])]
    >>> words = [("ab[solute]-", ["ae", "b"]), ("tv", "t iy v iy".split()), ("tv's", "t iy v iy z".split())]
    >>> list(normalize_lexicon([*letters, *words]))
    [('T', ['t', 'iy']), ('V', ['v', 'iy']), ('AB-', ['ae', 'b']), ("V'S", ['v', 'iy', 'z'])]
    """
    spelled = spelled_words(lexicon)
    for entry, phones in lexicon:
        words = switchboard_words(entry, spelled)
        if len(words) == 1 and words[0] not in NOISES:
            yield words[0], phones
        elif len(words) > 1 and words[-1].endswith("'S"):
            # Only the last letter has the possessive's phones: those that remain after the other letters.
            others = _spellings([_pronunciations(lexicon, letter) for letter in words[:-1]])
            for spoken in others:
                if tuple(phones[: len(spoken)]) == spoken:
                    yield words[-1], phones[len(spoken) :]


def _pronunciations(lexicon: Iterable[tuple[str, Sequence[str]]], word: str) -> set[tuple[str, ...]]:
    return {tuple(phones) for each, phones in lexicon if each.upper() == word}


def _spellings(letters: Sequence[set[tuple[str, ...]]]) -> set[tuple[str, ...]]:
    return {sum(choice, ()) for choice in product(*letters)}
