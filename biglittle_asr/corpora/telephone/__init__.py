"""Telephone conversations as LDC ships them: Switchboard, Fisher, Hub5'00; and small corpora in their layouts."""
