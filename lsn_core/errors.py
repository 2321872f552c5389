"""The exception for everything a user can cause and can put right, and its kind for pictures."""


class UserError(ValueError):
    """A mistake in what the user gave: its message says what is wrong, with which file or name, and what to do.

    The command line prints the message without a traceback, the app shows it beside the input it belongs to.

    Examples:
        >>> from lsn_core import UserError, get_preset
        >>> try:
        ...     get_preset("slow")
        ... except UserError as error:
        ...     print(error)
        No preset is called 'slow'. Known presets: paper, reference, fast.
    """


START_AGAIN = (
    "Then start again: with --resume or --cache, where one of them was given before, what is done is not done again."
)
"""What to do about a run that others have brought to an end."""


class ImageError(UserError):
    """A picture that cannot be used: missing, too large, damaged or in another format. The message names the file."""
