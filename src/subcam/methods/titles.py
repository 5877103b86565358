"""What tables call the methods of a run's record."""

from subcam.checks.fields import shortly


def title_of(method: str, recorded: str) -> str:
    """What tables call a method: its title in the record, or in one from before titles were recorded, ours.

    Raises:
        TypeError: the record has none, and the method is none of ours.
    """
    if recorded:
        return recorded

    from subcam.methods.built_in import TITLES  # with torch, which who only reads newer records does without

    if method not in TITLES:
        raise TypeError(f"there is no comparison {shortly(method)}")
    return TITLES[method]
