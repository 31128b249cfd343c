"""`python -m biglittle_asr.corpora.synthesis`."""

import sys

from biglittle_asr.corpora.synthesis.librispeech_like import main

if __name__ == "__main__":
    sys.exit(main())
