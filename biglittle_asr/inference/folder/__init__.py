"""The model folder: what it holds, how it is written, and how it is read without executing anything."""
