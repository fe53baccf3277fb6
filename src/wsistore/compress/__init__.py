"""Codecs, folds, the writer and reader of the store, verification."""
