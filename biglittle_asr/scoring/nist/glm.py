r"""NIST's global mapping rules (GLM): spellings that count as the same word, in references and hypotheses.

    ;; The first line's first word marks comments from here on.
    * name "example"
    [I'VE] => [{I'VE / I HAVE}] / [ ] __ [ ]
    AIR LINES => AIRLINES
    ;; INPUT_DEPENDENT_APPLICATION = "ctm"
    [UH] => [%HESITATION] / [ ] __ [ ]

A rule replaces its left side by its right side wherever the text before and after it matches the brackets around __,
also within words. At every character, from left to right, rules are tried in the file's order. Text that a rule has
inserted is not searched again. Rules below INPUT_DEPENDENT_APPLICATION apply only to the kinds of text that its
regular expression matches: "stm" and "ref", or "ctm" and "hyp". `filter_stm` and `filter_ctm` also do the rest of
NIST's csrfilt: letters a to z become upper case, hyphens within words become spaces, every optionally deletable word
gets its own brackets, and words that replace one word of a CTM share its time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import NamedTuple

from biglittle_asr.scoring.nist.ctm import Alternatives, Recognized, TimedWord
from biglittle_asr.scoring.nist.stm import Segment
from biglittle_asr.scoring.texts import read_text_file

LETTERS = {lower: lower - 32 for lower in range(ord("a"), ord("z") + 1)}
"""Maps a to z to A to Z; csrfilt does not change other letters."""


class Rule(NamedTuple):
    """One line of a GLM."""

    source: str
    """Text to replace; not empty."""
    target: str
    """Replacement; may be empty."""
    before: str = ""
    """Text required right before the source."""
    after: str = ""
    """Text required right after the source."""
    applies_to: str | None = None
    """Regular expression searched for in "stm" and "ref", or in "ctm" and "hyp"; None for a rule of both sides."""


@dataclass(frozen=True)
class RuleSet:
    """Rules for one kind of text."""

    rules: Sequence[Rule]
    """Rules in the order in which they are tried."""
    case_sensitive: bool = True
    keeps_rest: bool = True
    """Whether to keep text that no rule replaces."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """Error messages of faulty rules, by target."""

    def apply(self, text: str) -> str:
        """Apply all rules to a text.

        Raises
        ------
        ValueError
            If a rule that applies is faulty. The message names file and line.

        Example
        -------
        >>> rules = RuleSet([Rule("UH", "UM", " ", " "), Rule("AIR LINES", "AIRLINES")])
        >>> rules.apply(" UH UH-HUH FAIR LINES ")
        ' UM UH-HUH FAIRLINES '
        """
        compared = text if self.case_sensitive else text.translate(LETTERS)
        starts, singles = self._index
        pieces = []
        position = copied = 0
        while position < len(text):
            candidates = starts.get(compared[position : position + 2]) or singles.get(compared[position]) or ()
            for rule in candidates:
                end = position + len(rule.source)
                if (
                    compared.startswith(rule.source, position)
                    and compared.startswith(rule.after, end)
                    and compared.endswith(rule.before, 0, position)
                ):
                    if rule.target in self.faults:
                        raise ValueError(self.faults[rule.target])
                    pieces += [text[copied:position], rule.target]
                    position = copied = end
                    break
            else:
                position += 1
                if not self.keeps_rest:
                    copied = position
        pieces.append(text[copied:])
        return "".join(pieces)

    @cached_property
    def _index(self) -> tuple[dict[str, list[Rule]], dict[str, list[Rule]]]:
        """Rules by the first two characters of their source, and rules by a source of one character."""
        rules = [rule if self.case_sensitive else _upper(rule) for rule in self.rules]
        starts: dict[str, list[Rule]] = {rule.source[:2]: [] for rule in rules if len(rule.source) > 1}
        singles: dict[str, list[Rule]] = {}
        for rule in rules:
            if len(rule.source) > 1:
                starts[rule.source[:2]].append(rule)
                continue
            singles.setdefault(rule.source, []).append(rule)
            for start, here in starts.items():
                if start[0] == rule.source:
                    here.append(rule)
        return starts, singles


def _upper(rule: Rule) -> Rule:
    source, before, after = (text.translate(LETTERS) for text in (rule.source, rule.before, rule.after))
    return rule._replace(source=source, before=before, after=after)


@dataclass(frozen=True)
class Glm:
    """A GLM file."""

    rules: list[Rule]
    """Rules in the file's order."""
    case_sensitive: bool = True
    keeps_rest: bool = True
    """Whether to keep text that no rule replaces."""
    faults: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Error messages of rules whose braces do not match, by target."""

    def rules_for(self, *kinds: str) -> RuleSet:
        """Select the rules for a text of any of these kinds, such as "stm" and "ref".

        Example
        -------
        >>> Glm([Rule("UH", "UM", applies_to="ctm"), Rule("A", "B")]).rules_for("stm", "ref").rules
        [Rule(source='A', target='B', before='', after='', applies_to=None)]
        """
        # In csrfilt, an empty expression matches nothing.
        held = {
            expression: expression is None or (expression != "" and any(re.search(expression, kind) for kind in kinds))
            for expression in {rule.applies_to for rule in self.rules}
        }
        rules = [rule for rule in self.rules if held[rule.applies_to]]
        return RuleSet(rules, self.case_sensitive, self.keeps_rest, self.faults)


def read_glm(path: str | PathLike[str]) -> Glm:
    r"""Read a GLM file.

    Arguments
    ---------
    path : path
        Text in UTF-8. The first word of the first line is the comment mark, usually two semicolons.

    Returns
    -------
    Glm
        Its rules and settings.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If it is not UTF-8 or has no lines, a rule has no arrow or nothing left of it, or a setting has no value in
        quotes. The message names file and line.

    Example
    -------
    >>> path = getfixture("tmp_path") / "example.glm"
    >>> _ = path.write_text(";;\n[I'VE] => [{I'VE / I HAVE}] / [ ] __ [ ]\n")
    >>> read_glm(path).rules
    [Rule(source="I'VE", target="{I'VE / I HAVE}", before=' ', after=' ', applies_to=None)]
    """
    file = read_text_file(path)
    if not file.lines:
        raise ValueError(f"{file.path}: no lines; a GLM starts with a comment, such as ;; and its name.")
    comment = file.lines[0].split(maxsplit=1)[0] if file.lines[0].strip() and not file.lines[0][0].isspace() else ""
    rules: list[Rule] = []
    faults: dict[str, str] = {}
    settings = {"CASE_SENSITIVE": True, "COPY_NO_HIT": True}
    applies_to: str | None = None
    for place, line in file.numbered():
        found = re.match(r';;\s+INPUT_DEPENDENT_APPLICATION\s*=\s*"([^"]*)"', line)
        if found:
            applies_to = _checked_expression(found[1].lower(), place)
        elif place == f"{file.path}:1" or (comment and line.startswith(comment)):
            continue
        elif line.startswith("*"):
            _read_setting(line, place, settings)
        else:
            rule = _read_rule(line.split(comment)[0] if comment else line, place)
            rules.append(rule._replace(applies_to=applies_to))
            if not _braces_match(rule.target):
                faults[rule.target] = (
                    f"{place}: the rule puts in '{rule.target}', whose braces do not match; after alternatives with "
                    "slashes, a rule needs its context, such as / [ ] __ [ ]."
                )
    return Glm(rules, settings["CASE_SENSITIVE"], settings["COPY_NO_HIT"], faults)


def _checked_expression(expression: str, place: str) -> str:
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(f"{place}: '{expression}' is not a valid regular expression ({error}); correct it.") from None
    return expression


def _read_setting(line: str, place: str, settings: dict[str, bool]) -> None:
    found = re.search(r"""(["'])(.*?)\1""", line)
    if not found:
        raise ValueError(f'{place}: the setting has no value in quotes; write it as in * name "example".')
    for name in settings:
        if name in line.upper():
            settings[name] = found[2][:1].upper() in ("T", "Y", "1")


def _read_rule(line: str, place: str) -> Rule:
    line = line.rstrip()
    left, arrow, right = line.partition("=>")
    source = _unbounded(left.strip())
    if not arrow or not source:
        raise ValueError(f"{place}: '{line.strip()}' is not a rule; write it as in [UH] => [UM] / [ ] __ [ ].")
    before = after = ""
    # The last slash begins the context unless it is inside brackets; csrfilt decides by what follows the slash.
    slash = line.rfind("/")
    if slash >= 0 and not line.find("]", slash) < line.find("[", slash):
        right = line[line.index("=>") : slash]
        left_context, gap, right_context = line[slash:].partition("_")
        if gap:
            before = _unbounded(_without_first_word(left_context))
            after = _unbounded(_without_first_word(gap + right_context))
    else:
        right = arrow + right
    return Rule(source, _unbounded(_without_first_word(right)), before, after)


def _braces_match(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0


def _without_first_word(text: str) -> str:
    """Remove the arrow, the slash or the gap at the start."""
    return "".join(text.split(maxsplit=1)[1:]).rstrip()


def _unbounded(text: str) -> str:
    """Remove the brackets or quotes around a text."""
    return text[1:-1] if len(text) > 1 and text[0] + text[-1] in ("[]", '""') else text


def filter_stm(segments: Iterable[Segment], glm: Glm, case_sensitive: bool = False) -> list[Segment]:
    """Normalize references for comparison.

    Arguments
    ---------
    segments : iterable of Segment
        Segments as read.
    glm : Glm
        Mapping rules.
    case_sensitive : bool
        Whether letters keep their case.

    Returns
    -------
    list of Segment
        Segments with normalized texts. Segments that are not scored stay unchanged, so that rules cannot alter their
        mark.

    Raises
    ------
    ValueError
        If brackets around optionally deletable words, or braces of a rule that applies, do not match. The message
        names file and line.

    Example
    -------
    >>> glm = Glm([Rule("I'VE", "{I'VE / I HAVE}", " ", " ")])
    >>> (segment,) = filter_stm([Segment("f", "A", "s", 0.0, 1.0, (), "i've (uh um) wal-mart wor-")], glm)
    >>> segment.text
    "{I'VE / I HAVE} (UH) (UM) WAL MART WOR-"
    """
    rules = glm.rules_for("stm", "ref")
    return [
        segment
        if segment.ignored
        else segment._replace(text=" ".join(_filter(segment.text, rules, case_sensitive, segment.place).split()))
        for segment in segments
    ]


def filter_ctm(items: Iterable[Recognized], glm: Glm, case_sensitive: bool = False) -> list[Recognized]:
    """Normalize hypotheses for comparison. A word may become several words, alternatives, or none.

    Arguments
    ---------
    items : iterable of TimedWord and Alternatives
        Items as read.
    glm : Glm
        Mapping rules. They are applied to each word alone, with a space before and after it.
    case_sensitive : bool
        As of :func:`filter_stm`.

    Returns
    -------
    list of TimedWord and Alternatives
        Normalized items. Words that replace one word share its time equally. A word replaced by nothing is removed;
        csrfilt would take its confidence for the word.

    Raises as :func:`filter_stm`.

    Example
    -------
    >>> words = filter_ctm([TimedWord("f", "A", 1.0, 0.5, "wal-mart")], Glm([]))
    >>> [(word.word, word.start, word.duration) for word in words]
    [('WAL', 1.0, 0.25), ('MART', 1.25, 0.25)]
    """
    rules = glm.rules_for("ctm", "hyp")
    # Filter each distinct word once.
    known: dict[tuple[str, bool], list[list[str]]] = {}
    result: list[Recognized] = []
    for item in items:
        if isinstance(item, Alternatives):
            filtered = [filter_ctm(option, glm, case_sensitive) for option in item.options]
            result.append(Alternatives(filtered, item.recording, item.channel, item.place))
            continue
        key = item.word, item.confidence is None
        options = known.get(key)
        if options is None:
            text = _filter(item.word, rules, case_sensitive, item.place)
            options = known[key] = _options(text, item.confidence is None)
        result += _retimed(item, options)
    return result


def _filter(text: str, rules: RuleSet, case_sensitive: bool, place: str) -> str:
    text = " ".join(text.split())
    if "(" in text or ")" in text:
        if re.search(r"[()]", re.sub(r"\([^()]*\)", "", text)):
            raise ValueError(
                f"{place}: brackets in '{text}' do not match; write optionally deletable words as in (UH)."
            )
        text = text.replace("(", "( ").replace(")", " )")
    if not case_sensitive:
        text = text.translate(LETTERS)
    text = rules.apply(f" {text} ")
    # Keep a hyphen at the open end of a fragment.
    text = re.sub(r"([^( ])-(?=[^) ])", r"\1 ", text)
    return _bracket_each(text) if "(" in text else text


def _bracket_each(text: str) -> str:
    """Give each word within brackets its own brackets, without spaces inside them."""
    # If a rule has put alternatives into brackets, each of their words becomes optionally deletable.
    text = re.sub(r"\(([^()]*[{}][^()]*)\)", _bracket_alternatives, text)
    found = 1
    while found:
        text, found = re.subn(r"(\(\s+[^()\s]+\s+)([^()\s]+)", r"\1) ( \2", text)
    return re.sub(r"\s+\)", ")", re.sub(r"\(\s+", "(", text))


def _bracket_alternatives(found: re.Match[str]) -> str:
    words = re.sub(r"([{}])", r" \1 ", found[1]).split()
    return " ".join(word if word in ("{", "/", "}") else f"({word})" for word in words)


def _options(text: str, confidence_missing: bool) -> list[list[str]]:
    """Split the replacement of one word into alternatives. They do not nest, as csrfilt splits at every slash."""
    words = re.sub(r"([{}])", r" \1 ", text).split()
    if confidence_missing:
        if len(words) == 1:
            return [words]
        if words and re.fullmatch(r"[0-9.-]*", words[-1]):
            # csrfilt takes a number at the end as the confidence.
            words.pop()
    return [part.replace("{", " ").replace("}", " ").split() for part in " ".join(words).split("/")]


def _retimed(item: TimedWord, options: list[list[str]]) -> list[Recognized]:
    """Return the words that replace one word, each with its share of the time."""
    if len(options) > 1:
        return [Alternatives([_spread(item, option) for option in options], item.recording, item.channel, item.place)]
    if len(options[0]) == 1 and item.confidence is None:
        return [item._replace(word=options[0][0])]
    return _spread(item, options[0])


def _spread(item: TimedWord, words: Sequence[str]) -> list[Recognized]:
    # Round to milliseconds as csrfilt does, since rounding decides the segment of some words.
    share = item.duration / max(len(words), 1)
    return [
        TimedWord(
            item.recording,
            item.channel,
            float(f"{item.start + share * number:.3f}"),
            float(f"{share:.3f}"),
            word,
            item.confidence,
            item.place,
        )
        for number, word in enumerate(words)
    ]
