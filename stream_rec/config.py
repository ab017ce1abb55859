"""One frozen tree of settings: what each is called, what it means, what is allowed, what it is by default.

Every setting carries its unit in its name or description; ``stream-rec config reference`` prints them all
from here, so this file is the only place where a setting is described. ``settings_file`` fills the tree from
a TOML file, the environment and the command line; building it here reads nothing of the outside, so that a
variable of somebody's shell cannot change a test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from stream_rec.settings_checks import DEFAULT_MAX_REQUEST_BYTES, not_passed_through, refuse, task_problems
from stream_rec.settings_exploration import ExplorationSettings
from stream_rec.settings_learning import OptimiserSettings
from stream_rec.settings_ranking import StageSettings
from stream_rec.settings_shown import ExposureSettings, ImpressionSettings, OrderSettings
from stream_rec.settings_statistics import StatisticsSettings

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the tree: frozen, and an unknown key is an error, never silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkerSettings(Section):
    """The loop."""

    name: str = Field(
        default="worker-1",
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Unique name of this worker: its transactional id and its folder of snapshots.",
    )
    seed: int = Field(default=1, ge=0, le=2**32 - 1, description="Seed of every random stream.")
    device: str = Field(
        default="cpu",
        pattern=r"^(cpu|cuda|mps|xpu|meta)(:[0-9]+)?$",
        description="Torch device that holds the state and runs the model: cpu, cuda, cuda:0, mps.",
    )
    threads: int = Field(default=0, ge=0, description="Torch's CPU threads; 0 takes what the machine has.")
    max_batch: int = Field(default=256, gt=0, le=8192, description="A batch is learnt when it has this many events …")
    max_wait_ms: int = Field(
        default=100,
        ge=0,
        le=60_000,
        description="… or when its first event has waited this long (ms), whichever is first.",
    )
    ready_max_lag: int = Field(
        default=5_000, ge=0, description="`/readyz` says no while more records than this wait in the log."
    )


class TopicSettings(Section):
    """One topic."""

    name: str = Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$", description="Name on the broker.")
    partitions: Positive = Field(default=4, description="Partitions, used when the topic is created.")
    replication: Positive = Field(default=1, description="Replication factor, used when the topic is created.")
    retention_ms: int = Field(
        default=604_800_000,
        ge=-1,
        description="How long records are kept (ms), used when the topic is created; -1 for ever.",
    )
    compacted: bool = Field(
        default=False, description="Keep only the newest record of each key; used when the topic is created."
    )


TOPIC_ROLES = ("events", "items", "recommendations", "dead_letters", "journal")


class TopicsSettings(Section):
    """The five topics."""

    create_missing: bool = Field(
        default=True, description="Create missing topics at start; false refuses to start and names them."
    )
    events: TopicSettings = Field(
        default=TopicSettings(name="events"), description="Input: what people click, view, cart, buy; key = user_id."
    )
    items: TopicSettings = Field(
        default=TopicSettings(name="items", partitions=1, retention_ms=-1, compacted=True),
        description="Input: the catalogue; key = item_id.",
    )
    recommendations: TopicSettings = Field(
        default=TopicSettings(name="recommendations", retention_ms=-1, compacted=True),
        description="Output: the lists; key = user_id.",
    )
    dead_letters: TopicSettings = Field(
        default=TopicSettings(name="dead-letters", partitions=1),
        description="Output: records that could not be used, with the reason in a header.",
    )
    journal: TopicSettings = Field(
        default=TopicSettings(name="journal", partitions=1), description="Output: which offsets each batch took."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        taken: dict[str, str] = {}
        problems = []
        for role in TOPIC_ROLES:
            name: str = getattr(self, role).name
            if name in taken:
                problems.append((f"topics.{role}.name", f"{name!r} is the name of topics.{taken[name]} already"))
            taken.setdefault(name, role)
        refuse(problems)
        return self


class KafkaSettings(Section):
    """The broker. Whatever kafka-python's clients take can be passed through."""

    bootstrap_servers: list[Annotated[str, Field(pattern=r"^[^\s,]+$")]] = Field(
        default=["127.0.0.1:9092"], min_length=1, description="host:port of one or more brokers."
    )
    group_id: str = Field(
        default="stream-rec", min_length=1, description="Consumer group: workers of one group share the partitions."
    )
    start: Literal["earliest", "latest"] = Field(
        default="earliest", description="Where to begin on a partition without committed offset or snapshot."
    )
    compression: Literal["none", "gzip", "lz4", "zstd"] = Field(
        default="lz4", description="Compression of what is published."
    )
    transaction_timeout_ms: Positive = Field(
        default=60_000, description="The broker aborts a transaction that is open longer (ms)."
    )
    max_block_ms: Positive = Field(
        default=60_000, description="How long a publish waits for an unreachable broker before it is an error (ms)."
    )
    max_buffered: Positive = Field(
        default=4_096, description="Decoded events held before all partitions are paused (backpressure)."
    )
    client: dict[str, Any] = Field(
        default={},
        description="Passed to every kafka-python client: security_protocol, sasl_mechanism, ssl_cafile, …",
    )
    consumer: dict[str, Any] = Field(
        default={}, description="Passed to KafkaConsumer besides: fetch_max_bytes, session_timeout_ms, …"
    )
    producer: dict[str, Any] = Field(
        default={}, description="Passed to KafkaProducer besides: linger_ms, batch_size, max_request_size, …"
    )

    @field_validator("client", "consumer", "producer")
    @classmethod
    def _passes_no_promise_away(cls, table: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        refuse(not_passed_through(str(info.field_name), table))
        return table


class DecodeSettings(ImpressionSettings, Section):
    """What counts as a usable record."""

    max_bytes: Positive = Field(default=65_536, description="A larger record is a dead letter (bytes).")
    max_id_length: Positive = Field(
        default=256, description="A longer user_id or item_id is a dead letter (characters)."
    )
    min_timestamp_ms: int = Field(
        default=0, ge=0, description="An older timestamp is a dead letter (ms since the epoch)."
    )
    max_future_ms: Positive = Field(
        default=600_000,
        description="A timestamp further ahead of the record's own log time is a dead letter (ms).",
    )
    max_context_fields: Positive = Field(
        default=32, description="Context fields kept of an event; further ones are dropped."
    )


class StateSettings(ExposureSettings, StatisticsSettings, Section):
    """What is remembered, and the bound of each thing that grows."""

    max_users: Positive = Field(
        default=1_000_000, description="Users remembered; beyond it the least recently active are retired."
    )
    max_items: Positive = Field(
        default=200_000, description="Items remembered; beyond it the least recently touched are retired."
    )
    admit_user_after: Positive = Field(default=1, description="A user gets a row at this many sightings.")
    admit_item_after: Positive = Field(
        default=1,
        description="An item gets a row at this many sightings; above 1 that holds for items of the catalogue, too.",
    )
    history_length: Positive = Field(default=120, description="Newest interactions kept per user.")
    max_seen_per_user: Positive = Field(
        default=2_000,
        description="Consumed items remembered per user, so as not to show them again; the oldest go first.",
    )
    max_seen_entries: Positive = Field(
        default=20_000_000,
        description="Consumed items remembered over all users together; beyond it each user's oldest go.",
    )
    max_neighbours: Positive = Field(
        default=80,
        description="Neighbours kept per item in transitions and rules, items per value of a context (in steps of 8); "
        "twice as many in the item-kNN.",
    )
    max_item_features: Positive = Field(
        default=16, description="Hashed attributes kept per item (categories, tags, title words, price band, …)."
    )
    num_feature_buckets: int = Field(
        default=32_768, ge=2, description="Rows of the hashed table of attributes; the first stands for none."
    )
    request_context: list[str] = Field(
        default=[
            *("device", "os", "browser", "platform", "app", "language", "country", "region", "city", "timezone"),
            *("environment", "referrer", "channel", "campaign", "hour", "weekday", "daypart", "page"),
        ],
        description="Context fields that are known before an item is chosen: an event is ranked with its own values of "
        "these. All others (a category, the place of a check-in) could give the item away and are read from the past.",
    )
    num_context_slots: Positive = Field(
        default=8, description="Context fields of the request that the model reads, at most."
    )
    num_context_buckets: int = Field(
        default=4_096, ge=2, description="Rows of the hashed table of context values; the first stands for none."
    )


class ModelSettings(Section):
    """The network."""

    encoder: Literal[
        "attention", "transformer", "bert", "din", "gru", "lstm", "cnn", "mlp", "fm", "ncf", "mf", "none"
    ] = Field(
        default="attention",
        description="Architecture that reads the history; none leaves the statistics to themselves.",
    )
    dimension: int = Field(default=64, ge=8, le=1024, multiple_of=8, description="Width of embeddings and layers.")
    history_length: Positive = Field(default=50, description="Newest of the interactions kept that the encoder reads.")
    num_layers: int = Field(default=2, ge=1, le=12, description="Layers of the encoder, where it has any.")
    num_heads: int = Field(
        default=2, ge=1, le=16, description="Attention heads, where the encoder has any; must divide model.dimension."
    )

    @model_validator(mode="after")
    def _heads_divide_dimension(self) -> Self:
        if self.dimension % self.num_heads:
            allowed = ", ".join(str(num) for num in range(1, 17) if self.dimension % num == 0)
            text = f"{self.num_heads} does not divide model.dimension = {self.dimension}; these do: {allowed}"
            refuse([("model.num_heads", text)])
        return self


class LearningSettings(OptimiserSettings, OrderSettings, Section):
    """How it learns."""

    event_weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default={"impression": 0.0},
        description="Weight of an event type in the loss; 0 keeps it out of loss, history and statistics. "
        "Types not named weigh 1.",
    )
    row_rate: PositiveFloat = Field(default=0.05, description="Learning rate of embedding rows (row-wise Adagrad).")
    row_accumulator_start: PositiveFloat = Field(
        default=0.3,
        description="Start of a row's Adagrad accumulator: from zero, tiny gradients make full-size steps.",
    )
    row_accumulator_half_life_steps: PositiveFloat = Field(
        default=20_000.0,
        description="Half-life of a row's accumulator, in touches of that row, so that old rows can still move "
        "after a drift.",
    )
    dense_rate: PositiveFloat = Field(default=0.001, description="Learning rate of the encoder (AdamW).")
    gate_rate: PositiveFloat = Field(default=0.01, description="Learning rate of the gate over the statistics (AdamW).")
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.01, description="Decoupled weight decay of the encoder (AdamW)."
    )
    warmup_steps: int = Field(
        default=20, ge=0, description="Batches over which the encoder's learning rate rises to its value."
    )
    clip_norm: PositiveFloat = Field(default=5.0, description="The encoder's gradient is clipped to this norm.")
    full_softmax_max_items: int = Field(
        default=20_000,
        ge=0,
        description="Up to this many items the softmax runs over all of them; beyond, over sampled negatives "
        "with logQ correction.",
    )
    num_uniform_negatives: Positive = Field(default=512, description="Shared negatives of a batch drawn uniformly.")
    num_popular_negatives: Positive = Field(default=256, description="Shared negatives of a batch drawn by popularity.")


