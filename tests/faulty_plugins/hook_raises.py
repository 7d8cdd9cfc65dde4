"""The hook needs a file that does not exist."""

from visiongraft import hookimpl


@hookimpl
def register_tasks():
    return [open("/no/such/list/of/tasks").read()]
