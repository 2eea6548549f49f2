"""A local page on which a model, its tags and the neighbors of words can be looked at."""