class RankingSettings(ExplorationSettings, StageSettings, Section):
    """What is published."""

    list_length: int = Field(default=20, gt=0, le=1000, description="Items of a list (K).")
    exclude_seen: bool = Field(default=True, description="Leave out what the user has consumed already.")
    unseen_items: bool = Field(
        default=True, description="Items that are in the catalogue and nobody has touched yet may be recommended."
    )


class EvaluationSettings(Section):
    """Progressive (prequential) measurement."""

    window_events: Positive = Field(default=5_000, description="Sliding window of the live metrics (events).")
    baselines: bool = Field(
        default=True, description="Keep popularity and item-to-item transitions beside the model, to compare."
    )
    baseline_popularity_half_lives_s: list[PositiveFloat] = Field(
        default=[900.0, 10_800.0], description="Half-lives of the popularity baselines (s); one of all time is added."
    )
    baseline_transition_half_life_s: PositiveFloat = Field(
        default=86_400.0 * 14, description="Half-life of the transitions baseline (s)."
    )
    baseline_neighbours: Positive = Field(
        default=64, description="Successors that the transitions baseline keeps per item."
    )


class SnapshotSettings(Section):
    """What survives a restart."""

    enabled: bool = Field(default=True, description="Write snapshots and resume from them.")
    directory: Path = Field(default=Path("var/snapshots"), description="Folder; each worker has its own below it.")
    every_s: PositiveFloat = Field(default=60.0, description="Seconds between snapshots.")
    keep: int = Field(default=3, ge=1, le=100, description="Newest snapshots kept.")


