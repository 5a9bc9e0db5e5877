"""The recipe of the shipped BERT: a masked-word head on MiniLM's encoder, trained on plain text."""

import argparse
import string
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from workbench.bert import Bert, Pooler
from workbench.checkpoint import NSP_LABELS, load_bert, save_checkpoint
from workbench.encoder import SelfAttention, initialize
from workbench.tasks import answer_question
from workbench.text import Tokenizer, mask_randomly
from workbench.training import loop
from workbench.training.data import (
    IGNORED,
    Rows,
    bucketed_batches,
    make_pairs,
    make_rows,
    read_documents,
    split_documents,
)
from workbench.training.examples import (
    NLI_LABELS,
    SENTIMENT_LABELS,
    UPOS_LABELS,
    Example,
    pair_rows,
    read_examples,
    sentence_rows,
    span_rows,
    word_rows,
)

START = "sentence-transformers/all-MiniLM-L6-v2"  # Apache-2.0; BERT's own vocabulary
# What the tasks share of the tokens of a step, and how much their mean losses weigh: found by trial.
SHARES = {"mlm": 0.25, "nsp": 0.25, "span": 0.3, "nli": 0.1, "sentiment": 0.05, "pos": 0.04}
WEIGHTS = {"mlm": 1.0, "nsp": 1.0, "span": 0.7, "nli": 0.5, "sentiment": 0.25, "pos": 0.3}
HOURS = 6.0  # on two CPU cores
AFTER_PRETRAINING = 0.5  # of the learning rate
SAME_DOCUMENT = 0.3  # of the false pairs of sentences
REPEAT = {"stories": 3}  # plain everyday sentences are few among the kit's texts, and what learners type


# --- what is learned ---------------------------------------------------------------------------


