"""The check of a GPU: its command line, what is checked, and the processes that do it."""
