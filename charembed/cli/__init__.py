"""The `charembed` command."""