class HeadLosses(nn.Module):
    """Cross entropy of every head that a batch has targets for (BERT, sections 3.1 and 4); with teachers, as
    much again against the mean of what they say (distillation, arXiv:1904.09482).

    Args:
        bert: what learns.
        teachers: models whose heads, all but "mlm", teach those of `bert`.

    Raises `ValueError` for a teacher with another vocabulary, other classes, or none of these heads.
    """

    unit = "tokens"

    def __init__(self, bert: Bert, teachers: Sequence[Bert] = ()) -> None:
        super().__init__()
        self.bert = bert
        self.teachers = tuple(teachers)  # in a tuple they are no part of what is trained and saved
        self.taught: list[str] = []
        for teacher in teachers:
            heads = [name for name in teacher.heads if name in bert.heads and name != "mlm"]
            if not heads:
                raise ValueError(f"{teacher.name} has no head that teaches one of {bert.name}.")
            if teacher.tokenizer.backend.get_vocab() != bert.tokenizer.backend.get_vocab():
                raise ValueError(f"{teacher.name} reads other word pieces; it cannot teach {bert.name}.")
            if other := [name for name in heads if teacher.heads[name].labels != bert.heads[name].labels]:
                raise ValueError(f"{teacher.name} has other classes for {other[0]}; it cannot teach them.")
            self.taught += [name for name in heads if name not in self.taught]
        self.names = (*bert.heads, *(f"{name}_taught" for name in self.taught))
        self.weights = [WEIGHTS.get(name.removesuffix("_taught"), 1.0) for name in self.names]

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor, **targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The first three (batch, tokens). A target goes by the name of its head: (batch,) for sentences,
        (batch, tokens) for words, (batch, 2) for spans; `IGNORED` where there is none.

        Returns:
            The sums of the losses, and how many were summed, in the order of `names`; both (names,).
        """
        last = self.bert(input_ids, token_type_ids, attention_mask)[-1]
        none = last.new_zeros((), dtype=torch.float32)
        losses, counts = dict.fromkeys(self.names, none), dict.fromkeys(self.names, none)
        for name, target in targets.items():
            where = target != IGNORED
            logits, target = scores(self.bert, name, last, attention_mask, where), target[where]
            losses[name] = F.cross_entropy(logits, target, reduction="sum")
            counts[name] = none + len(target)
        for name, soft in self.soft_targets(input_ids, token_type_ids, attention_mask, set(targets)).items():
            logits = scores(self.bert, name, last, attention_mask)
            losses[f"{name}_taught"] = F.cross_entropy(logits, soft, reduction="sum")
            counts[f"{name}_taught"] = none + len(soft)
        return torch.stack(list(losses.values())), torch.stack(list(counts.values()))

    @torch.no_grad()
    def soft_targets(
        self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor, asked: set[str]
    ) -> dict[str, Tensor]:
        """Mean probabilities of the teachers by head, (answers, classes); also for texts that have no target
        for that head. The first three (batch, tokens); `asked` are the heads that the batch was made for. A
        teacher without a fitting head is not run."""
        span, pairs = "span" in asked, asked & {"nsp", "nli"}
        fitting = {"span": span, "nli": pairs, "nsp": pairs, "sentiment": not (pairs or span)}
        said: dict[str, list[Tensor]] = {name: [] for name in self.taught if fitting.get(name, True)}
        for teacher in self.teachers:
            if names := [name for name in said if name in teacher.heads]:
                last = teacher(input_ids, token_type_ids, attention_mask)[-1]
                for name in names:
                    said[name].append(scores(teacher, name, last, attention_mask).softmax(-1))
        return {name: torch.stack(probabilities).mean(0) for name, probabilities in said.items()}

    def size(self, batch: loop.Batch) -> int:
        """Tokens in a batch, padding counted."""
        return batch["input_ids"].numel()


def scores(
    bert: Bert, head: str, hidden_states: Tensor, attention_mask: Tensor, where: Tensor | None = None
) -> Tensor:
    """What a head says: logits (answers, classes). `where`, (batch,) for sentences and (batch, tokens) for
    words, leaves out those that are not asked for."""
    if bert.heads[head].kind == "span":  # the classes are the tokens; a start and an end for each row
        logits = bert.logits(head, hidden_states).float().masked_fill(~attention_mask[..., None].bool(), -1e9)
        return logits.mT.flatten(0, 1)
    if bert.heads[head].kind == "sentence":
        logits = bert.logits(head, hidden_states).float()
        return logits if where is None else logits[where]
    where = attention_mask.bool() if where is None else where
    return bert.logits(head, hidden_states[where]).float()  # the vocabulary is large


class Batches:
    """`batch_at` of the loop: rows of similar length; each epoch has its own order and its own masks.

    Args:
        rows: the examples.
        tokenizer: the one that the rows were made with.
        head: whose targets they have; "mlm" for none but the masked words.
        tokens: most tokens in a batch, padding counted, over all processes.
        seed: of the batches, their order and the masks.
        masked: whether words are masked.
        guessed: whether masked words are to be guessed, too.
    """

    def __init__(
        self,
        rows: Rows,
        tokenizer: Tokenizer,
        head: str,
        tokens: int,
        seed: int = 0,
        *,
        masked: bool = False,
        guessed: bool = True,
    ) -> None:
        self.rows, self.tokenizer, self.head, self.seed, self.guessed = rows, tokenizer, head, seed, guessed
        self.random_ids = tokenizer.random_ids() if masked or head == "mlm" else None
        self.batches = bucketed_batches(rows.lengths, tokens, seed)

    def rows_at(self, step: int) -> np.ndarray:
        """Indices of the rows in the batch of a step."""
        epoch, index = divmod(step, len(self.batches))
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.batches))
        return self.batches[order[index]]

    def __call__(self, step: int, process: int = 0, processes: int = 1) -> loop.Batch:
        """This process's rows of the batch of a step; what is masked does not depend on the processes."""
        batch = self.rows.batch(self.rows_at(step), self.tokenizer.pad_id)
        words, targets = batch.pop("words"), batch.pop("targets")
        if self.head != "mlm":
            batch[self.head] = targets
        if self.random_ids is not None:
            batch |= mask_batch(batch["input_ids"], words, self.tokenizer, self.random_ids, self.seed + step)
        if not self.guessed:
            batch.pop("mlm", None)
        return {name: tensor[process::processes] for name, tensor in batch.items()}


def mask_batch(
    input_ids: Tensor, words: Tensor, tokenizer: Tokenizer, random_ids: Tensor, seed: int, share: float = 0.15
) -> loop.Batch:
    """Masks by BERT's rule; all (batch, tokens). Returns `input_ids` after it and the targets `mlm`."""
    maskable = (words > 0) & (input_ids != tokenizer.unk_id)
    generator = torch.Generator().manual_seed(seed)
    masking = mask_randomly(input_ids, maskable, tokenizer.mask_id, random_ids, generator, share)
    return {"input_ids": masking.input_ids, "mlm": input_ids.masked_fill(~masking.chosen, IGNORED)}


