"""Hidden Markov models over a network's outputs: tied states, alignment, decoding graphs, and search.

- `tokens/lexicon.py` (another package): words and their phones
- `tying.py`: maps states of phones in context to outputs of the network
- `tree.py`: ties states by decision trees
- `alignment.py`: aligns transcripts with frames
- `graph.py`: builds HCLG from a lexicon, tied states and a language model (kaldifst, kaldilm)
- `search.py`: finds the best words (kaldi-decoder)
- `openfst.py`: reads OpenFst's files of graphs
- `kaldi.py`: reads Kaldi's graphs and alignments (kaldi-native-io)

This package does not import the last four, since their wheels are an optional extra. These modules need no torch.
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
