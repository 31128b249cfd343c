"""Scoring: word, character and sentence error rates, by speaker and in all. Usable alone, without torch.

What both ways of scoring share:
- `alignment.py`: what is counted and the rates made of it, what alignments are made of
- `bootstrap.py`: the confidence interval, by resampling speakers
- `report.py`: tables and alignments as text
- `lookalikes.py`: words that look alike and differ

Utterances by ID, aligned with the fewest errors:
- `texts.py`: plain text, Kaldi text and NIST trn files
- `alignment.py`: references and hypotheses word by word (jiwer)
- `score.py`: `score_texts`, from texts by utterance ID to a `Score`

Recognized words with their times, as NIST scores conversations:
- `nist/stm.py`, `nist/ctm.py`: segments of references, words of hypotheses
- `nist/glm.py`: mapping rules, and what csrfilt does with them
- `nist/wordgraph.py`, `nist/graph_alignment.py`: texts with alternatives, and their alignment at NIST's costs
- `nist/score.py`: `score_nist`, from all these to a `NistScore`; `nist/report.py`: its table
- `nist/matched_pairs.py`: whether two systems differ
- `nist/marks.py`: the same alignment for trn files with alternatives
"""

from biglittle_asr.scoring.alignment import Counts
from biglittle_asr.scoring.nist.ctm import Alternatives, TimedWord, read_ctm, without_hesitations, write_ctm
from biglittle_asr.scoring.nist.glm import Glm, read_glm
from biglittle_asr.scoring.nist.matched_pairs import MatchedPairs, compare_systems
from biglittle_asr.scoring.nist.score import Hub5Score, NistScore, score_hub5, score_nist
from biglittle_asr.scoring.nist.stm import Segment, Stm, read_stm, write_stm
from biglittle_asr.scoring.score import Score, score_texts
from biglittle_asr.scoring.texts import FORMATS, Transcripts, read_pair, read_utt2spk

__all__ = [
    "FORMATS",
    "Alternatives",
    "Counts",
    "Glm",
    "Hub5Score",
    "NistScore",
    "MatchedPairs",
    "Score",
    "Segment",
    "Stm",
    "TimedWord",
    "Transcripts",
    "compare_systems",
    "read_ctm",
    "read_glm",
    "read_pair",
    "read_stm",
    "read_utt2spk",
    "score_hub5",
    "score_nist",
    "score_texts",
    "without_hesitations",
    "write_ctm",
    "write_stm",
]
