"""Random crop and flip of a whole batch at once, where the images are."""

import torch
from torch import Tensor


def crop_and_flip(images: Tensor, *, crop: int, flip: bool, fill: Tensor, generator: torch.Generator) -> Tensor:
    """Crop each image at random out of itself padded with ``crop`` pixels of ``fill`` on every side, then mirror half of them.

    As torchvision's RandomCrop(size, padding=crop) and RandomHorizontalFlip, by one gather of all pixels.

    Args:
        images: ``[n, channels, height, width]``.
        fill: value of the padding, ``[channels, 1, 1]``.
        generator: on the CPU, so that every device draws the same.

    Returns:
        A new contiguous tensor of the same shape.

    Example:
        >>> images = torch.tensor([1.0, 2.0]).expand(4, 1, 1, 2)
        >>> generator = torch.Generator().manual_seed(0)
        >>> crop_and_flip(images, crop=0, flip=True, fill=torch.zeros(1, 1, 1), generator=generator).flatten(1).tolist()
        [[2.0, 1.0], [1.0, 2.0], [2.0, 1.0], [2.0, 1.0]]
    """
    n, channels, height, width = images.shape
    shifts = torch.randint(0, 2 * crop + 1, (2, n, 1), generator=generator).to(images.device)
    mirrored = (torch.rand(n, 1, generator=generator) < 0.5).to(images.device) if flip else None
    rows = torch.arange(height, device=images.device) + shifts[0]
    columns = torch.arange(width, device=images.device).expand(n, -1)
    if mirrored is not None:
        columns = torch.where(mirrored, width - 1 - columns, columns)
    columns = columns + shifts[1]
    padded = fill.expand(n, channels, height + 2 * crop, width + 2 * crop).clone()
    padded[:, :, crop : crop + height, crop : crop + width] = images
    places = (rows[:, :, None] * (width + 2 * crop) + columns[:, None, :]).view(n, 1, height * width)
    return padded.flatten(2).gather(2, places.expand(-1, channels, -1)).view(n, channels, height, width)
