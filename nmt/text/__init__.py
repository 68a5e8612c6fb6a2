"""Raw text to batches: corpora, lines, tokenizer, batches."""
