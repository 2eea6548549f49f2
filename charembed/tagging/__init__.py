"""Train and apply sequence taggers."""
