"""The character language models, their scores and the text they generate."""
