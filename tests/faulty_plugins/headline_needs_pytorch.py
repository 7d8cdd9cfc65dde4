"""The headline needs what evaluation_step computes, and files are proved on targets without it."""

from sound_task import Accuracy, Color

from visiongraft import hookimpl


class EitherIsRight(Accuracy):
    def update(self, decoded, targets):
        second = decoded.get("second", decoded["label"])
        right = (decoded["label"] == targets.numpy()) | (second == targets.numpy())
        self.right += int(right.sum())
        self.count += len(targets)


class Faulty(Color):
    name = "headline-needs-pytorch"

    def evaluation_step(self, network, batch):
        return {"second": batch.targets}

    def build_metrics(self):
        return EitherIsRight()


@hookimpl
def register_tasks():
    return [Faulty]