# --- how well it is learned --------------------------------------------------------------------


@torch.inference_mode()
def head_figures(bert: Bert, rows: Rows, head: str, most: int = 512, seed: int = 0) -> dict[str, float]:
    """How often a head is right in at most `most` rows, drawn (and for "mlm" masked) by `seed`.

    Returns:
        HEAD_accuracy (of spans: start and end both right), HEAD_loss (mean cross entropy) and HEAD_count.
    """
    drawn = np.random.default_rng(seed).permutation(len(rows))[:most]
    drawn = drawn[np.argsort(rows.lengths[drawn], kind="stable")]  # similar lengths: little padding
    random_ids = bert.tokenizer.random_ids()
    right = loss = count = 0.0
    for start in range(0, len(drawn), 32):
        batch = rows.batch(drawn[start : start + 32], bert.tokenizer.pad_id)
        words, target = batch.pop("words"), batch.pop("targets")
        if head == "mlm":
            batch |= mask_batch(batch["input_ids"], words, bert.tokenizer, random_ids, seed + start)
            target = batch.pop("mlm")
        batch = {name: tensor.to(bert.device) for name, tensor in batch.items()}
        target = target.to(bert.device)
        where = target != IGNORED
        logits, target = scores(bert, head, bert(**batch)[-1], batch["attention_mask"], where), target[where]
        loss += float(F.cross_entropy(logits, target, reduction="sum"))
        hits = logits.argmax(-1) == target
        hits = hits.view(-1, 2).all(-1) if bert.heads[head].kind == "span" else hits
        right += float(hits.sum())
        count += len(hits)
    count = max(count, 1)
    return {f"{head}_accuracy": right / count, f"{head}_loss": loss / count, f"{head}_count": count}


def span_figures(bert: Bert, examples: Sequence[Example], most: int = 512, seed: int = 0) -> dict[str, float]:
    """How well questions are answered, by `answer_question`, in at most `most` examples drawn by `seed`.

    Returns:
        `exact` and `f1`: of answerable questions, the best answer against the closest of those given, as
        SQuAD scores them (arXiv:1606.05250, section 6.1); `answerable`: whether "no answer" is less likely
        than the best answer exactly where there is one, mean of the questions with and without an answer
        (of sources that have both).
    """
    drawn = [examples[i] for i in np.random.default_rng(seed).permutation(len(examples))[:most]]
    mixed = {row.get("source") for row in drawn if not row["answers"]["text"]}
    exact, f1, told = [], [], {True: [], False: []}
    for row in tqdm(drawn, desc="questions", unit="question", leave=False):
        found = answer_question(bert, row["question"], row["context"], top_k=1)
        given = row["answers"]["text"]
        best = found.answers[0] if found.answers else None
        if row.get("source") in mixed:
            told[bool(given)].append((best is not None and best.probability > found.no_answer) == bool(given))
        if given:
            pairs = [(plain_words(best.text if best else ""), plain_words(text)) for text in given]
            exact.append(max(mine == right for mine, right in pairs))
            f1.append(max(overlap(mine, right) for mine, right in pairs))
    told_means = [np.mean(values) for values in told.values() if values]
    return {
        "exact": float(np.mean(exact)) if exact else 0.0,
        "f1": float(np.mean(f1)) if f1 else 0.0,
        "span_count": len(exact),
        "answerable": float(np.mean(told_means)) if told_means else 0.0,
        "answerable_count": sum(map(len, told.values())),
    }


def plain_words(text: str) -> list[str]:
    """The words of an answer as SQuAD compares them: no case, no punctuation, no articles."""
    text = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return [word for word in text.split() if word not in ("a", "an", "the")]


def overlap(mine: Sequence[str], right: Sequence[str]) -> float:
    """F1 of two answers as bags of words."""
    common = sum((Counter(mine) & Counter(right)).values())
    if not common:
        return float(mine == right)
    return 2 * common / (len(mine) + len(right))


# --- where it starts ---------------------------------------------------------------------------


HEADS = {  # kind and classes of what the recipe can train
    "mlm": ("mlm", ()),
    "nsp": ("sentence", NSP_LABELS),
    "span": ("span", ()),
    "nli": ("sentence", NLI_LABELS),
    "sentiment": ("sentence", SENTIMENT_LABELS),
    "pos": ("word", UPOS_LABELS),
}


