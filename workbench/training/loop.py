"""One training loop for every learner: on a CPU, on a GPU, or on many through `accelerate launch`."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm.auto import tqdm

from workbench.encoder import MODEL_LOCK

Batch = dict[str, Tensor]
Figures = dict[str, float]
ATTENTION = {
    "cpu": [SDPBackend.MATH],  # the fused one is slow in the backward pass
    "cuda": [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],  # cuDNN's plans anew for each shape
}

# At each save it warns that tied weights are stored once, which is what is wanted.
logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)


class Learner(Protocol):
    """What the loop trains: an `nn.Module` around a model, whose forward pass gives losses.

    `names` are those of the losses, `weights` what each one's mean counts in what is minimised, and `unit`
    what speed is counted in, such as "tokens".
    """

    names: Sequence[str]
    weights: Sequence[float]
    unit: str

    def __call__(self, **batch: Tensor) -> tuple[Tensor, Tensor]:
        """The sums of the losses, and how many things were summed, both (names,): sums and not means, so
        that processes with batches of different sizes can be averaged exactly."""

    def size(self, batch: Batch) -> int:
        """How many units are in a batch."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """As of every `nn.Module`; so are the next two."""

    def train(self) -> nn.Module:
        """Switches dropout on."""

    def eval(self) -> nn.Module:
        """Switches dropout off."""


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
        if not limits or min(limits) <= 0:
            raise ValueError("Say how long to train: a number of steps, hours, or both, more than 0.")

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
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)


def last_state(folder: Path) -> Path | None:
    """The folder of the newest complete state of a training, if there is one."""
    states = sorted(folder.glob("state-*/progress.json"), key=lambda file: file.stat().st_mtime)
    return states[-1].parent if states else None


def save_state(accelerator: Accelerator, progress: Progress, folder: Path) -> None:
    """Writes state-STEP/ with all that is needed to go on, then removes older ones."""
    state = folder / f"state-{progress.step}"
    (state / "progress.json").unlink(missing_ok=True)  # of an earlier training
    accelerator.save_state(str(state))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        # progress.json comes last: a state that has it is complete
        (state / "progress.json").write_text(json.dumps(asdict(progress)))
        for old in set(folder.glob("state-*")) - {state}:
            shutil.rmtree(old)


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
    folder: Path,
    *,
    resume: bool = False,
    evaluate: Callable[[], Figures] | None = None,
    watch: Callable[[Figures], None] | None = None,
) -> Progress:
    """Trains until the end, or until interrupted; what was learned stays in the model either way.

    Args:
        learner: wraps the model; see `Learner`.
        batch_at: `batch_at(step, process, processes)`, this process's part of the batch of a step, or of
            several batches whose losses are added. It must depend on nothing else: that is what makes a
            resumed training give the same numbers.
        settings: see `Settings`.
        folder: gets log.jsonl, and state-STEP/ to resume from.
        resume: go on from the last state if there is one.
        evaluate: figures to put into the log at each save.
        watch: is called with each line of the log; it shows the progress then, and nothing is printed.

    Returns:
        Where the training ended. Progress is shown; with Ctrl-C or the stop button it ends early.
    """
    accelerator = Accelerator(
        mixed_precision="bf16" if bfloat16_is_faster(processes().device.type) else "no",
        # Heads that a batch does not use get no gradient; DDP has to be told.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    main = accelerator.is_main_process
    prepared, optimizer = accelerator.prepare(learner, new_optimizer(learner, settings))
    progress = Progress()
    if resume and (state := last_state(folder)):
        accelerator.load_state(str(state))
        progress = Progress(**json.loads((state / "progress.json").read_text()))
    log = folder / "log.jsonl"
    if main:
        folder.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(json.dumps(line) + "\n" for line in progress.log))

    def note(figures: Figures) -> None:
        progress.log.append({"step": progress.step} | figures)
        if main:
            with log.open("a") as file:
                file.write(json.dumps(progress.log[-1]) + "\n")
            if watch is not None:
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
            accelerator.clip_grad_norm_(prepared.parameters(), settings.clip)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            learner.eval()
        return sums

    def save() -> None:
        if evaluate is not None and main:
            learner.eval()
            note(evaluate())
        accelerator.wait_for_everyone()
        save_state(accelerator, progress, folder)

    sums, since = 0, time.monotonic()  # of the losses, since the last line of the log
    started = since - progress.seconds
    bar = tqdm(
        total=settings.steps, initial=progress.step, unit="step", disable=watch is not None or not main
    )
    try:
        while settings.left(progress.step, progress.seconds) > 0:
            rate = settings.rate(progress.step, progress.seconds)
            sums = sums + step(rate)
            progress.step += 1
            progress.seconds = time.monotonic() - started
            if settings.hours:  # all processes go by one clock
                progress.seconds = broadcast_object_list([progress.seconds])[0]
            left = settings.left(progress.step, progress.seconds)
            bar.update()
            if progress.step % settings.log_every == 0:
                figures = mean_figures(learner, sums, time.monotonic() - since)
                note(figures | {"learning_rate": rate, "seconds": progress.seconds})
                # With `steps` the bar itself knows the time left.
                to_go = "" if settings.steps else f", {60 * settings.hours * left:.0f} minutes left"
                speed = f"{figures[f'{learner.unit}_per_second']:,.0f} {learner.unit}/s"
                bar.set_postfix_str(f"loss {figures['loss']:.3f}, {speed}{to_go}")
                sums, since = 0, time.monotonic()
            if progress.step % settings.save_every == 0 and left:
                save()
                since = time.monotonic()
    except KeyboardInterrupt:
        if accelerator.num_processes > 1:  # the others may be anywhere: the last save has to do
            raise
        if watch is None:
            print(f"Stopped after {progress.step} steps; what was learned is kept.")
    save()
    bar.close()
    learner.eval()
    return progress
