"""Word, character and sentence error rates, per speaker and overall. Runs without torch.

Shared by both kinds of scoring:
- `alignment.py`: alignments, counts, and the error rates computed from them
- `bootstrap.py`: the confidence interval, by resampling speakers
- `report.py`: tables and alignments as text
- `lookalikes.py`: different words that look the same
- `saved.py`: scores read back from the files that have them

Utterances by ID, aligned with the fewest errors:
- `texts.py`: plain text, Kaldi text and NIST trn files
- `normalizers.py`: ways of writing that do not count as errors (whisper-normalizer)
- `alignment.py`: word-by-word alignment (jiwer)
- `score.py`: `score_texts`, from texts by utterance ID to a `Score`

Recognized words by time, as NIST scores conversations:
- `nist/stm.py`, `nist/ctm.py`: reference segments, recognized words
- `nist/glm.py`: mapping rules, applied as csrfilt applies them
- `nist/wordgraph.py`, `nist/graph_alignment.py`: texts with alternatives, and their alignment at NIST's costs
- `nist/score.py`: `score_nist`, which returns a `NistScore`; `nist/report.py`: its table
- `nist/matched_pairs.py`: significance test between two systems
- `nist/marks.py`: the same alignment for trn files with alternatives
"""

from biglittle_asr.scoring.alignment import AlignedUtterance, Counts
from biglittle_asr.scoring.nist.ctm import Alternatives, TimedWord, read_ctm, without_hesitations, write_ctm
from biglittle_asr.scoring.nist.glm import Glm, read_glm
from biglittle_asr.scoring.nist.matched_pairs import MatchedPairs, compare_systems, compare_utterances
from biglittle_asr.scoring.nist.score import Hub5Score, NistScore, score_hub5, score_nist
from biglittle_asr.scoring.nist.stm import Segment, Stm, read_stm, write_stm
from biglittle_asr.scoring.normalizers import NORMALIZERS, Normalizer, load_normalizer
from biglittle_asr.scoring.saved import read_score
from biglittle_asr.scoring.score import Score, score_texts
from biglittle_asr.scoring.texts import FORMATS, Transcripts, read_pair, read_utt2spk

__all__ = [
    "FORMATS",
    "NORMALIZERS",
    "AlignedUtterance",
    "Alternatives",
    "Counts",
    "Glm",
    "Hub5Score",
    "NistScore",
    "MatchedPairs",
    "Normalizer",
    "Score",
    "Segment",
    "Stm",
    "TimedWord",
    "Transcripts",
    "compare_systems",
    "compare_utterances",
    "load_normalizer",
    "read_ctm",
    "read_glm",
    "read_pair",
    "read_score",
    "read_stm",
    "read_utt2spk",
    "score_hub5",
    "score_nist",
    "score_texts",
    "without_hesitations",
    "write_ctm",
    "write_stm",
]
