"""The picture below the code in the README, made by running that code: python docs/images/own_network.py."""

import contextlib
import hashlib
import re
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

README, OUT = Path("README.md"), Path(__file__).with_name("own_network.png")


def code() -> str:
    """The README's block of Python."""
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    return str(block)


def run(folder: Path) -> dict[str, object]:
    """Run the code in ``folder``, with the same random numbers every time; returns its names."""
    names: dict[str, object] = {}
    text = code()
    with contextlib.chdir(folder), torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile(text, "README.md", "exec"), names)  # noqa: S102 - our own file
    return names


def identity() -> str:
    """What identifies the code that drew the picture; the picture carries it."""
    return hashlib.sha256(code().encode()).hexdigest()[:16]


def main() -> None:
    """Write the picture."""
    about = PngInfo()
    about.add_text("code", identity())
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder))
        with Image.open(Path(folder) / "layers.png") as image:
            image.convert("RGB").quantize(64).save(OUT, optimize=True, pnginfo=about)


if __name__ == "__main__":
    main()