def start_model(start: str, heads: Sequence[str] = ("mlm",), dropout: float = 0.1) -> Bert:
    """A BERT to begin with, and the heads that it lacks; a new masked-word head starts as identity.

    Args:
        start: a checkpoint.
        heads: names in `HEADS`. A pooler that none of them reads is left out.
        dropout: of the hidden states; the attention has none, which is quicker.
    """
    bert = load_bert(start, device="cpu")
    if not any(HEADS[name][0] == "sentence" for name in heads):
        bert.pooler = bert.pooler if any(head.kind == "sentence" for head in bert.heads.values()) else None
    elif bert.pooler is None:
        bert.pooler = Pooler(bert.config)
        bert.pooler.apply(initialize)
    for name in heads:
        if name not in bert.heads:
            bert.add_head(name, *HEADS[name])
            if name == "mlm":
                nn.init.eye_(bert.heads["mlm"].dense.weight)
    for module in bert.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        elif isinstance(module, SelfAttention):
            module.dropout_prob = 0.0
    for parameter in bert.parameters():  # rows first again, which training and saving are faster with
        parameter.data = parameter.data.contiguous()
    return bert


def read_all(sources: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, dict[str, list[Example]]]]:
    """Documents by file, and examples by head and part, of folders and Hub sets.

    Raises `ValueError` for a source that holds neither.
    """
    documents: dict[str, list[str]] = {}
    examples: dict[str, dict[str, list[Example]]] = {}
    for source in sources:
        found = read_examples(source)
        examples |= found
        if not found or any(Path(source).glob("text/*")):
            documents |= read_documents(source)
    return documents, examples


def make_sources(
    documents: dict[str, list[str]],
    examples: dict[str, dict],
    heads: Sequence[str],
    bert: Bert,
    rounds: int = 1,
    taught: bool = False,
    seed: int = 0,
) -> dict[str, Rows]:
    """Rows by the name of their source, "held_out_" before what is only scored.

    `rounds` is for `make_pairs` and `span_rows`; `taught` adds pairs that only teachers have an answer to;
    `seed` is of what is made: false pairs, and questions without an answer. What is scored does not depend
    on it.
    """
    tokenizer = bert.tokenizer
    parts = {name: split_documents(texts) for name, texts in documents.items()}
    train = [text for name, part in parts.items() for text in part[0] * REPEAT.get(name, 1)]
    scored = next((name for name in parts if name.startswith("wiki")), next(iter(parts), None))
    rows: dict[str, Rows] = {}
    if documents and "nsp" in heads:
        rows["nsp"] = make_pairs(train, tokenizer, same_document=SAME_DOCUMENT, rounds=rounds, seed=seed)
        rows["held_out_nsp"] = make_pairs(parts[scored][1], tokenizer, same_document=0.0)
        rows["held_out_nsp_same"] = make_pairs(parts[scored][1], tokenizer, same_document=1.0)
    if documents and "mlm" in heads:
        rows["mlm"] = make_rows(train, tokenizer)
        rows["held_out_mlm"] = make_rows(parts[scored][1], tokenizer)
    makers = {"span": span_rows, "nli": pair_rows, "sentiment": sentence_rows, "pos": word_rows}
    vectors = bert.embeddings.word_embeddings.weight.detach().numpy()
    training = {  # how much is made besides what the sets hold: found by trial
        "span": {"unanswerable": 0.15, "exchanged": 0.4, "vectors": vectors, "rounds": rounds, "seed": seed},
        "nli": {"unrelated": 0.5, "crossed": taught, "seed": seed},
        "pos": {"every_word": True},
    }
    for head, of_head in examples.items():
        for part in of_head if head in heads else ():
            name = {"train": head, "held_out": f"held_out_{head}"}.get(part, f"held_out_{head}_{part}")
            more = training.get(head, {}) if part == "train" else {}
            rows[name] = makers[head](of_head[part], tokenizer, **more)
    return {name: table for name, table in rows.items() if len(table)}


def prepare_rows(
    data: Sequence[str],
    heads: Sequence[str],
    bert: Bert,
    folder: Path,
    *,
    resume: bool = False,
    rounds: int = 1,
    taught: bool = False,
    seed: int = 0,
) -> dict[str, Rows]:
    """`make_sources`, kept in `folder`/rows for the other processes and for a resumed training."""
    kept = folder / "rows"
    team = loop.processes()
    if team.is_main_process and not (resume and (kept / "complete").exists()):
        kept.mkdir(parents=True, exist_ok=True)
        for old in kept.iterdir():
            old.unlink()
        rows = make_sources(*read_all(data), heads, bert, rounds, taught, seed)
        if not any(not name.startswith("held_out") for name in rows):
            raise ValueError(f"{', '.join(data)} holds too little text to train on.")
        for name, table in rows.items():
            table.save(kept / f"{name}.npz")
        (kept / "complete").touch()
    team.wait_for_everyone()
    return {file.stem: Rows.load(file) for file in sorted(kept.glob("*.npz"))}


