"""Read text: sources, corpora, vocabularies, words."""
