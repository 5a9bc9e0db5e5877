"""The recipe of the shipped BERT: a masked-word head on MiniLM's encoder, trained on plain text."""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor, nn

from workbench.bert import Bert
from workbench.checkpoint import load_bert, save_checkpoint
from workbench.text import Tokenizer, mask_randomly
from workbench.training import loop
from workbench.training.data import Rows, bucketed_batches, make_rows, read_documents, split_documents

START = "sentence-transformers/all-MiniLM-L6-v2"  # Apache-2.0; BERT's own vocabulary
REPEAT = {"stories": 3}  # plain everyday sentences are few among the kit's texts, and what learners type


# --- what is learned ---------------------------------------------------------------------------


class MaskedWordLoss(nn.Module):
    """Cross entropy at the chosen tokens (BERT, section 3.1, task 1)."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.bert = bert

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, chosen: Tensor, original_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        """All (batch, tokens). Returns the sum of the losses and how many tokens were chosen."""
        logits = masked_word_logits(self.bert, input_ids, attention_mask, chosen)
        return F.cross_entropy(logits.float(), original_ids[chosen], reduction="sum"), chosen.sum()


def masked_word_logits(bert: Bert, input_ids: Tensor, attention_mask: Tensor, chosen: Tensor) -> Tensor:
    """Scores of all words at the chosen tokens only: all (batch, tokens) -> (chosen, vocab_size)."""
    return bert.logits("mlm", bert(input_ids, attention_mask=attention_mask)[-1][chosen])


class MaskedBatches:
    """`batch_at` of the loop: rows of similar length; each epoch has its own order and its own masks.

    Args:
        rows: the text.
        tokenizer: the one that the rows were made with.
        tokens: most tokens in a batch, padding counted, over all processes.
        seed: of the batches, their order and the masks.
    """

    def __init__(self, rows: Rows, tokenizer: Tokenizer, tokens: int, seed: int = 0) -> None:
        self.rows, self.tokenizer, self.seed = rows, tokenizer, seed
        self.random_ids = tokenizer.random_ids()
        self.batches = bucketed_batches(rows.lengths, tokens, seed)

    def rows_at(self, step: int) -> np.ndarray:
        """Indices of the rows in the batch of a step."""
        epoch, index = divmod(step, len(self.batches))
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.batches))
        return self.batches[order[index]]

    def __call__(self, step: int, process: int = 0, processes: int = 1) -> loop.Batch:
        """This process's rows of the batch of a step; what is masked does not depend on the processes."""
        batch = self.rows.batch(self.rows_at(step), self.tokenizer)
        batch = mask_batch(batch, self.tokenizer, self.random_ids, self.seed + step)
        return {name: tensor[process::processes] for name, tensor in batch.items()}


def mask_batch(
    batch: loop.Batch, tokenizer: Tokenizer, random_ids: Tensor, seed: int, share: float = 0.15
) -> loop.Batch:
    """Masks a batch of `Rows.batch` by BERT's rule; what `MaskedWordLoss` takes."""
    maskable = (batch["words"] > 0) & (batch["input_ids"] != tokenizer.unk_id)
    generator = torch.Generator().manual_seed(seed)
    masking = mask_randomly(batch["input_ids"], maskable, tokenizer.mask_id, random_ids, generator, share)
    return {
        "input_ids": masking.input_ids,
        "attention_mask": batch["attention_mask"],
        "chosen": masking.chosen,
        "original_ids": batch["input_ids"],
    }


@torch.inference_mode()
def masked_word_figures(bert: Bert, rows: Rows, most: int = 512, seed: int = 0) -> dict[str, float]:
    """How well masked words are guessed in at most `most` rows, drawn and masked by `seed`.

    Returns:
        `mlm_accuracy` (share guessed right), `mlm_loss` (mean cross entropy) and `mlm_words` (how many).
    """
    right = loss = count = 0.0
    random_ids = bert.tokenizer.random_ids()
    drawn = np.random.default_rng(seed).permutation(len(rows))[:most]
    drawn = drawn[np.argsort(rows.lengths[drawn], kind="stable")]  # similar lengths: little padding
    for start in range(0, len(drawn), 32):
        batch = rows.batch(drawn[start : start + 32], bert.tokenizer)
        batch = mask_batch(batch, bert.tokenizer, random_ids, seed + start)
        batch = {name: tensor.to(bert.device) for name, tensor in batch.items()}
        original_ids = batch.pop("original_ids")[batch["chosen"]]
        logits = masked_word_logits(bert, **batch).float()
        right += float((logits.argmax(-1) == original_ids).sum())
        loss += float(F.cross_entropy(logits, original_ids, reduction="sum"))
        count += len(original_ids)
    return {"mlm_accuracy": right / count, "mlm_loss": loss / count, "mlm_words": count}


