"""Embed and tag a corpus on several machines, with Ray Data."""
