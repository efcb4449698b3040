"""Data: readers of named data sets and of files, splits, and batches."""
