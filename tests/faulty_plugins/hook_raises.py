"""The hook needs a file that is not there."""

from visiongraft import hookimpl


@hookimpl
def register_tasks():
    return [open("/no/such/list/of/tasks").read()]
