"""One frozen tree of settings: a TOML file, overridden by ``STREAM_REC_<SECTION>__<KEY>`` in the environment.

Every setting carries its unit in its name or description; ``stream-rec config reference`` prints them all
from here, so this file is the only place where a setting is described.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import (
    BaseSettings,
    SettingsConfigDict,
)

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of the tree: frozen, and an unknown key is an error, never silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkerSettings(Section):
    """The loop."""

    name: str = Field(
        "worker-1",
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Unique name of this worker: its transactional id and its folder of snapshots.",
    )
    seed: int = Field(1, ge=0, description="Seed of every random stream.")
    device: str = Field(
        "cpu", description="Torch device that holds the state and runs the model: cpu, cuda, cuda:0, mps."
    )
    threads: int = Field(0, ge=0, description="Torch's CPU threads; 0 takes what the machine has.")
    max_batch: int = Field(256, gt=0, le=8192, description="A batch is learnt when it has this many events …")
    max_wait_ms: int = Field(
        100,
        ge=0,
        le=60_000,
        description="… or when its first event has waited this long (ms), whichever is first.",
    )
    ready_max_lag: int = Field(
        5_000, ge=0, description="`/readyz` says no while more records than this wait in the log."
    )


class TopicSettings(Section):
    """One topic."""

    name: str = Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$", description="Name on the broker.")
    partitions: Positive = Field(4, description="Partitions, used when the topic is created.")
    replication: Positive = Field(1, description="Replication factor, used when the topic is created.")
    retention_ms: int = Field(
        604_800_000,
        ge=-1,
        description="How long records are kept (ms), used when the topic is created; -1 for ever.",
    )
    compacted: bool = Field(
        False, description="Keep only the newest record of each key; used when the topic is created."
    )


class TopicsSettings(Section):
    """The five topics."""

    create_missing: bool = Field(
        True, description="Create missing topics at start; false refuses to start and names them."
    )
    events: TopicSettings = Field(
        TopicSettings(name="events"), description="Input: what people click, view, cart, buy; key = user_id."
    )
    items: TopicSettings = Field(
        TopicSettings(name="items", partitions=1, retention_ms=-1, compacted=True),
        description="Input: the catalogue; key = item_id.",
    )
    recommendations: TopicSettings = Field(
        TopicSettings(name="recommendations", retention_ms=-1, compacted=True),
        description="Output: the lists; key = user_id.",
    )
    dead_letters: TopicSettings = Field(
        TopicSettings(name="dead-letters", partitions=1),
        description="Output: records that could not be used, with the reason in a header.",
    )
    journal: TopicSettings = Field(
        TopicSettings(name="journal", partitions=1), description="Output: which offsets each batch took."
    )


class KafkaSettings(Section):
    """The broker. Whatever kafka-python's clients take can be passed through."""

    bootstrap_servers: list[str] = Field(
        ["127.0.0.1:9092"], min_length=1, description="host:port of one or more brokers."
    )
    group_id: str = Field(
        "stream-rec", min_length=1, description="Consumer group: workers of one group share the partitions."
    )
    start: Literal["earliest", "latest"] = Field(
        "earliest", description="Where to begin on a partition without committed offset or snapshot."
    )
    compression: Literal["none", "gzip", "lz4", "zstd"] = Field("lz4", description="Compression of what is published.")
    transaction_timeout_ms: Positive = Field(
        60_000, description="The broker aborts a transaction that is open longer (ms)."
    )
    max_block_ms: Positive = Field(
        60_000, description="How long a publish waits for an unreachable broker before it is an error (ms)."
    )
    max_buffered: Positive = Field(
        4_096, description="Decoded events held before all partitions are paused (backpressure)."
    )
    client: dict[str, Any] = Field(
        {},
        description="Passed to every kafka-python client: security_protocol, sasl_mechanism, ssl_cafile, …",
    )
    consumer: dict[str, Any] = Field(
        {}, description="Passed to KafkaConsumer besides: fetch_max_bytes, session_timeout_ms, …"
    )
    producer: dict[str, Any] = Field(
        {}, description="Passed to KafkaProducer besides: linger_ms, batch_size, max_request_size, …"
    )


class DecodeSettings(Section):
    """What counts as a usable record."""

    max_bytes: Positive = Field(65_536, description="A larger record is a dead letter (bytes).")
    max_id_length: Positive = Field(256, description="A longer user_id or item_id is a dead letter (characters).")
    min_timestamp_ms: int = Field(0, ge=0, description="An older timestamp is a dead letter (ms since the epoch).")
    max_future_ms: Positive = Field(
        86_400_000,
        description="A timestamp further ahead of the record's own log time is a dead letter (ms).",
    )
    max_context_fields: Positive = Field(32, description="Context fields kept of an event; further ones are dropped.")


