"""Files on disk: written whole or not at all, and never over a user's."""

from destseg_lib.files.whole import (
    PARTIAL,
    append_json_line,
    read_json,
    read_json_lines,
    remove_partial_files,
    write_json,
    write_whole,
)

__all__ = [
    "PARTIAL",
    "append_json_line",
    "read_json",
    "read_json_lines",
    "remove_partial_files",
    "write_json",
    "write_whole",
]
