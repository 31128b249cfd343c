"""Training of CTC models, attention models and transducers."""