class StateSettings(Section):
    """What is remembered, and the bound of each thing that grows."""

    max_users: Positive = Field(
        1_000_000, description="Users remembered; beyond it the least recently active are retired."
    )
    max_items: Positive = Field(
        200_000, description="Items remembered; beyond it the least recently touched are retired."
    )
    admit_user_after: Positive = Field(1, description="A user gets a row at this many sightings.")
    admit_item_after: Positive = Field(1, description="An item gets a row at this many sightings.")
    history_length: Positive = Field(50, description="Newest interactions kept per user, read by attention.")
    max_seen_per_user: Positive = Field(
        2_000,
        description="Consumed items remembered per user, so as not to show them again; the oldest go first.",
    )
    max_neighbours: Positive = Field(64, description="Successors kept per item in the transition statistics.")
    max_item_features: Positive = Field(
        16, description="Hashed attributes kept per item (categories, tags, title words, price band, …)."
    )
    num_feature_buckets: Positive = Field(32_768, description="Rows of the hashed table of attributes.")
    num_context_slots: Positive = Field(8, description="Context fields of an event that the model reads.")
    num_context_buckets: Positive = Field(4_096, description="Rows of the hashed table of context values.")
    popularity_half_lives_s: list[PositiveFloat] = Field(
        [300.0, 1_200.0, 7_200.0, 43_200.0, 345_600.0],
        min_length=1,
        description="Half-lives of the decayed popularity statistics (s); one that never decays is added.",
    )
    transition_half_life_s: PositiveFloat = Field(
        86_400.0 * 14, description="Half-life of the item-to-item transition statistics (s)."
    )


class ModelSettings(Section):
    """The network."""

    encoder: Literal["attention"] = Field("attention", description="Architecture that reads the history.")
    dimension: int = Field(64, ge=8, le=1024, multiple_of=8, description="Width of embeddings and layers.")
    num_layers: int = Field(2, ge=1, le=12, description="Attention layers.")
    num_heads: int = Field(2, ge=1, le=16, description="Attention heads; must divide model.dimension.")


class LearningSettings(Section):
    """How it learns."""

    event_weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        {"impression": 0.0},
        description="Weight of an event type in the loss; 0 keeps it out of loss, history and statistics. Types not named weigh 1.",
    )
    row_rate: PositiveFloat = Field(0.05, description="Learning rate of embedding rows (row-wise Adagrad).")
    row_accumulator_start: PositiveFloat = Field(
        0.3,
        description="Start of a row's Adagrad accumulator: from zero, tiny gradients make full-size steps.",
    )
    row_accumulator_half_life_steps: PositiveFloat = Field(
        20_000.0,
        description="Half-life of a row's accumulator, in touches of that row, so that old rows can still move after a drift.",
    )
    dense_rate: PositiveFloat = Field(0.001, description="Learning rate of the encoder (AdamW).")
    gate_rate: PositiveFloat = Field(0.01, description="Learning rate of the gate over the statistics (AdamW).")
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.01, description="Decoupled weight decay of the encoder (AdamW)."
    )
    warmup_steps: int = Field(
        20, ge=0, description="Batches over which the encoder's learning rate rises to its value."
    )
    clip_norm: PositiveFloat = Field(5.0, description="The encoder's gradient is clipped to this norm.")
    full_softmax_max_items: int = Field(
        20_000,
        ge=0,
        description="Up to this many items the softmax runs over all of them; beyond, over sampled negatives with logQ correction.",
    )
    num_uniform_negatives: Positive = Field(512, description="Shared negatives of a batch drawn uniformly.")
    num_popular_negatives: Positive = Field(256, description="Shared negatives of a batch drawn by popularity.")


class RankingSettings(Section):
    """What is published."""

    list_length: int = Field(20, gt=0, le=1000, description="Items of a list (K).")
    exclude_seen: bool = Field(True, description="Leave out what the user has consumed already.")
    unseen_items: bool = Field(
        True, description="Items that are in the catalogue and nobody has touched yet may be recommended."
    )


class EvaluationSettings(Section):
    """Progressive (prequential) measurement."""

    window_events: Positive = Field(5_000, description="Sliding window of the live metrics (events).")
    baselines: bool = Field(
        True, description="Keep popularity and item-to-item transitions beside the model, to compare."
    )
    baseline_popularity_half_lives_s: list[PositiveFloat] = Field(
        [900.0, 10_800.0], description="Half-lives of the popularity baselines (s); one of all time is added."
    )


class SnapshotSettings(Section):
    """What survives a restart."""

    enabled: bool = Field(True, description="Write snapshots and resume from them.")
    directory: Path = Field(Path("var/snapshots"), description="Folder; each worker has its own below it.")
    every_s: PositiveFloat = Field(60.0, description="Seconds between snapshots.")
    keep: int = Field(3, ge=1, le=100, description="Newest snapshots kept.")


class TelemetrySettings(Section):
    """Being watched."""

    host: str = Field("127.0.0.1", description="Address of `/metrics`, `/healthz`, `/readyz`.")
    port: int = Field(9464, ge=0, le=65_535, description="Port of them; 0 takes a free one.")
    enabled: bool = Field(True, description="Serve them.")
    log_format: Literal["json", "pretty"] = Field("pretty", description="Log lines for machines or for people.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged.")
    alive_timeout_s: PositiveFloat = Field(
        120.0, description="`/healthz` says no when the loop has not come round for this long (s)."
    )


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="STREAM_REC_",
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    worker: WorkerSettings = WorkerSettings()
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicsSettings = TopicsSettings()
    decode: DecodeSettings = DecodeSettings()
    state: StateSettings = StateSettings()
    model: ModelSettings = ModelSettings()
    learning: LearningSettings = LearningSettings()
    ranking: RankingSettings = RankingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    snapshot: SnapshotSettings = SnapshotSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