class TelemetrySettings(Section):
    """Being watched."""

    host: str = Field(default="127.0.0.1", description="Address of `/metrics`, `/healthz`, `/readyz`.")
    port: int = Field(default=9464, ge=0, le=65_535, description="Port of them; 0 takes a free one.")
    enabled: bool = Field(default=True, description="Serve them.")
    log_format: Literal["json", "pretty"] = Field(default="pretty", description="Log lines for machines or for people.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level logged."
    )
    alive_timeout_s: PositiveFloat = Field(
        default=120.0, description="`/healthz` says no when the loop has not come round for this long (s)."
    )


class Settings(Section):
    """The whole tree."""

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

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        problems = task_problems(self.learning.tasks, self.learning.event_weights, self.model.encoder)
        if self.kafka.max_buffered < self.worker.max_batch:
            text = f"{self.kafka.max_buffered} is less than worker.max_batch = {self.worker.max_batch}: none could fill"
            problems.append(("kafka.max_buffered", text))
        if self.ranking.list_length > self.state.max_items:
            text = f"{self.ranking.list_length} is more than state.max_items = {self.state.max_items}"
            problems.append(("ranking.list_length", text))
        longest_s = (self.kafka.max_block_ms + self.worker.max_wait_ms) / 1_000
        if self.telemetry.alive_timeout_s <= longest_s:
            text = (
                f"{self.telemetry.alive_timeout_s:g} must be more than the {longest_s:g} s that one round of the loop "
            )
            text += (
                "may take (kafka.max_block_ms + worker.max_wait_ms), or an outage of the broker gets the worker killed"
            )
            problems.append(("telemetry.alive_timeout_s", text))
        max_request_bytes = self.kafka.producer.get("max_request_size", DEFAULT_MAX_REQUEST_BYTES)
        if isinstance(max_request_bytes, int) and self.decode.max_bytes > max_request_bytes:
            text = f"{self.decode.max_bytes} is more than kafka.producer.max_request_size = {max_request_bytes}: "
            text += "a record of that size could not be sent to the dead letters"
            problems.append(("decode.max_bytes", text))
        refuse(problems)
        return self
