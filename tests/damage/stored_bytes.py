"""Damage to the files in which a nats-server keeps a stream, while it is down."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from eventlog.subjects import Subjects

Damage = Callable[[Path, random.Random], None]
"""Takes the folder of a stream's messages, and a die."""


def messages_folder(server_folder: Path, workspace: str) -> Path:
    """Find where a server keeps the messages of a workspace's log."""
    return next(server_folder.rglob(f"streams/{Subjects(workspace).log_name}/msgs"))


def blocks(folder: Path) -> list[Path]:
    """Give the block files, oldest first."""
    return sorted(folder.glob("*.blk"), key=lambda path: int(path.stem))


def flip_a_bit(folder: Path, die: random.Random) -> None:
    """Flip one bit somewhere in a block."""
    path = die.choice(blocks(folder))
    content = bytearray(path.read_bytes())
    content[die.randrange(len(content))] ^= 1 << die.randrange(8)
    path.write_bytes(content)


def flip_a_bit_of_the_last_block(folder: Path, die: random.Random) -> None:
    """Flip one bit where the small events are."""
    path = blocks(folder)[-1]
    content = bytearray(path.read_bytes())
    content[die.randrange(len(content))] ^= 1 << die.randrange(8)
    path.write_bytes(content)


def cut_a_block(folder: Path, die: random.Random) -> None:
    """Cut the end off a block."""
    path = die.choice(blocks(folder))
    os.truncate(path, die.randrange(1, path.stat().st_size))


def remove_the_first_block(folder: Path, die: random.Random) -> None:
    blocks(folder)[0].unlink()


def remove_the_last_block(folder: Path, die: random.Random) -> None:
    blocks(folder)[-1].unlink()


def remove_the_index(folder: Path, die: random.Random) -> None:
    """Remove what the server writes at a clean stop; it reads all blocks instead."""
    (folder / "index.db").unlink(missing_ok=True)


def remove_the_stream(folder: Path, die: random.Random) -> None:
    """Remove everything of the stream."""
    shutil.rmtree(folder.parent)
