"""Our forward pass beside transformers', on the same random weights: `python tests/benchmarks/forward.py`.

Ours with no, one and all layers recorded; theirs with sdpa, and eager with all attention maps (the only way
to get them there).
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from common import interleaved, machine, ratio, table

import workbench as wb
from workbench.checkpoint.tokenizer import save_tokenizer
from workbench.text import SPECIAL_TOKENS, Tokenizer

BERT_SHAPES = [(batch, tokens) for batch in (1, 8) for tokens in (16, 128, 512)]
HEAD = ["input", "batch", "sdpa ms", "eager + maps ms", "ours ms", "one layer ms", "all layers ms"]
HEAD += ["sdpa / ours", "eager / ours, all", "one / ours", "all / ours"]


def peers(kind: str, layers: int) -> tuple[torch.nn.Module, torch.nn.Module, torch.nn.Module]:
    """The same random weights three times: transformers with sdpa, with eager attention, and ours."""
    name = {"bert": "Bert", "vit": "ViT"}[kind]
    config = getattr(transformers, f"{name}Config")(num_hidden_layers=layers)
    with tempfile.TemporaryDirectory() as folder:
        model = getattr(transformers, f"{name}Model")
        model(config, add_pooling_layer=False).save_pretrained(folder)
        save_tokenizer(Tokenizer.from_words(list(SPECIAL_TOKENS.values())), Path(folder))
        theirs = [
            model.from_pretrained(folder, add_pooling_layer=False, attn_implementation=attention).eval()
            for attention in ("sdpa", "eager")
        ]
        return *theirs, (wb.load_bert if kind == "bert" else wb.load_vit)(folder, device="cpu")


def measure(kind: str, label: str, batch: torch.Tensor, models: tuple, seconds: float) -> list[object]:
    """A row of the table."""
    sdpa, eager, ours = models

    def plain() -> torch.Tensor:
        last = ours(batch)[-1]
        return ours.norm(last) if kind == "vit" else last  # transformers' ViT ends with it

    def recorded(layers: list[int] | None) -> Callable[[], torch.Tensor]:
        def run() -> torch.Tensor:
            with wb.record_attention(ours, layers):
                return plain()

        return run

    runs = {
        "sdpa": lambda: sdpa(batch).last_hidden_state,
        "eager": lambda: eager(batch, output_attentions=True).last_hidden_state,
        "ours": plain,
        "one": recorded([len(ours.encoder.layers) // 2]),
        "all": recorded(None),
    }
    expected = runs["sdpa"]()
    for name, run in runs.items():
        torch.testing.assert_close(run(), expected, atol=1e-4, rtol=1e-4, msg=f"{name} differs")
    times = interleaved(runs, seconds)
    medians = [f"{statistics.median(values) * 1000:.1f}" for values in times.values()]
    pairs = [("sdpa", "ours"), ("eager", "all"), ("one", "ours"), ("all", "ours")]
    return [label, len(batch), *medians, *(f"{ratio(times, *pair):.2f}" for pair in pairs)]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20, help="for each row (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=["bert", "vit"], help="one of the two models")
    parser.add_argument(
        "--layers", type=int, default=12, help="fewer for a quick look (default: %(default)s)"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    transformers.logging.disable_progress_bar()
    print(machine(), end="\n\n")
    rows = []
    if options.only != "vit":
        models = peers("bert", options.layers)
        for batch, tokens in BERT_SHAPES:
            ids = torch.randint(1000, 30000, (batch, tokens))
            rows.append(measure("bert", f"BERT-base, {tokens} tokens", ids, models, options.seconds))
    if options.only != "bert":
        models = peers("vit", options.layers)
        for batch in (1, 8):
            pixels = torch.randn(batch, 3, 224, 224)
            rows.append(measure("vit", "ViT-B/16, 224 pixels", pixels, models, options.seconds))
    print(table(HEAD, rows))


if __name__ == "__main__":
    main()
