"""The model folder: what it holds, how it is written, and how it is read without executing anything.

- `store.py`: the files, written and read; `weights.py`: safetensors
- `config.py`: config.json; `card.py`: README.md
- `kinds.py`, `searches.py`: how CTC models, attention models, transducers and hybrid systems differ
- `classifier.py`: image classifiers, by name or from a folder
- `packing.py`: from an experiment folder to a model folder
"""
