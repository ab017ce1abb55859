"""The command line. Nothing heavy is imported before a command that needs it runs: ``--help`` answers at once."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from stream_rec.config import Settings

EXIT_CODES = (
    "Exit codes: 0 done; 1 failure; 2 a setting or an option is wrong; 3 an input file cannot be read; "
    "4 the broker cannot be reached or refuses; 5 fenced by another worker of the same name; "
    "6 a snapshot cannot be written or read; 130 interrupted."
)

app = typer.Typer(
    name="stream-rec",
    help="A recommender that learns from every click within a second: events in, fresh top-K lists out.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
config_app = typer.Typer(
    help="Check, show and explain the settings, and list the metrics.", epilog=EXIT_CODES, no_args_is_help=True
)
topics_app = typer.Typer(help="The Kafka topics.", epilog=EXIT_CODES, no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(topics_app, name="topics")


class Lists(StrEnum):
    """Which list of a user is written and measured."""

    fresh = "fresh"
    published = "published"


class SettingsFormat(StrEnum):
    """How settings are written."""

    toml = "toml"
    json = "json"


class TableFormat(StrEnum):
    """How a table is written."""

    table = "table"
    markdown = "markdown"


def _above_zero(value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):
        raise typer.BadParameter(f"{value:g} is not allowed: a number above 0")
    return value


Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="STREAM_REC_CONFIG", help="Settings file (TOML).", show_default="no file"),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one setting; may be given several times."),
]
Format = Annotated[TableFormat, typer.Option("--format", help="For the terminal, or for a README.")]


def _pairs(option: str, texts: Sequence[str], example: str) -> dict[str, str]:
    """``a=b`` pairs, several in one text where commas part them. Raises a usage error for anything else."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key.strip() or not equals:
            raise typer.BadParameter(f"{text!r} is not of the form {example}", param_hint=option)
        if key.strip() in pairs:
            raise typer.BadParameter(f"{key.strip()!r} is given twice", param_hint=option)
        pairs[key.strip()] = value.strip()
    return pairs


def _columns(option: str, text: str | None) -> dict[str, str]:
    parts = [part for part in (text or "").split(",") if part.strip()]
    columns = _pairs(option, parts, "user_id=visitorid,item_id=itemid")
    for ours, theirs in columns.items():
        if not theirs:
            raise typer.BadParameter(f"{ours!r} is given no column", param_hint=option)
    return columns


def _settings(config: Path | None, overrides: list[str] | None) -> Settings:
    from stream_rec.settings_file import load_settings

    return load_settings(config, _pairs("--set", overrides or [], "section.key=value"))


def _start(config: Path | None, overrides: list[str] | None) -> Settings:
    """Settings of a command that works: loaded, checked, and logs set up by them."""
    from stream_rec.telemetry.logging import configure_logging

    settings = _settings(config, overrides)
    configure_logging(settings.telemetry.log_format, settings.telemetry.log_level)
    return settings


@app.command(epilog="Example: stream-rec run --config deploy/worker.toml --set worker.name=worker-2")
def run(config: Config = None, overrides: Set = None) -> None:
    """Run the long-lived worker on Kafka until SIGTERM, which ends it in good order.

    It finishes the batch, publishes, commits, writes a snapshot and leaves the group.
    """
    settings = _start(config, overrides)
    from stream_rec.commands import run as command

    raise typer.Exit(command.main(settings))


