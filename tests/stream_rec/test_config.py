"""Settings: sources and their order, every mistake named with its place, no secret shown."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from stream_rec.config import ModelSettings, Settings
from stream_rec.errors import SettingsError
from stream_rec.settings_file import load_settings, load_with_origins
from stream_rec.settings_reference import all_settings, redacted, toml_value
from stream_rec.toml_lines import key_lines


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "worker.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems_of(path: Path | None = None, overrides=None, environ=None) -> list[str]:
    """The lines of the error, one for each problem."""
    with pytest.raises(SettingsError) as raised:
        load_settings(path, overrides or {}, environ or {})
    lines = str(raised.value).splitlines()
    return [line.strip() for line in lines[1:]] if len(lines) > 1 else lines


def test_without_any_source_everything_is_default():
    loaded = load_with_origins(None, {}, {})
    assert loaded.settings == Settings()
    assert loaded.origins == {}


def test_building_settings_reads_no_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STREAM_REC_WORKER__MAX_BATCH", "7")
    assert Settings().worker.max_batch == 256
    assert load_settings(None).worker.max_batch == 7


def test_file_then_environment_then_command_line(write):
    path = write("[worker]\nmax_batch = 1\nmax_wait_ms = 2\nthreads = 3\n")
    environ = {"STREAM_REC_WORKER__MAX_WAIT_MS": "20", "STREAM_REC_WORKER__THREADS": "30"}
    settings, origins = load_with_origins(path, {"worker.threads": "300"}, environ)
    assert (settings.worker.max_batch, settings.worker.max_wait_ms, settings.worker.threads) == (1, 20, 300)
    assert origins == {
        "worker.max_batch": f"{path}, line 2",
        "worker.max_wait_ms": "environment STREAM_REC_WORKER__MAX_WAIT_MS",
        "worker.threads": "--set worker.threads",
    }


def test_a_topic_given_in_part_keeps_its_other_defaults(write):
    topics = load_settings(write("[topics.items]\npartitions = 8\n"), {}, {}).topics
    assert topics.items == Settings().topics.items.model_copy(update={"partitions": 8})


def test_tables_are_merged_key_by_key(write):
    path = write("[learning.event_weights]\npurchase = 5\n[kafka.client]\nsecurity_protocol = 'SASL_SSL'\n")
    environ = {"STREAM_REC_KAFKA__CLIENT__SASL_PLAIN_USERNAME": "shop"}
    settings = load_settings(path, {"learning.event_weights.view": "0.5"}, environ)
    assert settings.learning.event_weights == {"impression": 0.0, "purchase": 5.0, "view": 0.5}
    assert settings.kafka.client == {"security_protocol": "SASL_SSL", "sasl_plain_username": "shop"}


@pytest.mark.parametrize("text", ["a:9092,b:9093", "a:9092, b:9093 ,", '["a:9092", "b:9093"]'])
def test_a_list_in_the_environment_is_json_or_comma_separated(text: str):
    settings = load_settings(None, {}, {"STREAM_REC_KAFKA__BOOTSTRAP_SERVERS": text})
    assert settings.kafka.bootstrap_servers == ["a:9092", "b:9093"]


def test_numbers_in_a_comma_separated_list():
    settings = load_settings(None, {}, {"STREAM_REC_STATE__POPULARITY_HALF_LIVES_S": "60,3600"})
    assert settings.state.popularity_half_lives_s == [60.0, 3600.0]


def test_tables_in_the_environment_are_json():
    environ = {"STREAM_REC_LEARNING__EVENT_WEIGHTS": '{"cart": 2}', "STREAM_REC_WORKER": '{"max_batch": 9}'}
    settings = load_settings(None, {}, environ)
    assert settings.learning.event_weights["cart"] == 2.0
    assert settings.worker.max_batch == 9


def test_client_values_in_the_environment_get_their_type_and_passwords_stay_text():
    environ = {
        "STREAM_REC_KAFKA__CLIENT__SASL_PLAIN_PASSWORD": "012345",
        "STREAM_REC_KAFKA__CONSUMER__SESSION_TIMEOUT_MS": "45000",
        "STREAM_REC_KAFKA__CLIENT__SSL_CHECK_HOSTNAME": "false",
        "STREAM_REC_KAFKA__CLIENT__SECURITY_PROTOCOL": "SASL_SSL",
    }
    kafka = load_settings(None, {}, environ).kafka
    assert kafka.client == {
        "sasl_plain_password": "012345",
        "ssl_check_hostname": False,
        "security_protocol": "SASL_SSL",
    }
    assert kafka.consumer == {"session_timeout_ms": 45000}


def test_every_problem_is_told_with_place_value_and_what_is_allowed(write):
    path = write("[worker]\nmax_batch = 0\n\n\n[telemetry]\nlog_level = 'loud'\nport = 'x'\n")
    environ = {"STREAM_REC_STATE__POPULARITY_HALF_LIVES_S": "60,-1"}
    assert problems_of(path, {"model.num_layers": "99"}, environ) == [
        f"worker.max_batch = 0 ({path}, line 2): allowed: integer > 0 and ≤ 8192",
        'state.popularity_half_lives_s[1] = "-1" (environment STREAM_REC_STATE__POPULARITY_HALF_LIVES_S): '
        "allowed: list of number > 0, at least one",
        'model.num_layers = "99" (--set model.num_layers): allowed: integer ≥ 1 and ≤ 12',
        f'telemetry.port = "x" ({path}, line 7): allowed: integer ≥ 0 and ≤ 65535',
        f'telemetry.log_level = "loud" ({path}, line 6): allowed: "debug" or "info" or "warning" or "error"',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[worker]\nmaxbatch = 3", "did you mean worker.max_batch?"),
        ("[wroker]\nmax_batch = 3", "did you mean worker.max_batch?"),
        ("[worker]\ndimension = 3", "did you mean model.dimension?"),
        ("max_batch = 3", "did you mean worker.max_batch?"),
        ("[topics.event]\npartitions = 3", "did you mean topics.events.partitions?"),
        ("[worker.seed]\nx = 3", "did you mean worker.seed?"),
        ("[worker]\nzzzz = 3", "allowed in [worker]: name, seed, device,"),
        ("[wroker]", "did you mean worker?"),
        ("[topics.event]", "did you mean topics.events?"),
        ("zzzz = 3", "sections: worker, kafka, topics,"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_nearest_right_one(write, text: str, expected: str):
    (problem,) = problems_of(write(text))
    assert "no such setting" in problem
    assert expected in problem
    assert "worker.toml, line" in problem


@pytest.mark.parametrize(
    "name",
    [
        "STREAM_REC_WORKER__MAXBATCH",
        "STREAM_REC_WORKER_MAX_BATCH",
        "STREAM_REC_MAX_BATCH",
        "stream_rec_worker__maxbatch",
    ],
)
def test_a_misspelt_variable_is_an_error_and_never_ignored(name: str):
    (problem,) = problems_of(environ={name: "5"})
    assert f"(environment {name}): no such setting; did you mean STREAM_REC_WORKER__MAX_BATCH?" in problem


def test_a_misspelt_override_is_an_error():
    (problem,) = problems_of(overrides={"ranking.list_lenght": "5"})
    assert "did you mean ranking.list_length?" in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STREAM_REC_DATA", "/data"),
        ("STREAM_REC_CONFIG", "worker.toml"),
        ("STREAM_REC_SERVICE_HOST", "10.0.0.1"),
        ("STREAM_REC_SERVICE_PORT_METRICS", "9464"),
        ("STREAM_REC_PORT", "tcp://10.0.0.1:9464"),
        ("STREAM_REC_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ("STREAM_REC_KAFKA_PORT_9092_TCP", "tcp://10.0.0.1:9092"),
        ("STREAM_RECORDER", "x"),
    ],
)
def test_variables_that_are_no_settings_are_left_alone(name: str, value: str):
    assert load_settings(None, {}, {name: value}) == Settings()


def test_a_port_that_is_no_service_link_is_a_misspelt_setting():
    (problem,) = problems_of(environ={"STREAM_REC_TELEMETRY_PORT": "9464"})
    assert "STREAM_REC_TELEMETRY__PORT" in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("worker = 5", "worker = 5"),
        ("[[state]]\na = 1", "this is a table of settings; allowed in it: popularity_half_lives_s"),
        ("[kafka]\nclient = 3", "kafka.client = 3"),
        ("[kafka]\nbootstrap_servers = 'a:1'", "allowed: list of text"),
        ("[learning]\nevent_weights = {view = -1}", "learning.event_weights.view = -1"),
        ("[learning]\nrow_rate = nan", "learning.row_rate = nan"),
        ("[learning]\nrow_rate = inf", "learning.row_rate = inf"),
        ("[worker]\nname = 'a b'", "matching ^[A-Za-z0-9._-]+$"),
        ("[worker]\ndevice = 'gpu'", "worker.device"),
    ],
)
def test_a_value_of_the_wrong_kind(write, text: str, expected: str):
    (problem,) = problems_of(write(text))
    assert expected in problem
    assert "line" in problem


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STREAM_REC_KAFKA__BOOTSTRAP_SERVERS": "[oops"}, "no JSON list"),
        ({"STREAM_REC_KAFKA__CLIENT": "oops"}, "allowed: table"),
        ({"STREAM_REC_WORKER": "oops"}, "this is a table of settings"),
        ({"STREAM_REC_WORKER": '{"seed": null}'}, "null is no value"),
    ],
)
def test_a_variable_that_cannot_be_read(environ: dict[str, str], expected: str):
    (problem,) = problems_of(environ=environ)
    assert expected in problem
    assert f"environment {next(iter(environ))}" in problem


def test_a_file_that_is_no_toml_is_named_with_its_line(write):
    path = write("[worker]\nmax_batch = = 3\n")
    (problem,) = problems_of(path)
    assert str(path) in problem
    assert "line 2" in problem


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    (problem,) = problems_of(tmp_path / "none.toml")
    assert "none.toml: No such file" in problem
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    (problem,) = problems_of(tmp_path / "latin.toml")
    assert "latin.toml: not UTF-8 at byte 5" in problem


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"model.num_heads": 3}, "model.num_heads"),
        ({"topics.journal.name": "events"}, "topics.journal.name"),
        ({"worker.max_batch": 8192}, "kafka.max_buffered"),
        ({"state.max_items": 10}, "ranking.list_length"),
        ({"telemetry.alive_timeout_s": 60}, "telemetry.alive_timeout_s"),
        ({"decode.max_bytes": 2_000_000}, "decode.max_bytes"),
        ({"decode.max_bytes": 1_000, "kafka.producer.max_request_size": 999}, "decode.max_bytes"),
        ({"kafka.consumer.enable_auto_commit": True}, "kafka.consumer.enable_auto_commit"),
        ({"kafka.client.bootstrap_servers": "a:1"}, "kafka.client.bootstrap_servers"),
        ({"kafka.producer.transactional_id": "x"}, "kafka.producer.transactional_id"),
    ],
)
def test_settings_that_do_not_go_together(overrides, key: str):
    (problem,) = problems_of(overrides=overrides)
    assert problem.startswith(key + " (")
    origin = f"--set {key}" if key in overrides else "default"
    assert f"({origin})" in problem


def test_mistakes_of_several_sections_and_across_fields_come_together():
    problems = problems_of(overrides={"model.num_heads": 3, "topics.items.name": "events", "worker.threads": -1})
    assert [problem.split(" ")[0] for problem in problems] == ["worker.threads", "topics.items.name", "model.num_heads"]


def test_settings_are_frozen_and_refuse_unknown_names():
    with pytest.raises(ValidationError):
        Settings().worker.max_batch = 3
    with pytest.raises(ValidationError, match="headz"):
        ModelSettings(headz=3)


def test_secrets_are_left_out_of_errors():
    environ = {"STREAM_REC_KAFKA__CLIENT__SASL_PLAIN_PASSWORD": "hunter2", "STREAM_REC_KAFKA__PASSWORD": "hunter2"}
    assert "hunter2" not in "".join(problems_of(environ=environ))


@pytest.mark.parametrize("key", ["sasl_plain_password", "ssl_password", "sasl_oauth_token", "client_secret", "api_key"])
def test_secrets_are_redacted_however_deep(key: str):
    assert redacted("client", {"a": {key: "hunter2"}, "security_protocol": "SSL"}) == {
        "a": {key: "***"},
        "security_protocol": "SSL",
    }


def test_every_setting_is_described_with_its_unit():
    for setting in all_settings().values():
        assert setting.description.rstrip("…").strip(), setting.key
        assert setting.allowed, setting.key
        for suffix in ("_ms", "_s", "_bytes"):
            if setting.path[-1].endswith(suffix):
                assert setting.unit == suffix[1:], setting.key


def test_every_default_can_be_given_as_toml(write):
    lines = [f"{setting.key} = {toml_value(setting.default)}" for setting in all_settings().values()]
    loaded = load_with_origins(write("\n".join(lines)), {}, {})
    assert loaded.settings == Settings()
    given = {setting.key for setting in all_settings().values() if setting.default != {}}
    assert set(loaded.origins) == given


_VALUES = st.recursive(
    st.text() | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@example({"0\n": ""})  # `$` also matches before a last line feed
@given(_VALUES)
def test_toml_written_is_toml_read(value):
    # Lone surrogates cannot be encoded as UTF-8, so no file can hold them.
    text = f"key = {toml_value(value)}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert tomllib.loads(text) == {"key": value}


def test_an_empty_table_of_ours_changes_nothing(write):
    path = write("[worker]\n[kafka.client]\n[topics.events]\n[kafka.consumer.nested]\n")
    loaded = load_with_origins(path, {}, {})
    assert loaded.settings.worker == Settings().worker
    assert loaded.settings.kafka.consumer == {"nested": {}}


def test_not_a_number_is_written_as_toml():
    assert math.isnan(tomllib.loads(f"key = {toml_value(math.nan)}")["key"])


def test_lines_of_keys():
    text = (
        '# x = 1\n[a]\nb = 1\nc.d = 2\n"e f" = 3\nlist = [\n  1,\n]\n\n[ a . g ]\n h=4\n[[many]]\nb = 1\n[a]\nb = 2\n'
    )
    assert key_lines(text) == {
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c", "d"): 4,
        ("a", "e f"): 5,
        ("a", "list"): 6,
        ("a", "g"): 10,
        ("a", "g", "h"): 11,
        ("many",): 12,
        ("many", "b"): 13,
    }