# --- where it starts ---------------------------------------------------------------------------


def start_model(start: str) -> Bert:
    """A BERT to begin with: a masked-word head that starts as identity is added if it has none, and a
    pooler that no head reads is left out."""
    bert = load_bert(start, device="cpu")
    if "mlm" not in bert.heads:
        bert.add_head("mlm", "mlm")
        nn.init.eye_(bert.heads["mlm"].dense.weight)
    if not any(head.kind == "sentence" for head in bert.heads.values()):
        bert.pooler = None
    return bert


def prepare_rows(data: str, bert: Bert, folder: Path, resume: bool = False) -> tuple[Rows, Rows]:
    """Rows to train on, and rows of held-out documents of Wikipedia (or of the first file, without it).

    They are kept in `folder`, for the other processes and for a resumed training.
    """
    files = folder / "train_rows.npz", folder / "held_out_rows.npz"
    processes = PartialState()
    if processes.is_main_process and not (resume and all(file.exists() for file in files)):
        folder.mkdir(parents=True, exist_ok=True)
        parts = {name: split_documents(documents) for name, documents in read_documents(data).items()}
        scored = next((name for name in parts if name.startswith("wiki")), next(iter(parts)))
        train = [document for name, part in parts.items() for document in part[0] * REPEAT.get(name, 1)]
        make_rows(train, bert.tokenizer).save(files[0])
        make_rows(parts[scored][1], bert.tokenizer).save(files[1])
    processes.wait_for_everyone()
    rows = Rows.load(files[0])
    if not len(rows):
        raise ValueError(f"{data} holds too little text to train on.")
    return rows, Rows.load(files[1])


# --- `workbench train text` and `workbench evaluate text` --------------------------------------


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `workbench train text`."""
    parser.add_argument("--data", required=True, help="folder of text files, or the name of a Hub set")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the log, the state and the checkpoint"
    )
    parser.add_argument("--start", default=START, help="checkpoint to begin with (default: %(default)s)")
    parser.add_argument("--hours", type=float, help="how long to train")
    parser.add_argument("--steps", type=int, help="how many steps to train")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens in a batch (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument(
        "--resume", action="store_true", help="go on where the last training in --out stopped"
    )


def train(options: argparse.Namespace) -> None:
    """`workbench train text`: trains, then writes the checkpoint to `--out`/checkpoint (float16)."""
    settings = loop.Settings(
        learning_rate=options.learning_rate, steps=options.steps, hours=options.hours, seed=options.seed
    )
    bert = start_model(options.start)
    rows, score_rows = prepare_rows(options.data, bert, options.out, options.resume)
    progress = loop.train(
        MaskedWordLoss(bert),
        MaskedBatches(rows, bert.tokenizer, options.tokens, options.seed),
        settings,
        options.out,
        resume=options.resume,
        evaluate=(lambda: masked_word_figures(bert, score_rows)) if len(score_rows) else None,
    )
    if PartialState().is_main_process:
        save_checkpoint(bert, options.out / "checkpoint", torch.float16)
        print(f"{progress.step} steps; the checkpoint is in {options.out / 'checkpoint'}.")


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `workbench evaluate text`."""
    parser.add_argument("--data", required=True, help="folder of text files, or the name of a Hub set")
    parser.add_argument("--checkpoint", help="a folder or a Hub id (default: the shipped one)")
    parser.add_argument("--rows", type=int, default=512, help="most rows of each text (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of rows and masks (default: %(default)s)")


def evaluate(options: argparse.Namespace) -> None:
    """`workbench evaluate text`: prints how well masked words are guessed in held-out documents."""
    bert = load_bert(options.checkpoint)
    started = time.monotonic()
    lines = []
    for name, documents in read_documents(options.data).items():
        rows = make_rows(split_documents(documents)[1], bert.tokenizer)
        if len(rows):
            figures = masked_word_figures(bert, rows, options.rows, options.seed)
            accuracy, loss, words = figures.values()
            lines.append(f"{name:<16}{accuracy:>10.1%}{loss:>8.3f}{words:>14,.0f}")
    if not lines:
        raise ValueError(f"{options.data} has no held-out documents: one in fifty is, by its title.")
    print(f"\n{'held-out text':<16}{'accuracy':>10}{'loss':>8}{'masked words':>14}", *lines, sep="\n")
    print(f"{bert.name}, seed {options.seed}, {bert.device.type}, {time.monotonic() - started:.0f} seconds")
