"""Where the bytes of data sets come from, and how they are laid out.

- ``reading``: folders, offline bundles and official downloads; ``formats``: IDX, CIFAR, bundles, checksums.
- ``grammar_text``: a generated text; ``torchvision_shim``: torchvision beside a CPU build of torch.
"""
