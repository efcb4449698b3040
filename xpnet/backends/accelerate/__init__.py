"""Fast paths, each for one library. Each is tested against the plain code whose place it takes.

Import each from its module: a first prediction on NumPy should not import those of the other libraries.
"""
