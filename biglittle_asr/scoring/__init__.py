"""Scoring: word, character and sentence error rates, by speaker and in all. Usable alone, without torch.

- `counts.py`: what is counted, and the rates made of it
- `alignment.py`: references and hypotheses word by word (jiwer)
- `bootstrap.py`: the confidence interval, by resampling speakers
- `score.py`: `score_texts`, from texts by utterance ID to a `Score`
- `report.py`: tables and alignments as text
- `files.py`: plain text, Kaldi text and NIST trn files
"""

from biglittle_asr.scoring.counts import Counts
from biglittle_asr.scoring.files import FORMATS, Transcripts, read_pair, read_utt2spk
from biglittle_asr.scoring.score import Score, score_texts

__all__ = ["FORMATS", "Counts", "Score", "Transcripts", "read_pair", "read_utt2spk", "score_texts"]
