"""CTC decoding: the best path, and beam search with language models, lexicons and hotwords."""
