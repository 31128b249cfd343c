"""What tests share: corpora, networks, recipes and model folders, small enough to be made in a moment."""
