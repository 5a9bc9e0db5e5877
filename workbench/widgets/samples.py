"""What the widgets begin with: texts written for the lessons (data/*.jsonl) and pictures (data/pictures,
data/held_out_pictures.zip)."""

import functools
import json
import zipfile

from PIL import Image

from workbench.checkpoint import data_folder
from workbench.image import load_image


def _read_lines(name: str) -> list[dict]:
    lines = (data_folder() / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


# Two sentences that follow each other. In a pair that does not, the second is that of another pair, or one
# on the same topic, of which there is one for each.
NEXT_SENTENCES = [(row["first"], row["second"]) for row in _read_lines("next_sentences")]
SAME_TOPIC = [row["same_topic"] for row in _read_lines("next_sentences")]
SENTENCE_PAIRS = [(row["premise"], row["hypothesis"], row["label"]) for row in _read_lines("sentence_pairs")]
PASSAGES = [(row["context"], row["question"]) for row in _read_lines("passages")]  # as SQuAD's

# Every file of data/pictures, by what it shows.
PICTURES = {
    file.stem: file
    for file in sorted((data_folder() / "pictures").iterdir())
    if file.suffix in (".jpg", ".png", ".webp")
}
FIRST_PICTURE = "cat"


def sample_image(name: str) -> Image.Image:
    """A sample picture; raises `ValueError` for a name that is not in `PICTURES`."""
    if name not in PICTURES:
        raise ValueError(f"There is no sample picture {name!r}; there are: {', '.join(PICTURES)}.")
    return load_image(PICTURES[name])


@functools.cache
def held_out_pictures() -> tuple[tuple[Image.Image, str], ...]:
    """Fifty pictures that the shipped ViT did not learn from, each with its class."""
    with zipfile.ZipFile(data_folder() / "held_out_pictures.zip") as archive:
        return tuple((load_image(archive.read(name)), name.split("/")[0]) for name in archive.namelist())
