"""The hook's name lacks a letter."""

from sound_task import Color

from visiongraft import hookimpl


@hookimpl
def register_task():
    return [Color]
