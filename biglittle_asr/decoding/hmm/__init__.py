"""Hidden Markov models over a network's outputs: lexicon, tied states, alignment, decoding graphs and their search.

- `lexicon.py`: words and their phones
- `tying.py`: which state of which phone in which context is which output of the network
- `tree.py`: tied states by decision trees
- `alignment.py`: transcripts and frames
- `graph.py`: HCLG, from lexicon, states and a language model (kaldifst, kaldilm)
- `search.py`: the best words (kaldi-decoder)
- `kaldi.py`: graphs and alignments that Kaldi made (kaldifst, kaldi-native-io)

The last three are imported by those who use them, since their wheels are an extra. No module needs torch.
"""

from biglittle_asr.decoding.hmm.alignment import Aligner, Alignment, AlignmentError, Segment
from biglittle_asr.decoding.hmm.tree import ContextStatistics, grow_tying
from biglittle_asr.decoding.hmm.tying import Tying, monophones, read_tying
from biglittle_asr.tokens.lexicon import Lexicon, read_lexicon

__all__ = [
    "Aligner",
    "Alignment",
    "AlignmentError",
    "ContextStatistics",
    "Lexicon",
    "Segment",
    "Tying",
    "grow_tying",
    "monophones",
    "read_lexicon",
    "read_tying",
]
