"""Names of classes that the figures are drawn with: short, of all lengths, and long."""

import string

from xpnet.data.mnist import CLASSES

__all__ = ["DIGITS", "FASHION", "LONG", "PERCENT"]

PERCENT = "\N{NO-BREAK SPACE}%"
DIGITS = CLASSES["mnist"]
FASHION = CLASSES["fashion-mnist"]
LONG = tuple(f"{c} is a class with quite a long name indeed" for c in string.ascii_lowercase)
