"""The terms of an exam over a recorded log, the same for ``replay`` and ``evaluate``."""

from __future__ import annotations

from stream_rec.config import Settings

BURN_IN_FRACTION = 0.1  # this much of the log is learnt from before anything counts


def under_protocol(settings: Settings, *, allow_repeats: bool, explore: bool = False) -> Settings:
    """The settings as the protocol wants them: nothing can be listed before somebody has touched it.

    With ``allow_repeats`` what a user has had may be listed again; places are drawn for new items only where
    ``explore`` asks for it.
    """
    ranking = settings.ranking.model_copy(
        update={
            "exclude_seen": settings.ranking.exclude_seen and not allow_repeats,
            "unseen_items": False,
            "explore_share": settings.ranking.explore_share if explore else 0.0,
        }
    )
    return settings.model_copy(update={"ranking": ranking})
