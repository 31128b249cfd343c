"""Recognized words by time, as NIST scores conversations: STM, CTM, GLM, and alignments of texts with alternatives."""
