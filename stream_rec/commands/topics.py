"""``stream-rec topics create``."""

from __future__ import annotations

import logging

import typer

from producers.topics import ensure_topics
from stream_rec.config import TOPIC_ROLES, Settings


def create(settings: Settings) -> int:
    """Create what is missing and say what was created.

    Whoever types this wants the topics, so ``topics.create_missing = false``, which is about the start of a
    worker, does not stop it. Raises BrokerError where the broker cannot be reached or refuses.
    """
    # The client reports every attempt to connect; the error that comes out of here says it once.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    topics = settings.topics.model_copy(update={"create_missing": True})
    created = ensure_topics(settings.kafka, topics)
    for role in TOPIC_ROLES:
        name = getattr(topics, role).name
        typer.echo(f"{name}: {'created' if name in created else 'there already'}")
    return 0
