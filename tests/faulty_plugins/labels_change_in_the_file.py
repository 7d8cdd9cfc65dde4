"""The metadata in the exported file is not that of the trained task."""

from sound_task import Color

from visiongraft import hookimpl

asked = []


class Faulty(Color):
    name = "labels-change-in-the-file"

    def metadata(self):
        asked.append(self.labels)
        labels = list(self.labels)
        return {"labels": labels if len(asked) % 2 else labels[::-1]}


@hookimpl
def register_tasks():
    return [Faulty]
