"""A recommender that learns from every event of a Kafka topic and publishes fresh lists within a second."""

__version__ = "0.1.0"
