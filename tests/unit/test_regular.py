"""Only a regular file is read."""

import os
from pathlib import Path

import pytest

from pytest_ductaflow import regular, strict_json
from pytest_ductaflow.errors import ConfigError, RecordError
from pytest_ductaflow.record import last_duration, read_record


def test_a_files_content_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a\r\n")
    assert regular.read_bytes(tmp_path / "a") == b"a\r\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(OSError, match="is not a regular file"):
        regular.read_bytes(tmp_path / "run.json")
    with pytest.raises(ConfigError, match=r"run\.json: is not a regular file"):
        strict_json.load(tmp_path / "run.json")
    with pytest.raises(RecordError, match="is not a regular file"):
        read_record(tmp_path)
    assert last_duration(tmp_path) is None
