"""Tokenizers, words built from tokens, and pronunciations."""
