"""LCA's variant of LeNet."""

from torch import Tensor, nn

from replication.models.initialisation import he_truncated_
from replication.models.parts import halved


class LeNet(nn.Module):
    """Two 5x5 convolutions with pooling and two dense layers, 808,970 parameters (docs/papers/lca.md).

    Input ``[n, channels, 28, 28]``. ``width`` counts the filters of the first convolution, the second has twice as many.
    ``dropout`` switches the two dropout layers of the definition (0.25 before and 0.5 after the first dense layer) on in
    training mode; the released code never does (docs/papers/lca.md), hence the default.
    """

    def __init__(
        self, *, classes: int = 10, channels: int = 1, image_size: int = 28, width: int = 20, hidden: int = 400, dropout: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 5, padding="same")
        self.conv2 = nn.Conv2d(width, 2 * width, 5, padding="same")
        self.fc1 = nn.Linear(2 * width * halved(image_size, 2) ** 2, hidden)
        self.fc2 = nn.Linear(hidden, classes)
        self.pool = nn.MaxPool2d(2)
        self.dropout1 = nn.Dropout(0.25 if dropout else 0.0)
        self.dropout2 = nn.Dropout(0.5 if dropout else 0.0)
        he_truncated_(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[n, classes]``."""
        hidden = self.pool(self.conv1(images).relu())
        hidden = self.pool(self.conv2(hidden).relu())
        hidden = self.fc1(self.dropout1(hidden.flatten(1))).relu()
        return self.fc2(self.dropout2(hidden))


lenet = LeNet
