"""The picture at the top of the README, from finished figures: python docs/images/composite.py SCALE FIGURE FIGURE ...

Run it in the folder of the Snakefile, with the figures drawn (`snakemake --config scale=SCALE figure_...`); without arguments it is the
picture as committed.
"""

import sys
from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from replication.pipeline import dag

OUT = Path(__file__).with_name("composite.png")
DEFAULT = ("reduced", "lca_layers", "svcca_two_seeds", "stiffness_classes_mnist", "landscape_contours")
COLUMNS, WIDTH, GAP, COLOURS = 2, 760, 24, 256


def panel(scale: str, figure: str) -> Image.Image:
    """A figure at the width of a column, below its place in its paper."""
    paper, entry = next((paper, entry) for paper, name, entry in dag.figures() if name == figure)
    picture = Image.open(f"results/{scale}/{paper}/figures/{figure}.png").convert("RGB")
    height = round(picture.height * WIDTH / picture.width)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 19)
    made = Image.new("RGB", (WIDTH, height + 40), "white")
    made.paste(picture.resize((WIDTH, height), Image.Resampling.LANCZOS), (0, 40))
    ImageDraw.Draw(made).text((0, 4), entry.reproduces.split(" (")[0], font=font, fill="#1f3b73")
    return made


def main(scale: str, *figures: str) -> None:
    """Write the picture, each panel into the column that is shorter so far."""
    heights, placed = [0] * COLUMNS, []
    for figure in figures:
        made, column = panel(scale, figure), heights.index(min(heights))
        placed.append((made, (column * (WIDTH + GAP), heights[column])))
        heights[column] += made.height + GAP
    whole = Image.new("RGB", (COLUMNS * WIDTH + (COLUMNS - 1) * GAP, max(heights) - GAP), "white")
    for made, place in placed:
        whole.paste(made, place)
    whole.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(OUT, optimize=True)
    print(f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*(sys.argv[1:] or DEFAULT))
