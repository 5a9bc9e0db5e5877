"""The recipe of the shipped BERT: six heads on MiniLM's encoder, trained on plain text and examples.

`accelerate launch data/recipes/train_text.py train ...` trains on several GPUs, `torchrun --nproc_per_node 2
data/recipes/train_text.py train ...` in two processes of a CPU.
"""

import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import common
import examples
import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset, load_from_disk
from torch import Tensor, nn
from torchmetrics.text import SQuAD
from tqdm.auto import tqdm

from workbench.bert import Bert, Pooler
from workbench.checkpoint import NSP_LABELS, load_bert, save_checkpoint
from workbench.encoder import SelfAttention, initialize
from workbench.tasks import answer_question
from workbench.text import Tokenizer
from workbench.training import loop, text_learner

START = "sentence-transformers/all-MiniLM-L6-v2"  # Apache-2.0; BERT's own vocabulary
# What the tasks share of the tokens of a step, and how much their mean losses weigh: found by trial.
SHARES = {"mlm": 0.36, "nsp": 0.36, "span": 0.2, "nli": 0.05, "sentiment": 0.01, "pos": 0.02}
WEIGHTS = {"mlm": 1.0, "nsp": 1.0, "span": 0.7, "nli": 0.7, "sentiment": 0.25, "pos": 0.3}
# How often a set is read if not once: plain everyday sentences are few, and what learners type; one-sided
# pairs and questions that a program made are many.
TIMES = {
    "stories": 3,
    "stories_more": 3,
    "everyday_sentences": 5,
    "squad2_train_sample": 2,
    "breaking_nli": 0.18,
    "made_unanswerable": 0.5,
}
SAME_DOCUMENT = 0.3  # of the false pairs of sentences
KEPT = 1 / 3  # of the weights that a training began with
SHORT_FROM = 400_000  # characters of each set of documents, which short pairs are made of
EXCHANGED = 0.4  # so many questions more, as a share, have a word exchanged
HEADS = {  # kind and classes
    "mlm": ("mlm", ()),
    "nsp": ("sentence", NSP_LABELS),
    "span": ("span", ()),
    "nli": ("sentence", examples.NLI_LABELS),
    "sentiment": ("sentence", examples.SENTIMENT_LABELS),
    "pos": ("word", examples.UPOS_LABELS),
}

Tables = dict[str, Dataset]  # rows by HEAD/train, and by HEAD/SET_SPLIT what is scored


@dataclass(frozen=True, kw_only=True)
class Options(loop.Settings):
    """How to train, for some steps or hours."""

    data: tuple[str, ...]
    """what convert_kit.py wrote, folders with SPLIT.jsonl, or names of Hub sets"""
    out: Path
    """folder for log, states and checkpoint"""
    initial: str = START
    """checkpoint to begin with"""
    rounds: int = 1
    """how often texts are cut into pairs and questions are put, each time with other choices: a long training
    learns them by heart else"""
    tokens: int = 8192
    """tokens in a batch"""
    learning_rate: float = 3e-4
    dropout: float = 0.05
    resume: bool = False
    """go on where the last training in OUT stopped"""


# --- what is trained and scored ----------------------------------------------------------------


def start_model(start: str, heads: Iterable[str] = HEADS, dropout: float = 0.1) -> Bert:
    """A BERT to begin with, and the heads that it lacks; a new masked-word head starts as identity.

    Args:
        start: a checkpoint.
        heads: names in `HEADS`.
        dropout: of the hidden states; the attention has none, which is quicker.
    """
    bert = load_bert(start, device="cpu")
    if bert.pooler is None:
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
    return bert


def take(rows: list, times: float, seed: int) -> list:
    """Rows so many times; of what is less than once, pairs of rows that are drawn: a question that was made
    unanswerable stays beside the one that it was made from."""
    drawn = np.repeat(np.random.default_rng(seed).random(len(rows)) < times % 1, 2)[: len(rows)]
    return rows * int(times) + [row for row, chosen in zip(rows, drawn, strict=True) if chosen]