@app.command(epilog="Examples: stream-rec demo · stream-rec demo --seconds 20 --seed 7 · stream-rec demo --kafka")
def demo(
    seconds: Annotated[float, typer.Option(callback=_above_zero, help="How long it runs (s).")] = 60.0,
    events: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many events.", show_default="no limit")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(callback=_above_zero, help="Events per second of the shop.", show_default="as fast as it learns"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the shop and of the worker.", show_default="worker.seed")
    ] = None,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="Through a real Apache Kafka broker, started for it (needs Java and Maven).")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Save the last view as an SVG file.", show_default="none")
    ] = None,
    config: Config = None,
    overrides: Set = None,
) -> None:
    """Watch a simulated shop being learnt, live in the terminal; no broker needed.

    Half-way the shop's taste shifts and new items appear, and the lists recover.
    """
    settings = _start(config, [*(overrides or []), *([] if seed is None else [f"worker.seed={seed}"])])
    from stream_rec.commands import demo as command

    code = command.main(
        settings,
        seconds=seconds,
        num_events=events,
        rate=rate,
        seed=settings.worker.seed,
        kafka=kafka,
        picture=picture,
    )
    raise typer.Exit(code)


@app.command(
    epilog="Examples: stream-rec replay ratings.csv --items movies.csv · "
    "stream-rec replay log.parquet --map user_id=visitorid,item_id=itemid,type=event --out lists.jsonl · "
    "stream-rec replay log.jsonl --to-kafka --speed 100 --config worker.toml"
)
def replay(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…",
            help="Recorded logs, read one after the other: Parquet, CSV, JSON lines, MovieLens ratings.csv or u.data.",
        ),
    ],
    mapping: Annotated[
        str | None,
        typer.Option("--map", metavar="OURS=THEIRS,…", help="Columns of the log: user_id, item_id, type, timestamp, …"),
    ] = None,
    items: Annotated[Path | None, typer.Option(help="The catalogue: item_id, title, categories, price, …")] = None,
    items_mapping: Annotated[
        str | None, typer.Option("--items-map", metavar="OURS=THEIRS,…", help="Columns of the catalogue.")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            callback=_above_zero,
            help="Keep the log's own time, this many times as fast.",
            show_default="as fast as it learns",
        ),
    ] = None,
    allow_repeats: Annotated[
        bool, typer.Option("--allow-repeats", help="What a user has had may be recommended again.")
    ] = False,
    explore: Annotated[
        bool,
        typer.Option("--explore", help="Draw places for new items in published lists, as ranking.explore_share says."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write one JSON line an event, in the log's order, with the list before it.")
    ] = None,
    lists: Annotated[
        Lists,
        typer.Option(help="Rank just before each event, or take the list as last published for its user."),
    ] = Lists.fresh,
    to_kafka: Annotated[
        bool, typer.Option("--to-kafka", help="Play the log into the topic of events instead of learning from it.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many events.")] = None,
    report_json: Annotated[Path | None, typer.Option(help="Write the final report as JSON too.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    config: Config = None,
    overrides: Set = None,
) -> None:
    """Learn from a recorded log as if it were live, and report how good the lists were.

    Every event is scored before it is learnt from, beside popularity and item-to-item transitions.
    """
    columns, item_columns = _columns("--map", mapping), _columns("--items-map", items_mapping)
    if item_columns and items is None:
        raise typer.BadParameter("names columns of a catalogue, but --items is not given", param_hint="--items-map")
    if to_kafka and (out is not None or report_json is not None):
        raise typer.BadParameter("learns nothing, so there is no --out and no --report-json", param_hint="--to-kafka")
    settings = _start(config, overrides)
    from stream_rec.commands import replay as command

    code = command.main(
        settings,
        files,
        mapping=columns,
        items=items,
        items_mapping=item_columns,
        speed=speed,
        allow_repeats=allow_repeats,
        explore=explore,
        out=out,
        lists=lists.value,
        to_kafka=to_kafka,
        limit=limit,
        report_json=report_json,
        quiet=quiet,
    )
    raise typer.Exit(code)


@app.command(
    epilog="Examples: stream-rec evaluate -s ratings.csv,items=movies.csv · "
    "stream-rec evaluate -s log.parquet,repeats -s other.csv,user_id=visitorid,limit=50000 -m model -m baselines "
    r"-m 'model\[model.encoder=gru]' -m 'model\[ranking.second_stage=false]' --seeds 1,2 --out study"
)
def evaluate(
    streams: Annotated[
        list[str],
        typer.Option(
            "--stream",
            "-s",
            metavar="FILE[,…]",
            help="A recorded log, and after commas: items=FILE (its catalogue), repeats (what a user has had may be "
            "recommended again), rerank or off-policy (see the README), limit=N (its first N rows), name=NAME (by "
            "default the file's), FIELD=COLUMN (columns of the log, as in replay --map), items.FIELD=COLUMN (of the "
            "catalogue), section.key=value (settings for this stream alone). May be given several times.",
        ),
    ],
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            metavar="METHOD",
            help=r"model (these settings); 'model\[section.key=value,…]' (with others laid over them); a baseline by "
            "its name (a wrong one lists them); or a group: baselines, counting, factorising, neural, encoders, "
            "ablations. May be given several times.",
            show_default="model and baselines",
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N,…", help="Each run once with each of these seeds; figures are means.", show_default="worker.seed"
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder of results: one file a run in runs/, and report.html, results.json, results.md, summary.md.",
        ),
    ] = Path("var/evaluation"),
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Run nothing: make the views from the runs that are there.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Run also what is there already.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    config: Config = None,
    overrides: Set = None,
) -> None:
    """Compare methods on recorded logs: every stream with every method and seed, test then learn.

    A run that is there is not done again unless log, settings or version are others: broken off, the same command
    goes on where it was.
    """
    _start(config, overrides)
    from stream_rec.commands import evaluate as command

    code = command.main(
        config,
        _pairs("--set", overrides or [], "section.key=value"),
        streams=streams,
        methods=methods or ["model", "baselines"],
        seeds=seeds,
        out=out,
        report_only=report_only,
        again=again,
        quiet=quiet,
    )
    raise typer.Exit(code)


