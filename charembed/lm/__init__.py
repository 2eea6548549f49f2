"""Define character language models, score text with them and generate text from them."""
