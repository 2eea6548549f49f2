"""Receives a `CharEmbedder`; hands it on to other libraries, one module each, none imported before it is asked for."""
