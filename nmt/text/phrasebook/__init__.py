"""The phrasebook: an English-French corpus of our own, drawn from a lexicon and a grammar that a linguist can edit."""
