"""The one exception of this package."""


class Error(Exception):
    """What is wrong with the input, in one sentence that names the place and the remedy."""
