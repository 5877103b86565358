"""How shares are written in sentences and captions."""


def percent(share: float) -> str:
    """A share in 0..1 in per cent with one decimal."""
    return f"{100 * share:.1f}"


def signed(share: float) -> str:
    """A difference of shares in points with one decimal and its sign."""
    return f"{100 * share:+.1f}".replace("-", "−")
