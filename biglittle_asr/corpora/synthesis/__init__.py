"""Small corpora made by speech synthesis."""
