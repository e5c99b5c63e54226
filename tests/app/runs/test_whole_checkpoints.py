"""What is no checkpoint is refused in one line."""

from pathlib import Path

import pytest

from app.runs import read_checkpoint
from models.errors import ConfigurationError


@pytest.mark.parametrize("data", [b"", b"no checkpoint", b"PK\x03\x04"])
def test_a_foreign_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "foreign.ckpt"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match="ckpt_path: must be a whole checkpoint"):
        read_checkpoint(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ckpt_path: must be a file, found "):
        read_checkpoint(tmp_path)
