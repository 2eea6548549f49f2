"""Read text from files and data sets, number its characters and find its words."""
