"""General helpers for files, option values, devices and threads."""
