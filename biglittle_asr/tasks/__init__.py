"""Training and evaluation with SpeechBrain: recipes, data, tokenizers, and the Brain of each task."""
