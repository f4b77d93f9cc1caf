"""Windows, pairs, corpora and the loader."""
