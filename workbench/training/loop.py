"""One training loop for every recipe: on a CPU, on a GPU, or on many through `accelerate launch`."""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from workbench.encoder import MODEL_LOCK

Batch = dict[str, Tensor]
ATTENTION = {
    "cpu": [SDPBackend.MATH],  # the fused one is slow in the backward pass
    "cuda": [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],  # cuDNN's plans anew for each shape
}

# At each save it warns that tied weights are stored once, which is what is wanted.
logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long and how fast to train. Give `steps`, or `hours`, or both (what comes first ends it).

    With several `cycles` the learning rate falls to zero at the end of each, and what comes out is the mean
    of the weights there (stochastic weight averaging, arXiv:1803.05407).
    """

    learning_rate: float = 5e-4
    steps: int | None = None
    hours: float | None = None
    cycles: int = 1
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
        if self.cycles < 1:
            raise ValueError("A training has one cycle or more.")

    def left(self, step: int, seconds: float) -> float:
        """Share of the training that is still to come, 1 to 0."""
        used = [step / self.steps] if self.steps else []
        used += [seconds / (self.hours * 3600)] if self.hours else []
        return max(0.0, 1 - max(used))

    def to_come(self, step: int, seconds: float) -> int:
        """How many cycles are still to come, the one that runs not counted."""
        return max(0, math.ceil(self.left(step, seconds) * self.cycles) - 1)

    def rate(self, step: int, seconds: float) -> float:
        """The learning rate: it rises over `warmup` steps, stays, and falls to zero over the last fifth of
        each cycle (warm-up, stable, decay; arXiv:2404.06395)."""
        left = self.left(step, seconds) * self.cycles - self.to_come(step, seconds)
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup), left * 5)


@dataclass
class Progress:
    """Where a training stands; kept as progress.json beside its weights."""

    step: int = 0
    seconds: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)


def halves_pay(device: str) -> bool:
    """Whether bfloat16 is the faster way there: on a GPU, and on a CPU with instructions for it."""
    able = getattr(torch.cpu, "get_capabilities", dict)() if device == "cpu" else {}
    return device == "cuda" or bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def processes() -> PartialState:
    """The processes that train together: one, or as many as `accelerate launch` or `torchrun` started."""
    return PartialState(cpu=not torch.accelerator.is_available())


def train(
    objective: nn.Module,
    batch_at: Callable[[int, int, int], Batch | list[Batch]],
    settings: Settings,
    folder: Path,
    *,
    resume: bool = False,
    evaluate: Callable[[], dict[str, float]] | None = None,
    watch: Callable[[dict[str, float]], None] | None = None,
) -> Progress:
    """Trains until the end, or until interrupted; what was learned stays in the model either way.

    Args:
        objective: wraps the model; called as `objective(**batch)` it returns for each of its `names` the
            sum of the losses and the number of things summed over, both (names,), so that processes can
            be averaged exactly. What is minimised is the sum of the means times its `weights`. Its `unit`
            says what speed is counted in, and `objective.size(batch)` how many of them are in a batch.
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
    device = processes().device.type
    # Heads that a batch does not use get no gradient; DDP has to be told.
    accelerator = Accelerator(
        mixed_precision="bf16" if halves_pay(device) else "no",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    decayed = [p for p in objective.parameters() if p.ndim > 1]
    others = [p for p in objective.parameters() if p.ndim <= 1]  # biases and layer norms
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)
    prepared, optimizer = accelerator.prepare(objective, optimizer)
    mean = AveragedModel(objective) if settings.cycles > 1 else None  # of the ends of the cycles
    progress = Progress()
    states = sorted(folder.glob("state-*/progress.json"), key=lambda file: file.stat().st_mtime)
    if resume and states:
        accelerator.load_state(str(states[-1].parent))
        if mean is not None and (states[-1].parent / "mean.safetensors").exists():
            load_model(mean, states[-1].parent / "mean.safetensors")
        progress = Progress(**json.loads(states[-1].read_text()))
    log = folder / "log.jsonl"
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(json.dumps(line) + "\n" for line in progress.log))

    def note(figures: dict[str, float]) -> None:
        progress.log.append({"step": progress.step} | figures)
        if accelerator.is_main_process:
            with log.open("a") as file:
                file.write(json.dumps(progress.log[-1]) + "\n")
            if watch is not None:
                watch(progress.log[-1])

    def save() -> None:
        if evaluate is not None and accelerator.is_main_process:
            objective.eval()
            note(evaluate())
        accelerator.wait_for_everyone()
        state = folder / f"state-{progress.step}"
        (state / "progress.json").unlink(missing_ok=True)  # of an earlier training
        accelerator.save_state(str(state))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            if mean is not None:
                save_model(mean, str(state / "mean.safetensors"))
            # progress.json comes last: a state that has it is complete
            (state / "progress.json").write_text(json.dumps(asdict(progress)))
            for old in set(folder.glob("state-*")) - {state}:
                shutil.rmtree(old)

    # Since the last line of the log: losses and counts by name, and the sizes of the batches.
    sums = torch.zeros(2 * len(objective.names) + 1, device=accelerator.device)
    weights = torch.tensor(objective.weights, device=accelerator.device)
    started, since = time.monotonic() - progress.seconds, time.monotonic()
    quiet = watch is not None or not accelerator.is_main_process
    bar = tqdm(total=settings.steps, initial=progress.step, unit="step", disable=quiet)
    try:
        while settings.left(progress.step, progress.seconds) > 0:
            with MODEL_LOCK:  # a widget may ask the model between two steps, and then without dropout
                # Dropout of a step is the same in a resumed training, and another on each process.
                torch.manual_seed(settings.seed + 1_000_003 * (progress.step + 1) + accelerator.process_index)
                objective.train()
                optimizer.zero_grad()
                batches = batch_at(progress.step, accelerator.process_index, accelerator.num_processes)
                batches = batches if isinstance(batches, list) else [batches]
                for number, batch in enumerate(batches, 1):
                    batch = {
                        name: part.to(accelerator.device, non_blocking=True) for name, part in batch.items()
                    }
                    # Processes share their gradients once a step.
                    with (
                        accelerator.no_sync(prepared) if number < len(batches) else nullcontext(),
                        sdpa_kernel(ATTENTION[device]) if device in ATTENTION else nullcontext(),
                    ):
                        losses, counts = prepared(**batch)
                        size = torch.full_like(counts[:1], objective.size(batch))
                        batch_sums = accelerator.reduce(torch.cat([losses.detach(), counts, size]), "sum")
                        everywhere = batch_sums[len(losses) : 2 * len(losses)].clamp(min=1)
                        # Gradients are averaged over processes: each takes its share of the global means.
                        means = losses / everywhere * accelerator.num_processes
                        accelerator.backward((means * weights).sum())
                    sums += batch_sums
                accelerator.clip_grad_norm_(prepared.parameters(), settings.clip)
                rate = settings.rate(progress.step, progress.seconds)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                objective.eval()
            to_come = settings.to_come(progress.step, progress.seconds)
            progress.step += 1
            progress.seconds = time.monotonic() - started
            if settings.hours:  # all processes go by one clock
                progress.seconds = broadcast_object_list([progress.seconds])[0]
            left = settings.left(progress.step, progress.seconds)
            if mean is not None and (settings.to_come(progress.step, progress.seconds) < to_come or not left):
                mean.update_parameters(objective)
                if not left:
                    objective.load_state_dict(mean.module.state_dict())
            bar.update()
            if progress.step % settings.log_every == 0:
                *both, size = sums.tolist()
                number = len(objective.names)
                by_name = {
                    f"{name}_loss": loss / count
                    for name, loss, count in zip(objective.names, both[:number], both[number:], strict=True)
                    if count
                }
                speed = size / (time.monotonic() - since)
                note(
                    {"loss": sum(by_name.values()) / max(1, len(by_name))}
                    | by_name
                    | {"learning_rate": rate, f"{objective.unit}_per_second": speed}
                    | {"seconds": progress.seconds}
                )
                # With `steps` the bar itself knows the time left.
                to_go = "" if settings.steps else f", {60 * settings.hours * left:.0f} minutes left"
                loss = f"loss {progress.log[-1]['loss']:.3f}"
                bar.set_postfix_str(f"{loss}, {speed:,.0f} {objective.unit}/s{to_go}")
                sums.zero_()
                since = time.monotonic()
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
    objective.eval()
    return progress
