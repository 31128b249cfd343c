"""N-gram language models: ARPA files, training on text, and scores of words."""
