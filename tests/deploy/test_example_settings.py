"""deploy/worker.toml: an example that loads, says the defaults, and whose commented-out settings are real ones."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from stream_rec.config import Settings
from stream_rec.errors import SettingsError
from stream_rec.settings_file import load_settings

EXAMPLE = Path(__file__).parents[2] / "deploy" / "worker.toml"


def with_options_on(text: str) -> str:
    """The example with every `#key = value` line switched on; prose follows `# `, with a space."""
    return re.sub(r"^#(?=\w+ = )", "", text, flags=re.MULTILINE)


def test_it_says_the_defaults() -> None:
    assert load_settings(EXAMPLE, environ={}) == Settings()


def test_every_section_is_shown() -> None:
    assert set(tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))) == set(Settings.model_fields)


def test_the_options_in_comments_are_real(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    switched_on = with_options_on(text)
    num_options = len(re.findall(r"^#\w", text, flags=re.MULTILINE))
    assert num_options > 5
    assert switched_on.count("\n#") == text.count("\n#") - num_options
    path = tmp_path / "worker.toml"
    path.write_text(switched_on, encoding="utf-8")
    assert load_settings(path, environ={}).kafka.client["security_protocol"] == "SASL_SSL"


def test_an_option_that_does_not_exist_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text(with_options_on("[worker]\n#thread = 4\n"), encoding="utf-8")
    with pytest.raises(SettingsError, match="threads"):
        load_settings(path, environ={})


def test_variables_in_its_prose_are_settings() -> None:
    names = re.findall(r"STREAM_REC_[A-Z_]*[A-Z](?==)", EXAMPLE.read_text(encoding="utf-8"))
    assert names
    environ = dict.fromkeys(names, "text")
    assert load_settings(None, environ=environ) != Settings()
