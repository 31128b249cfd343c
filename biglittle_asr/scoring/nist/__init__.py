"""Recognized words with times, scored as NIST does: STM, CTM, GLM, and alignments of texts with alternatives."""