def training_tables(sets: Iterable[examples.TextSet], options: Options, tokenizer: Tokenizer) -> Tables:
    """What is learned from, by HEAD/train. How much is made besides what the sets hold was found by trial."""
    seed, rounds, of_kind = options.seed, options.rounds, defaultdict(list)
    for each in sets:
        of_kind[each.kind] += take(each.splits.get("train", []), TIMES.get(each.name, 1), seed)
    documents, questions = of_kind["documents"], of_kind["span"] * rounds
    questions += examples.exchange_words(questions, of_kind["twins"], EXCHANGED, seed)
    tables = {
        "mlm/train": examples.masked_word_rows(documents, tokenizer),
        "nsp/train": text_learner.next_sentence_rows(
            documents, tokenizer, same_document=SAME_DOCUMENT, rounds=rounds, seed=seed
        ),
        "span/train": examples.span_rows(questions, tokenizer, unanswerable=0.25, seed=seed),
        "nli/train": examples.pair_rows(of_kind["nli"], tokenizer, unrelated=0.5, seed=seed),
        "sentiment/train": examples.sentence_rows(of_kind["sentiment"], tokenizer),
        "pos/train": examples.word_rows(of_kind["pos"], tokenizer, every_word=True),
    }
    return {name: table for name, table in tables.items() if len(table)}


def scored_splits(sets: Iterable[examples.TextSet]) -> Iterator[tuple[str, str, list]]:
    """Each split that is not trained on: the kind and the name of its set, with its own, and its rows."""
    for each in sets:
        for split, rows in each.splits.items():
            if split != "train":
                yield each.kind, f"{each.name}_{split}", rows


def scored_tables(sets: Iterable[examples.TextSet], tokenizer: Tokenizer) -> Tables:
    """What is scored, by HEAD/SET_SPLIT; it depends on no seed."""
    tables: Tables = {}
    for kind, name, rows in scored_splits(sets):
        if kind == "documents":
            tables[f"mlm/{name}"] = examples.masked_word_rows(rows, tokenizer)
            for false, share in (("random", 0.0), ("same_document", 1.0)):
                pairs = text_learner.next_sentence_rows(rows, tokenizer, same_document=share)
                tables[f"nsp/{name}_{false}"] = pairs
        elif kind in examples.MAKERS:
            tables[f"{kind}/{name}"] = examples.MAKERS[kind](rows, tokenizer)
    return {name: table for name, table in tables.items() if len(table)}


def prepare_tables(options: Options, tokenizer: Tokenizer) -> Tables:
    """All tables, kept in OUT/rows for the other processes and for a resumed training."""
    kept = options.out / "rows"
    team = loop.processes()
    if team.is_main_process and not (options.resume and (kept / "complete").exists()):
        if kept.exists() and {path.name for path in kept.iterdir()} - {*HEADS, "complete"}:
            raise ValueError(f"{kept} holds more than tables of this recipe: take another folder.")
        shutil.rmtree(kept, ignore_errors=True)
        sets = examples.read_sets(options.data)
        tables = training_tables(sets, options, tokenizer)
        if not tables:
            raise ValueError(f"{', '.join(options.data)} holds too little text to train on.")
        documents = [each for each in sets if each.kind == "documents"]
        first = [each for each in documents if each.name.startswith("wiki")] or documents
        scored = [each for each in sets if each.kind != "documents"] + first[:1]  # one will do on the way
        for name, table in (tables | scored_tables(scored, tokenizer)).items():
            table.save_to_disk(kept / name)
        (kept / "complete").touch()
    team.wait_for_everyone()
    folders = sorted(file.parent for file in kept.glob("*/*/state.json"))
    return {f"{folder.parent.name}/{folder.name}": load_from_disk(folder) for folder in folders}


# --- train ---------------------------------------------------------------------------------------


