"""Which columns of `features` hold the astrometry, for models that read them by position."""

FEATURES = ["x", "y", "parallax", "pmra", "pmdec"]


def check_features(datamodule: object, asking: str) -> None:
    """Refuse data whose features do not begin with the five of astrometry.

    Args:
        datamodule: With a list `features`, else nothing is asked of it.
        asking: What needs them, the subject of the message.

    Raises:
        ValueError: If they are others or in another order.
    """
    names = list(getattr(datamodule, "features", FEATURES))
    if names[:5] != FEATURES:
        raise ValueError(
            f"{asking} needs data.features that begin with {FEATURES}, not {names}; set "
            "data.features or leave it out"
        )
