"""One training loop for every learner: on a CPU, on a GPU, or on many through `accelerate launch`."""

import json
import logging
import re
import shutil
import signal
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from workbench.checks import check_whole, counted, whole
from workbench.encoder import MODEL_LOCK

Batch = dict[str, Tensor]
Figures = dict[str, float]
ATTENTION = {
    "cpu": [SDPBackend.MATH],  # the fused one is slow in the backward pass
    "cuda": [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],  # cuDNN's plans anew for each shape
}

# At each save it warns that tied weights are stored once, which is what is wanted.
logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)


class Learner(nn.Module):
    """What the loop trains: a model that answers, and learns by the cross entropy of its answers.

    `names` are those of the losses, `weights` what each one's mean counts in what is minimised, and `unit`
    what speed is counted in, such as "tokens".
    """

    names: Sequence[str]
    weights: Sequence[float]
    unit: str

    def answers(self, **batch: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """By the name of a loss: logits, (answers, classes), and what is right, (answers,), or its
        probabilities, (answers, classes). A loss that a batch has no targets for is left out."""
        raise NotImplementedError

    def forward(self, **batch: Tensor) -> tuple[Tensor, Tensor]:
        """The sums of the losses, and how many answers were summed, both (names,): sums and not means, so
        that processes with batches of different sizes can be averaged exactly."""
        losses, counts = {}, {}
        for name, (logits, right) in self.answers(**batch).items():
            losses[name] = F.cross_entropy(logits.float(), right, reduction="sum")
            counts[name] = losses[name].new_full((), len(right))
        none = torch.zeros_like(losses[name])
        return tuple(torch.stack([part.get(name, none) for name in self.names]) for part in (losses, counts))

    def size(self, batch: Batch) -> int:
        """How many units are in a batch."""
        return len(next(iter(batch.values())))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long and how fast to train. Give `steps`, or `hours`, or both (what comes first ends it)."""

    learning_rate: float = 5e-4
    steps: int | None = None
    hours: float | None = None
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    save_every: int = 500
    log_every: int = 20

    def __post_init__(self) -> None:
        limits = [limit for limit in (self.steps, self.hours) if limit is not None]
        if self.steps is not None:
            whole("steps", self.steps)
        if not limits or not all(limit > 0 for limit in limits):
            raise ValueError("Say how long to train: a number of steps, hours, or both, more than 0.")
        if not 0 < self.learning_rate <= 1:
            raise ValueError(f"A learning rate is above 0 and at most 1, not {self.learning_rate}.")
        if not self.clip > 0:
            raise ValueError(f"clip, the largest norm of the gradients, is above 0, not {self.clip}.")
        check_whole("seed", self.seed, 0, 2**32 - 1)
        if min(self.save_every, self.log_every) < 1:
            raise ValueError("A training is saved and logged every so many steps, 1 or more.")

    def left(self, step: int, seconds: float) -> float:
        """Share of the training that is still to come, 1 to 0."""
        used = [step / self.steps] if self.steps else []
        used += [seconds / (self.hours * 3600)] if self.hours else []
        return max(0.0, 1 - max(used))

    def rate(self, step: int, seconds: float) -> float:
        """The learning rate: it rises over `warmup` steps, stays, and falls to zero over the last fifth
        (warm-up, stable, decay; arXiv:2404.06395)."""
        left = self.left(step, seconds)
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup), left * 5)


@dataclass
class Progress:
    """Where a training stands; kept as progress.json beside its weights."""

    step: int = 0
    seconds: float = 0.0
    log: list[Figures] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)  # of the steps whose line in the log is still to come


def bfloat16_is_faster(device: str) -> bool:
    """Whether bfloat16 is the faster way there: on a GPU, and on a CPU with instructions for it."""
    able = getattr(torch.cpu, "get_capabilities", dict)() if device == "cpu" else {}
    return device == "cuda" or bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def processes() -> PartialState:
    """The processes that train together: one, or as many as `accelerate launch` or `torchrun` started."""
    return PartialState(cpu=not torch.accelerator.is_available())


def new_optimizer(learner: Learner, settings: Settings) -> torch.optim.Optimizer:
    """AdamW; biases and layer norms are not decayed."""
    parameters = list(learner.parameters())
    for parameter in parameters:  # rows first, which training is faster with
        parameter.data = parameter.data.contiguous()
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)


def own_folders(folder: Path, kinds: str) -> set[Path]:
    """What a training wrote of these kinds, such as "state|unfinished", and nothing that is called alike."""
    named = re.compile(rf"({kinds})-\d+(-before)?")
    return {path for path in folder.glob("*-*") if path.is_dir() and named.fullmatch(path.name)}


def last_state(folder: Path) -> Path | None:
    """The folder of the newest state of a training, if there is one; without progress.json none is newer."""

    def written(state: Path) -> float:
        file = state / "progress.json"
        return file.stat().st_mtime if file.exists() else 0.0

    return max(own_folders(folder, "state"), key=written, default=None)


@contextmanager
def writes(what: Path) -> Iterator[None]:
    """Around what writes: `OSError` with a sentence if it fails."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # of the system, of torch, of safetensors
        reason = getattr(error, "strerror", None) or "is the disk full?"
        raise OSError(f"{what} could not be written ({reason}); what was there before is kept.") from error


def save_state(accelerator: Accelerator, progress: Progress, folder: Path) -> Path:
    """Writes state-STEP/ with all that is needed to go on, then removes older ones.

    It is written under another name: killed or out of room, the state before is still there.
    """
    state, new = folder / f"state-{progress.step}", folder / f"unfinished-{progress.step}"
    try:
        with writes(state):
            accelerator.save_state(str(new))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                (new / "progress.json").write_text(json.dumps(asdict(progress)))
                if state.exists():  # of an earlier training
                    before = folder / f"state-{progress.step}-before"
                    shutil.rmtree(before, ignore_errors=True)
                    state.rename(before)
                new.rename(state)
                for old in own_folders(folder, "state|unfinished") - {state}:
                    shutil.rmtree(old)
    except OSError:
        shutil.rmtree(new, ignore_errors=True)  # makes room again
        raise
    accelerator.wait_for_everyone()  # nobody goes on before the state has its name
    return state


def load_state(accelerator: Accelerator, state: Path) -> Progress:
    """Puts a state into what was prepared, and returns where it stood; `ValueError` if it is damaged."""
    try:
        progress = json.loads((state / "progress.json").read_text())
        accelerator.load_state(str(state))
        step, seconds, log = int(progress["step"]), float(progress["seconds"]), list(progress["log"])
        return Progress(step, seconds, log, list(progress.get("sums", [])))
    except Exception as error:  # damaged files show themselves in many kinds of errors
        reason = textwrap.shorten(str(error) or "a file is empty", 100, placeholder=" ...")
        raise ValueError(
            f"{state} is damaged, or of another model ({reason}): delete this folder to begin anew."
        ) from error


@contextmanager
def interruption(alone: bool) -> Iterator[threading.Event]:
    """Within it Ctrl-C only sets an event, so that no step and no file is left half done.

    A second one interrupts at once, unless there are several processes: each gets Ctrl-C from the terminal
    and from what started it.
    """
    asked = threading.Event()

    def ask(*_: object) -> None:
        if alone and asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():  # which no signal reaches
        yield asked
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def mean_figures(learner: Learner, sums: Tensor, seconds: float) -> Figures:
    """Of what `add_gradients` gave, added up over some steps and seconds: the mean of each loss that there
    was, their mean, and the speed."""
    *both, size = sums.tolist()
    losses, counts = both[: len(learner.names)], both[len(learner.names) :]
    means = {
        f"{name}_loss": loss / count
        for name, loss, count in zip(learner.names, losses, counts, strict=True)
        if count
    }
    mean = sum(means.values()) / max(1, len(means))
    return {"loss": mean} | means | {f"{learner.unit}_per_second": size / seconds}


@torch.inference_mode()
def score(learner: Learner, batches: Iterable[Batch]) -> tuple[float, Tensor, Tensor]:
    """How well batches with targets for one loss are answered: the mean loss, and what is said and what is
    right, both (answers,) on the CPU."""
    device, loss = next(learner.parameters()).device, 0.0
    parts = [torch.empty(2, 0, dtype=torch.long)]
    for batch in batches:
        batch = {name: part.to(device) for name, part in batch.items()}
        ((logits, right),) = learner.answers(**batch).values()
        loss += float(F.cross_entropy(logits.float(), right, reduction="sum"))
        parts.append(torch.stack([logits.argmax(-1), right]).cpu())
    said, right = torch.cat(parts, dim=1)
    return loss / max(1, len(right)), said, right


def add_gradients(
    accelerator: Accelerator, prepared: nn.Module, learner: Learner, batches: list[Batch]
) -> Tensor:
    """Gradients of all batches of a step, added up and averaged over processes.

    Args:
        accelerator: knows the other processes.
        prepared: the learner as `accelerator.prepare` gave it.
        learner: the learner itself.
        batches: this process's part of each.

    Returns:
        Over all processes: the losses, the counts, and the size of the batches, (2 * names + 1,).
    """
    device = accelerator.device
    weights = torch.tensor(learner.weights, device=device)
    total = torch.zeros(2 * len(weights) + 1, device=device)
    for number, batch in enumerate(batches, 1):
        batch = {name: part.to(device, non_blocking=True) for name, part in batch.items()}
        # Processes share their gradients once a step.
        share = nullcontext() if number == len(batches) else accelerator.no_sync(prepared)
        with share, sdpa_kernel(ATTENTION[device.type]) if device.type in ATTENTION else nullcontext():
            losses, counts = prepared(**batch)
            size = torch.full_like(counts[:1], learner.size(batch))
            sums = accelerator.reduce(torch.cat([losses.detach(), counts, size]), "sum")
            everywhere = sums[len(losses) : -1].clamp(min=1)
            # Gradients are averaged over processes: each takes its share of the global means.
            means = losses / everywhere * accelerator.num_processes
            accelerator.backward((means * weights).sum())
        total += sums
    return total


def train(
    learner: Learner,
    batch_at: Callable[[int, int, int], Batch | list[Batch]],
    settings: Settings,
    folder: Path | None,
    *,
    resume: bool = False,
    evaluate: Callable[[], Figures] | None = None,
    watch: Callable[[Figures], None] | None = None,
) -> Progress:
    """Trains until the end, or until interrupted; what was learned stays in the model either way.

    Args:
        learner: see `Learner`.
        batch_at: `batch_at(step, process, processes)`, this process's part of the batch of a step, or of
            several batches whose losses are added. It must depend on nothing else: that is what makes a
            resumed training give the same numbers, but for its speed.
        settings: see `Settings`.
        folder: gets log.jsonl, and state-STEP/ to resume from; with None nothing is written.
        resume: go on from the last state if there is one.
        evaluate: figures to put into the log at each save.
        watch: is called with each line of the log; it shows the progress then, and nothing is printed.

    Returns:
        Where the training ended. Progress is shown; with Ctrl-C or the stop button it ends early.

    Raises:
        ValueError: a damaged state, or a loss or gradients that are not finite: the model is then as it was
            before that step, and the last state stays.
        OSError: the folder cannot be written.
    """
    accelerator = Accelerator(
        mixed_precision="bf16" if bfloat16_is_faster(processes().device.type) else "no",
        # Heads that a batch does not use get no gradient; DDP has to be told.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    main, alone = accelerator.is_main_process, accelerator.num_processes == 1
    prepared, optimizer = accelerator.prepare(learner, new_optimizer(learner, settings))
    progress, state = Progress(), last_state(folder) if resume and folder else None
    if state:
        progress = load_state(accelerator, state)
    saved = progress.step if state else None

    def write_log(lines: list[Figures], mode: str) -> None:
        if main and folder:
            log = folder / "log.jsonl"
            part = log if mode == "a" else folder / "log.new"  # the log before is kept if there is no room
            with writes(log):
                folder.mkdir(parents=True, exist_ok=True)
                with part.open(mode) as file:
                    file.writelines(json.dumps(line) + "\n" for line in lines)
                if part != log:
                    part.replace(log)

    def note(figures: Figures) -> None:
        progress.log.append({"step": progress.step} | figures)
        write_log(progress.log[-1:], "a")
        if main and watch is not None:
            watch(progress.log[-1])

    def step(rate: float) -> Tensor:
        """One step; returns what `add_gradients` does."""
        with MODEL_LOCK:  # a widget may ask the model between two steps, and then without dropout
            # Dropout of a step is the same in a resumed training, and another on each process.
            torch.manual_seed(settings.seed + 1_000_003 * (progress.step + 1) + accelerator.process_index)
            learner.train()
            optimizer.zero_grad()
            batches = batch_at(progress.step, accelerator.process_index, accelerator.num_processes)
            batches = batches if isinstance(batches, list) else [batches]
            sums = add_gradients(accelerator, prepared, learner, batches)
            norm = accelerator.clip_grad_norm_(prepared.parameters(), settings.clip)
            if not (sums.isfinite().all() and norm.isfinite()):  # the same in all processes
                raise ValueError(
                    f"The loss of step {progress.step + 1} is no finite number: nothing of that step was "
                    "learned. Try a lower learning rate, or look for what is odd in the data; "
                    + (f"the last state saved is {state}." if state else "no state had been saved yet.")
                )
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            learner.eval()
        return sums

    def save() -> None:
        nonlocal state, saved
        if progress.step == saved:  # such as a training that was over
            return
        progress.sums = [*sums[:-1].tolist(), 0.0]  # the speed will be that of the steps to come
        if evaluate is not None and main:
            note(evaluate())
        accelerator.wait_for_everyone()
        if folder:
            state = save_state(accelerator, progress, folder)
        saved = progress.step

    write_log(progress.log, "w")
    sums = torch.tensor(progress.sums or [0.0] * (2 * len(learner.names) + 1), device=accelerator.device)
    since = time.monotonic()
    started = since - progress.seconds
    bar = tqdm(
        total=settings.steps, initial=progress.step, unit="step", disable=watch is not None or not main
    )
    stop = 0.0
    with bar, interruption(alone) as asked:
        try:
            while settings.left(progress.step, progress.seconds) > 0 and not stop:
                rate = settings.rate(progress.step, progress.seconds)
                sums += step(rate)
                progress.step += 1
                # All processes go by one clock, and stop together.
                told = torch.tensor([asked.is_set(), main * (time.monotonic() - started)])
                stop, progress.seconds = accelerator.reduce(told.to(accelerator.device), "sum").tolist()
                left = settings.left(progress.step, progress.seconds)
                bar.update()
                is_due = progress.step % settings.log_every == 0
                if is_due or stop or not left:
                    figures = mean_figures(learner, sums, time.monotonic() - since)
                    note(figures | {"learning_rate": rate, "seconds": progress.seconds})
                    # With `steps` the bar itself knows the time left.
                    to_go = "" if settings.steps else f", {60 * settings.hours * left:.0f} minutes left"
                    speed = f"{figures[f'{learner.unit}_per_second']:,.0f} {learner.unit}/s"
                    bar.set_postfix_str(f"loss {figures['loss']:.3f}, {speed}{to_go}")
                if is_due:
                    sums, since = torch.zeros_like(sums), time.monotonic()
                if progress.step % settings.save_every == 0 and left and not stop:
                    paused = time.monotonic()
                    save()
                    since += time.monotonic() - paused  # which is no time of the steps
        except KeyboardInterrupt:
            if not alone:  # the others may be anywhere: the last save has to do
                raise
            stop = 1.0
        finally:
            learner.eval()
            optimizer.zero_grad()
        save()
    if stop and main and watch is None:
        print(f"Stopped after {counted(progress.step, 'step')}; what was learned is kept.")
    return progress
