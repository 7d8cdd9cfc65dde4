"""Keypoints for visiongraft: where the named points of the thing in an image are."""

from visiongraft import hookimpl

visiongraft_api = "2.0"


@hookimpl
def register_tasks():
    """Provide the task; PyTorch is imported only now, since exported files need none of it."""
    from visiongraft_keypoints.task import Keypoints

    return [Keypoints]
