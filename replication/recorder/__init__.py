"""The weights along a training loop of your own, as loss change allocation and planes through trajectories read them.

- ``watching``: ``Recorder``, which keeps the weights after every step; ``optimizer_steps``: the hook that sees the steps.
- ``keeping``: reads the model and adds rows; ``rows``: files that can be read after every row, also when the training was killed.
- ``recorded``: ``RecordedPath``, what was kept: weights, buffers, names and shapes; also read from a folder.
- ``checkpoints``: ``CheckpointPath``, the same from saved state dicts.

``replication.training.checkpoints`` does this for the trainings of paper_configs, which are continued when they were killed.
"""

from replication.recorder.checkpoints import CheckpointPath
from replication.recorder.recorded import RecordedPath
from replication.recorder.watching import Recorder

__all__ = ["CheckpointPath", "RecordedPath", "Recorder"]
