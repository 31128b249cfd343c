"""What words are made of: tokenizers, words of tokens, pronunciations."""
