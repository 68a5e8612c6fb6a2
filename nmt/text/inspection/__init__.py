"""What is wrong with the sentence pairs of a corpus, found without knowing their languages."""
