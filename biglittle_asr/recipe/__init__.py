"""A recipe's YAML file: read, checked and run; its corpus prepared, its tokenizer made."""