class MadeAhead:
    """The batches of the next steps, made in threads: a GPU would wait for them else. On a CPU the threads
    would take away from the training."""

    def __init__(self, sources: Sequence[text_learner.TextBatches]) -> None:
        self.sources = sources
        self.made: dict[int, Future] = {}
        self.ahead = 8 if loop.processes().device.type == "cuda" else 1
        self.threads = ThreadPoolExecutor(self.ahead)

    def __call__(self, step: int, process: int, processes: int) -> list[loop.Batch]:
        """What `loop.train` asks for: a batch of each source."""
        for number in range(step, step + self.ahead):
            if number not in self.made:
                self.made[number] = self.threads.submit(
                    lambda number=number: [source(number, process, processes) for source in self.sources]
                )
        return self.made.pop(step).result()


def train(options: Options) -> None:
    """Trains all heads in each step (unlike MT-DNN), and writes OUT/checkpoint in float16."""
    common.check_new(options.out, options.resume)
    torch.manual_seed(options.seed)  # new heads are the same in all processes
    bert = start_model(options.initial, dropout=options.dropout)
    tables = prepare_tables(options, bert.tokenizer)
    longest = max(text_learner.row_lengths(table).max() for table in tables.values())
    if longest > (most := bert.config.max_position_embeddings):
        raise ValueError(
            f"{bert.name} reads {most} word pieces at once, and rows have up to {longest}: begin with a "
            "checkpoint that reads more."
        )
    names = [name for name in SHARES if f"{name}/train" in tables]
    sources = [
        text_learner.TextBatches(
            tables[f"{name}/train"],
            bert.tokenizer,
            name,
            round(options.tokens * SHARES[name] / sum(SHARES[name] for name in names)),
            options.seed,
            masked=name in ("nsp", "sentiment"),
            guessed=name != "sentiment",  # only masked: few as they are, they are learned by heart else
        )
        for name in names
    ]

    def evaluate() -> loop.Figures:
        return {name: right for name, _, right, _ in head_accuracies(bert, tables, 256)}

    progress = loop.train(
        text_learner.TextLearner(bert, WEIGHTS),
        MadeAhead(sources),
        options,
        options.out,
        resume=options.resume,
        evaluate=evaluate,
    )
    if loop.processes().is_main_process:
        finish(bert, load_bert(options.initial, device="cpu"), examples.read_sets(options.data), options.seed)
        save_checkpoint(bert, options.out / "checkpoint", torch.float16)
        print(f"{progress.step} steps; the checkpoint is in {options.out / 'checkpoint'}.")


def finish(bert: Bert, initial: Bert, sets: Iterable[examples.TextSet], seed: int = 0) -> None:
    """Takes a third of the weights from the checkpoint that the training began with, which keeps what it knew
    (arXiv:2109.01903), and then fits the last layer of next sentence to short pairs, as many of each set of
    documents: of long ones from an encyclopedia are most, and after those too little follows.

    Args:
        bert: what was trained, and is changed.
        initial: heads that it lacks are left as they are.
        sets: only documents are used, none of those that are scored.
        seed: of what is drawn.
    """
    before = initial.state_dict()
    mean = {
        name: tensor.lerp(before.get(name, tensor).to(tensor), KEPT)
        for name, tensor in bert.state_dict().items()
    }
    bert.load_state_dict(mean)
    random, documents = np.random.default_rng(seed), []
    for each in sets:
        if each.kind == "documents":
            rows = each.splits.get("train", [])
            drawn = [rows[index][:6000] for index in random.permutation(len(rows))]
            documents += drawn[: 1 + np.searchsorted(np.cumsum([len(text) for text in drawn]), SHORT_FROM)]
    if not documents:
        return
    tokenizer = bert.tokenizer
    pairs = text_learner.next_sentence_rows(documents, tokenizer, same_document=0.1, length=40, seed=seed)
    order = np.argsort(text_learner.row_lengths(pairs))
    batches = text_learner.head_batches(pairs, order, tokenizer, "nsp")
    read, targets = [], []
    with torch.no_grad():
        for batch in tqdm(batches, desc="short pairs", leave=False):
            batch = {name: tensor.to(bert.device) for name, tensor in batch.items()}
            targets.append(batch.pop("nsp"))
            read.append(bert.pooler(bert(**batch)[-1]))  # (pairs, hidden_size)
    read, targets, layer = torch.cat(read), torch.cat(targets), bert.heads["nsp"]
    first = layer.weight.detach().clone()

    def loss() -> Tensor:
        moved = (layer.weight - first).square().sum()
        return F.cross_entropy(layer(read), targets) + 0.01 * moved

    common.fit(layer, loss)


