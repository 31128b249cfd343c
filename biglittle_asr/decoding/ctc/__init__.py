"""Searches over a CTC model's outputs: the best path, and beam search with language models, lexicons and hotwords."""