# --- `workbench train text` and `workbench evaluate text` --------------------------------------


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `workbench train text`."""
    parser.add_argument(
        "--data", required=True, nargs="+", help="folders laid out like the data kit, or names of Hub sets"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the log, the state and the checkpoint"
    )
    parser.add_argument("--initial", default=START, help="checkpoint to begin with (default: %(default)s)")
    parser.add_argument(
        "--teachers",
        nargs="+",
        default=[],
        help="checkpoints: what their heads say of sentences, words and questions is learned, too",
    )
    parser.add_argument(
        "--heads", nargs="+", choices=HEADS, default=list(HEADS), help="what to train (default: all)"
    )
    parser.add_argument("--hours", type=float, help=f"how long to train (default: {HOURS}, if no --steps)")
    parser.add_argument("--steps", type=int, help="how many steps to train")
    parser.add_argument(
        "--cycles",
        type=int,
        default=3,
        help="how often the learning rate falls to zero; what comes out is the mean (default: %(default)s)",
    )
    parser.add_argument(
        "--pretraining",
        type=float,
        default=0.5,
        help="share of the time for masked words and next sentence alone, first (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=1,
        help="how often texts are cut into pairs and questions are put, each time with other choices: a long "
        "training learns them by heart else (default: %(default)s)",
    )
    parser.add_argument("--tokens", type=int, default=8192, help="tokens in a batch (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="(default: %(default)s)")
    parser.add_argument("--dropout", type=float, default=0.05, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument(
        "--resume", action="store_true", help="go on where the last training in --out stopped"
    )


def train(options: argparse.Namespace) -> None:
    """`workbench train text`: trains, then writes the checkpoint to `--out`/checkpoint (float16)."""
    if not 0 <= options.pretraining < 1:
        raise ValueError("The pre-training takes a share of the time, from 0 to less than 1.")
    settings = loop.Settings(
        learning_rate=options.learning_rate,
        steps=options.steps,
        hours=HOURS if options.hours is None and options.steps is None else options.hours,
        seed=options.seed,
    )
    if options.cycles < 1:
        raise ValueError("A training has one cycle or more.")
    team = loop.processes()
    torch.manual_seed(options.seed)  # new heads are the same in all processes
    bert = start_model(options.initial, options.heads, options.dropout)
    rows = prepare_rows(
        options.data,
        options.heads,
        bert,
        options.out,
        resume=options.resume,
        rounds=options.rounds,
        taught=bool(options.teachers),
        seed=options.seed,
    )
    held_out = {
        name.removeprefix("held_out_"): table for name, table in rows.items() if name.startswith("held_out_")
    }
    objective = HeadLosses(bert, [load_bert(name, device=team.device) for name in options.teachers])

    def stage(heads: Sequence[str], share: float, folder: Path, rate: float) -> bool:
        """Trains `heads`, all in each step (unlike MT-DNN), for a share of the time; tells whether it was
        not interrupted."""
        names = [name for name in SHARES if name in rows and name in heads]
        sources = [
            Batches(
                rows[name],
                bert.tokenizer,
                name,
                round(options.tokens * SHARES[name] / sum(SHARES[name] for name in names)),
                options.seed,
                masked=name in ("nsp", "sentiment"),
                guessed=name != "sentiment",  # only masked: few as they are, they are learned by heart else
            )
            for name in names
        ]
        part = replace(
            settings,
            steps=settings.steps and max(1, round(settings.steps * share)),
            hours=settings.hours and settings.hours * share,
            learning_rate=rate,
        )

        def evaluate() -> dict[str, float]:
            figures: dict[str, float] = {}
            for name, table in held_out.items():
                head = name.split("_")[0]
                if head in heads:
                    of_head = head_figures(bert, table, head, 256)
                    figures[f"{name}_accuracy"] = next(iter(of_head.values()))
            return figures

        progress = loop.train(
            objective,
            lambda *step: [source(*step) for source in sources],
            part,
            folder,
            resume=options.resume,
            evaluate=evaluate,
        )
        if team.is_main_process:
            save_checkpoint(bert, folder / "checkpoint", torch.float16)
            print(f"{progress.step} steps; the checkpoint is in {folder / 'checkpoint'}.")
        return not part.left(progress.step, progress.seconds)

    stages = []  # heads, share of the time, folder, learning rate
    first = [name for name in options.heads if name in ("mlm", "nsp")]
    share, rate = 1.0, options.learning_rate
    if options.pretraining and first and len(first) < len(options.heads):
        stages.append((first, options.pretraining, options.out / "pretraining", rate))
        share, rate = 1 - options.pretraining, rate * AFTER_PRETRAINING
    cycles = [options.out / f"cycle-{number + 1}" for number in range(options.cycles)]
    stages += [(options.heads, share / len(cycles), folder, rate) for folder in cycles]
    begun = [number for number, stage in enumerate(stages) if loop.last_state(stage[2])]
    first_stage = max(begun, default=0) if options.resume else 0
    if all(stage(*each) for each in stages[first_stage:]) and team.is_main_process:
        average_checkpoints([folder / "checkpoint" for folder in cycles], options.out / "checkpoint")
        print(f"The mean of the cycles is in {options.out / 'checkpoint'}.")


def average_checkpoints(folders: Sequence[str | Path], out: Path) -> None:
    """Writes the mean of the weights of checkpoints of one kind (arXiv:1803.05407)."""
    berts = [load_bert(folder, device="cpu") for folder in folders]
    states = [bert.state_dict() for bert in berts]
    mean = {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}
    berts[0].load_state_dict(mean)
    save_checkpoint(berts[0], out, torch.float16)


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `workbench evaluate text`."""
    parser.add_argument(
        "--data", required=True, nargs="+", help="folders laid out like the data kit, or names of Hub sets"
    )
    parser.add_argument("--checkpoint", help="a folder or a Hub id (default: the shipped one)")
    parser.add_argument(
        "--most", type=int, default=512, help="most examples for each figure (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the choice and the masks (default: %(default)s)"
    )