# --- evaluate ------------------------------------------------------------------------------------


def head_accuracies(bert: Bert, tables: Tables, most: int) -> Iterator[common.Figure]:
    """How often heads are right in at most `most` rows of each table that is scored."""
    for name, rows in tables.items():
        head, part = name.split("/")
        if part != "train" and head in bert.heads:
            right, _, count = text_learner.head_figures(bert, rows, head, most).values()
            yield name, "accuracy", right, count


def span_figures(bert: Bert, questions: Sequence[dict], most: int) -> dict[str, tuple]:
    """How well questions are answered, by `answer_question`, in at most `most` of them, which are drawn.

    Returns:
        By measure, a value and how many it is of: "exact" and "F1" of answerable questions, the best answer
        against the closest of those given, as SQuAD scores them (arXiv:1606.05250, section 6.1); "answer or
        none", whether "no answer" is less likely than the best answer exactly where there is one, mean of
        the questions with and without an answer (of sources that have both).
    """
    drawn = [questions[i] for i in np.random.default_rng(0).permutation(len(questions))[:most]]
    mixed = {row.get("source") for row in drawn if not row["answers"]["text"]}
    squad, answered, told = SQuAD(), 0, {True: [], False: []}
    for row in tqdm(drawn, desc="questions", unit="question", leave=False):
        found = answer_question(bert, row["question"], row["context"], top_k=1)
        best = found.answers[0] if found.answers else None
        is_given = bool(row["answers"]["text"])
        if row.get("source") in mixed:
            told[is_given].append((best is not None and best.probability > found.no_answer) == is_given)
        if is_given:
            answered += 1
            said = {"id": "", "prediction_text": best.text if best else ""}
            squad.update([said], [{"id": "", "answers": row["answers"]}])
    figures: dict[str, tuple] = {}
    if answered:
        scores = squad.compute()
        figures["exact"] = float(scores["exact_match"]) / 100, answered
        figures["F1"] = float(scores["f1"]) / 100, answered
    if all(told.values()):
        both, count = np.mean([np.mean(part) for part in told.values()]), sum(map(len, told.values()))
        figures["answer or none"] = float(both), count
    return figures


def evaluate(data: tuple[str, ...], checkpoint: str | None = None, most: int = 512) -> None:
    """Prints how well each head does on what was held out from training.

    Args:
        data: as for train.
        checkpoint: a folder or a Hub id; the shipped one if not given.
        most: most examples for each figure, always the same ones with the same masks.
    """
    started, bert, sets = time.monotonic(), load_bert(checkpoint), examples.read_sets(data)
    others = [each for each in sets if each.kind != "span"]
    figures = list(head_accuracies(bert, scored_tables(others, bert.tokenizer), most))
    for kind, name, rows in scored_splits(sets):
        if kind == "span" and "span" in bert.heads:
            found = span_figures(bert, rows, most).items()
            figures += [(f"span/{name}", measure, *figure) for measure, figure in found]
    if not figures:
        raise ValueError(f"{', '.join(data)} has nothing held out that a head could be scored with.")
    common.print_figures(figures)
    print(f"{bert.name}, {bert.device.type}, {time.monotonic() - started:.0f} seconds")


# What the script runs; without arguments it reads those of the process.
main = partial(common.run, {"train": train, "evaluate": evaluate}, __doc__)

if __name__ == "__main__":
    main()
