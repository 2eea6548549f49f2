"""Files, option checks, devices and threads: nothing specific to language models."""