@topics_app.command("create", epilog="Example: stream-rec topics create --config deploy/worker.toml")
def topics_create(config: Config = None, overrides: Set = None) -> None:
    """Create the topics that are missing, with partitions, replication and retention of the settings."""
    settings = _start(config, overrides)
    from stream_rec.commands import topics as command

    raise typer.Exit(command.create(settings))


@config_app.command("check", epilog="Example: stream-rec config check --config deploy/worker.toml")
def config_check(config: Config = None, overrides: Set = None) -> None:
    """Say whether the settings can be used; if not, every problem, with place, value and what is allowed."""
    from stream_rec.commands import config as command

    raise typer.Exit(command.check(config, _pairs("--set", overrides or [], "section.key=value")))


@config_app.command("show", epilog="Example: stream-rec config show --config deploy/worker.toml --format json")
def config_show(
    config: Config = None,
    overrides: Set = None,
    format: Annotated[SettingsFormat, typer.Option("--format", help="TOML with comments, or JSON.")] = (
        SettingsFormat.toml
    ),
) -> None:
    """Print the settings in effect and where each comes from; passwords and tokens are left out."""
    from stream_rec.commands import config as command

    pairs = _pairs("--set", overrides or [], "section.key=value")
    raise typer.Exit(command.show(config, pairs, as_json=format is SettingsFormat.json))


@config_app.command("reference")
def config_reference(format: Format = TableFormat.table) -> None:
    """Print every setting: name, type and bounds, unit, default, meaning."""
    from stream_rec.commands import config as command

    raise typer.Exit(command.reference(as_markdown=format is TableFormat.markdown))


@config_app.command("metrics")
def config_metrics(format: Format = TableFormat.table) -> None:
    """Print every Prometheus metric: name, type, unit, labels, meaning."""
    from stream_rec.commands import config as command

    raise typer.Exit(command.metrics(as_markdown=format is TableFormat.markdown))


@app.command()
def version() -> None:
    """Print the version, and those of Python and the libraries that matter for a report of a bug."""
    from stream_rec.commands import version as command

    raise typer.Exit(command.main())
