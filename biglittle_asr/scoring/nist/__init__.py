"""NIST's scoring of conversations by time: STM, CTM and GLM files, and alignment of texts with alternatives."""
