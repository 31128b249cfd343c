"""A recipe's YAML file: reading, checking and running it; preparing its corpus and tokenizer."""
