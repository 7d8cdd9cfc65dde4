"""Built-in exporters, found through the same entry points as a third party's."""

import os

# onnxruntime reads this once, when it is first imported. Without it, the import alone writes a
# device id and a queue of events below the home folder. Who wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
