"""Pictures of runs and taggers: one HTML file that needs no network, and PNG and SVG files."""
