"""Where the bytes of data sets come from, and how they are laid out.

- ``reading``: search folders, offline bundles and official downloads; ``formats``: IDX, CIFAR, WebP strips, checksums.
- ``grammar_text``: a generated text; ``torchvision_shim``: torchvision beside a CPU build of torch.

``read("mnist")`` gives a whole data set as tensors; ``replication.data.assemble`` makes an experiment of it.
"""

from replication.data.sources.reading import (
    BUILT_IN,
    NAMES,
    Dataset,
    Images,
    Origin,
    download,
    find,
    offline,
    read,
    search_folders,
    write_bundle,
)
from replication.data.sources.torchvision_shim import import_torchvision

__all__ = [
    "BUILT_IN",
    "NAMES",
    "Dataset",
    "Images",
    "Origin",
    "download",
    "find",
    "import_torchvision",
    "offline",
    "read",
    "search_folders",
    "write_bundle",
]
