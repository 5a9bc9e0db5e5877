"""The trainings of lesson 10 as a program: `python -m workbench.training stories`.

On several GPUs `accelerate launch -m workbench.training stories` does the same.
"""

import argparse
from pathlib import Path

from workbench.checkpoint import save_checkpoint
from workbench.checks import counted
from workbench.training import loop, toy, toy_pictures
from workbench.training.picture_learner import PictureLearner


def main() -> None:
    """What the package runs as a program."""
    parser = argparse.ArgumentParser(
        prog="python -m workbench.training", description="Trains a BERT or a ViT from nothing."
    )
    parser.add_argument(
        "what",
        choices=["stories", "pictures", "patches"],
        help="masked words and next sentence, classes of pictures, or colours of hidden patches",
    )
    parser.add_argument("--out", type=Path, default=Path("toy"), help="folder (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=440, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    try:
        train(parser.parse_args())
    except (ValueError, OSError) as error:  # sentences
        parser.exit(1, f"{parser.prog}: {error}\n")


def train(options: argparse.Namespace) -> None:
    """Trains, and writes what came of it to OUT/checkpoint."""
    team, length = loop.processes(), {"steps": options.steps, "seed": options.seed}
    loop.Settings(**length)  # refuses what is out of bounds before anything is drawn
    if options.what == "stories":
        stories = toy.toy_stories(seed=options.seed)
        model = toy.toy_bert(stories, seed=options.seed)
        progress = toy.toy_pretraining(model, stories, options.out, **length)
    else:
        model = toy_pictures.toy_vit(seed=options.seed)
        kind = PictureLearner if options.what == "pictures" else toy_pictures.MaskedPatches
        progress = toy_pictures.toy_training(kind(model), options.out, **length)
    if team.is_main_process:
        save_checkpoint(model, options.out / "checkpoint")
        last = {name: value for line in progress.log for name, value in line.items()}
        told = [f"{name} {value:.3f}" for name, value in last.items() if name.endswith(("loss", "accuracy"))]
        print(f"{counted(progress.step, 'step')}: {', '.join(told)}")


if __name__ == "__main__":
    main()