def evaluate(options: argparse.Namespace) -> None:
    """`workbench evaluate text`: prints how well each head does on held-out text and examples."""
    bert = load_bert(options.checkpoint)
    started = time.monotonic()
    documents, examples = read_all(options.data)
    lines = []

    def line(what: str, measure: str, value: float, count: float) -> None:
        lines.append(f"{what:<44}{measure:<12}{value:>8.1%}{count:>8,.0f}")

    def accuracy(what: str, head: str, rows: Rows, unit: str = "accuracy") -> None:
        if head in bert.heads and len(rows):
            right, _, count = head_figures(bert, rows, head, options.most, options.seed).values()
            line(f"{head}: {what}", unit, right, count)

    for name, texts in documents.items():
        texts = split_documents(texts)[1]
        accuracy(f"masked words, {name}", "mlm", make_rows(texts, bert.tokenizer))
        for share, kind in ((0.0, "random"), (1.0, "same document")):
            pairs = make_pairs(texts, bert.tokenizer, same_document=share)
            accuracy(f"{name}, false pairs {kind}", "nsp", pairs)
    held_out = {head: of_head.get("held_out", []) for head, of_head in examples.items()}
    accuracy("held-out sentences", "sentiment", sentence_rows(held_out.get("sentiment", []), bert.tokenizer))
    accuracy("held-out words", "pos", word_rows(held_out.get("pos", []), bert.tokenizer))
    accuracy("held-out pairs", "nli", pair_rows(held_out.get("nli", []), bert.tokenizer))
    accuracy("SICK", "nli", pair_rows(examples.get("nli", {}).get("sick", []), bert.tokenizer))
    if "span" in bert.heads and held_out.get("span"):
        figures = span_figures(bert, held_out["span"], options.most, options.seed)
        line("span: held-out questions", "exact", figures["exact"], figures["span_count"])
        line("span: held-out questions", "F1", figures["f1"], figures["span_count"])
        line("span: answer or none", "accuracy", figures["answerable"], figures["answerable_count"])
    if not lines:
        raise ValueError(f"{', '.join(options.data)} has nothing held out that a head could be scored with.")
    print(f"\n{'head and data':<44}{'measure':<12}{'value':>8}{'number':>8}", *lines, sep="\n")
    print(f"{bert.name}, seed {options.seed}, {bert.device.type}, {time.monotonic() - started:.0f} seconds")
