"""Recording, switching off, and the numbers about attention, beside formulas written out by hand."""

import threading

import pytest
import torch
from test_bert import batch
from tiny import close, our_bert, our_vit

import workbench as wb
from workbench.attention import (
    attention_between,
    attention_difference,
    attention_patterns,
    clearest_head,
    fetched_vectors,
    habits,
    record_attention,
    sum_over_words,
    weight_steps,
)
from workbench.encoder import MODEL_LOCK
from workbench.text import place_cls


@pytest.fixture(scope="module")
def bert() -> wb.Bert:
    return our_bert("mlm", "sentiment")


@pytest.fixture(scope="module")
def vit() -> wb.ViT:
    return our_vit()


def random_maps(layers: int = 3, rows: int = 2, heads: int = 4, tokens: int = 7) -> list[torch.Tensor]:
    return [torch.randn(rows, heads, tokens, tokens).mul(2).softmax(-1) for _ in range(layers)]


def watchers(model: wb.Bert | wb.ViT) -> int:
    return sum(len(layer.attention.watchers) for layer in model.encoder.layers)


# --- record ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [None, [2], [0, 4], (), range(1, 3)], ids=str)
def test_recording_changes_nothing(bert: wb.Bert, layers: object) -> None:
    inputs = batch()
    real = inputs["attention_mask"].bool()
    plain = bert(**inputs)
    with wb.record_attention(bert, layers=layers) as attention:
        recorded = bert(**inputs)
    assert sorted(attention) == list(range(5) if layers is None else layers)
    for one, two in zip(plain, recorded, strict=True):
        close(one[real], two[real])
    for maps in attention.values():
        assert not maps.requires_grad
        close(maps.sum(-1), torch.ones(3, 4, 7))
        hidden_keys = ~real[:, None, None, :].expand_as(maps)
        assert (maps[hidden_keys] == 0).all()
    assert watchers(bert) == 0


def test_a_row_in_which_nothing_is_seen_is_recorded_as_it_is_read(bert: wb.Bert) -> None:
    ids, mask = torch.randint(5, 90, (2, 9)), torch.ones(2, 9).long()
    mask[0] = 0
    with torch.no_grad():
        expected = bert(ids, None, mask)[-1]
        with wb.record_attention(bert) as attention:
            close(bert(ids, None, mask)[-1], expected)
    assert attention[0][0].eq(0).all() and expected.isfinite().all()


def test_recording_a_picture(vit: wb.ViT) -> None:
    pixels = torch.randn(2, 3, 16, 40)
    with wb.record_attention(vit) as attention:
        recorded = vit(pixels)
    close(recorded[-1], vit(pixels)[-1])
    assert attention[2].shape == (2, 4, 11, 11)


def test_recording_in_a_half_precision_model() -> None:
    bert = our_bert("mlm").bfloat16()
    ids = torch.randint(5, 99, (1, 7))
    with wb.record_attention(bert) as attention:
        recorded = bert(ids)[-1]
    assert attention[0].dtype == torch.float32
    close(attention[0].sum(-1), torch.ones(1, 4, 7), 1e-6)
    close(recorded, bert(ids)[-1], 0.1)


def test_hooks_are_let_go_on_an_error(bert: wb.Bert) -> None:
    with pytest.raises(RuntimeError, match="mine"), wb.record_attention(bert), wb.ablate(bert, {(0, 0)}):
        assert watchers(bert) == 6
        raise RuntimeError("mine")
    assert watchers(bert) == 0
    with pytest.raises(ValueError), wb.record_attention(bert), wb.ablate(bert, edges={(0, 0, 99, 0)}):
        bert(torch.zeros(1, 3, dtype=torch.long))
    assert watchers(bert) == 0
    for odd in ([5], [-1], [0, 99]):
        with pytest.raises(ValueError, match="has layers 0 to 4"), wb.record_attention(bert, layers=odd):
            pass
    assert watchers(bert) == 0


def test_each_pass_fills_the_same_dict(bert: wb.Bert) -> None:
    with wb.record_attention(bert, layers=[1]) as attention:
        assert attention == {}
        bert(torch.zeros(1, 3, dtype=torch.long))
        first = attention[1]
        bert(torch.zeros(1, 4, dtype=torch.long))
    assert (first.shape[-1], attention[1].shape[-1]) == (3, 4)


def test_nested_recordings_both_see(bert: wb.Bert) -> None:
    ids = torch.randint(5, 99, (1, 7))
    with wb.record_attention(bert, layers=[1, 2]) as outer:
        with wb.record_attention(bert, layers=[2]) as inner:
            bert(ids)
        close(inner[2], outer[2])
        bert(ids[:, :3])
    assert outer[1].shape[-1] == 3
    assert inner[2].shape[-1] == 7


def test_threads_do_not_see_each_other(bert: wb.Bert) -> None:
    """Recording holds the lock, so another thread's recording waits until this one is over."""
    seen: list[dict] = []
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait(10)
        with wb.record_attention(bert) as attention:
            assert done.is_set()
            bert(torch.zeros(1, 4, dtype=torch.long))
        seen.append(attention)

    thread = threading.Thread(target=other)
    thread.start()
    with wb.record_attention(bert) as attention:
        inside.set()
        thread.join(0.2)
        bert(torch.zeros(1, 3, dtype=torch.long))
        done.set()
    thread.join(10)
    assert attention[0].shape[-1] == 3
    assert seen[0][0].shape[-1] == 4


def test_the_lock_is_free_again(bert: wb.Bert) -> None:
    with wb.record_attention(bert):
        pass
    free = []

    def other() -> None:
        free.append(MODEL_LOCK.acquire(timeout=1))
        MODEL_LOCK.release()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert free == [True]


# --- switch off --------------------------------------------------------------------------------


def test_heads_off_is_their_part_of_the_output_map_zeroed(bert: wb.Bert) -> None:
    inputs = batch()
    off = {(0, 1), (0, 3), (3, 2)}
    with wb.ablate(bert, heads=off):
        ablated = bert(**inputs)[-1]
    zeroed = our_bert("mlm", "sentiment")
    zeroed.load_state_dict(bert.state_dict())
    with torch.no_grad():
        for layer, head in off:
            zeroed.encoder.layers[layer].attention.output.weight[:, head * 9 : (head + 1) * 9] = 0
    real = inputs["attention_mask"].bool()
    close(ablated[real], zeroed(**inputs)[-1][real])
    assert not torch.allclose(ablated[real], bert(**inputs)[-1][real], atol=1e-3)


def test_an_edge_off_is_that_key_hidden_from_that_query(bert: wb.Bert) -> None:
    inputs = batch()
    with wb.record_attention(bert, layers=[0]) as before:
        bert(**inputs)
    with wb.record_attention(bert, layers=[0]) as after, wb.ablate(bert, edges=[(0, 2, 1, 0), (0, 2, 1, 2)]):
        bert(**inputs)
    wanted = before[0].clone()
    row = wanted[:, 2, 1]
    row[:, [0, 2]] = 0
    wanted[:, 2, 1] = row / row.sum(-1, keepdim=True)
    close(after[0], wanted)
    close(after[0].sum(-1), torch.ones(3, 4, 7))
    # The same by a mask on the scores.
    layer = bert.encoder.layers[0].attention
    states = bert.embeddings(inputs["input_ids"], inputs["token_type_ids"])
    query, key, _ = layer.query_key_value(states).chunk(3, -1)
    scores = (query[:, 1, 18:27, None] * key[:, :, 18:27].mT).sum(1) / 3
    hidden = ~inputs["attention_mask"].bool()
    hidden[:, [0, 2]] = True
    alone = scores[0].masked_fill(hidden[0], -torch.inf).softmax(-1)
    close(after[0][0, 2, 1], alone)


@pytest.mark.parametrize("outer_first", [True, False])
def test_recorded_is_what_was_used(vit: wb.ViT, outer_first: bool) -> None:
    pixels = torch.randn(1, 3, 32, 48)
    contexts = [wb.record_attention(vit), wb.ablate(vit, heads={(1, 0)}, edges={(2, 3, 0, 5)})]
    first, second = contexts if outer_first else contexts[::-1]
    with first as one, second as two:
        ablated = vit(pixels)[-1]
    attention = one if outer_first else two
    assert (attention[1][:, 0] == 0).all()
    assert attention[2][0, 3, 0, 5] == 0
    assert (attention[1][:, 1] > 0).all()
    assert not torch.allclose(ablated, vit(pixels)[-1])


def test_all_edges_of_a_row_off_leaves_nothing(bert: wb.Bert) -> None:
    edges = {(1, 0, 0, key) for key in range(7)}
    with wb.record_attention(bert) as attention, wb.ablate(bert, edges=edges):
        assert bert(**batch())[-1].isfinite().all()
    assert (attention[1][:, 0, 0] == 0).all()


def test_nothing_to_switch_off_changes_nothing(bert: wb.Bert) -> None:
    inputs = batch()
    with wb.ablate(bert):
        assert watchers(bert) == 0
        close(bert(**inputs)[-1], bert(**inputs)[-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": {(0, 4)}}, "no head 4: .* heads 0 to 3"),
        ({"heads": {(0, -1)}}, "no head -1"),
        ({"heads": {(5, 0)}}, "no layer 5: .* layers 0 to 4"),
        ({"edges": {(0, 9, 0, 0)}}, "no head 9"),
        ({"edges": {(0, 0, 7, 0)}}, "no connection 7 -> 0: the input has 7 tokens"),
        ({"edges": {(0, 0, 0, -1)}}, "no connection 0 -> -1"),
    ],
    ids=str,
)
def test_what_is_not_there_is_one_sentence(bert: wb.Bert, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message), wb.ablate(bert, **options):
        bert(**batch())
    assert watchers(bert) == 0


# --- rollout -----------------------------------------------------------------------------------


def rollout_by_hand(maps: list[torch.Tensor], fusion: str) -> torch.Tensor:
    """Abnar & Zuidema, equation 1, one number at a time, from the last layer down to the first."""
    rows, _, tokens, _ = maps[0].shape
    result = torch.zeros(rows, tokens, tokens, dtype=torch.double)
    for row in range(rows):
        product = torch.eye(tokens, dtype=torch.double)
        for layer in reversed(maps):
            step = torch.zeros(tokens, tokens, dtype=torch.double)
            for query in range(tokens):
                for key in range(tokens):
                    heads = layer[row, :, query, key].double()
                    one = {"mean": heads.mean(), "max": heads.max(), "min": heads.min()}[fusion]
                    step[query, key] = one + (query == key)
                step[query] /= step[query].sum()
            product = product @ step
        result[row] = product
    return result


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
def test_rollout_is_the_papers_formula(fusion: str) -> None:
    maps = random_maps()
    rollout = wb.attention_rollout(maps, head_fusion=fusion)
    close(rollout, rollout_by_hand(maps, fusion))
    close(rollout.sum(-1), torch.ones(2, 7))


def test_rollout_of_known_attention() -> None:
    eye = torch.eye(5).expand(2, 3, 5, 5)
    uniform = torch.full((2, 3, 5, 5), 0.2)
    close(wb.attention_rollout([eye] * 4), eye[:, 0])  # everybody looks at himself: nothing moves
    one = torch.eye(5) * 0.5 + 0.1
    close(wb.attention_rollout([uniform]), one.expand(2, 5, 5))
    close(wb.attention_rollout([uniform] * 3), torch.linalg.matrix_power(one, 3).expand(2, 5, 5))
    pointing = torch.zeros(1, 1, 5, 5)
    pointing[..., 3] = 1  # everybody looks at token 3: half of everything comes from there, then 3/4
    wanted = torch.eye(5) / 4
    wanted[:, 3] += 0.75
    close(wb.attention_rollout([pointing] * 2)[0], wanted)


def test_rollout_knows_first_from_last() -> None:
    """Layer 1 moves token 2 to 1, layer 2 moves 1 to 0: so 2 reaches 0. The other way round it does not."""
    first, last = torch.eye(3)[None, None].clone(), torch.eye(3)[None, None].clone()
    first[0, 0, 1] = torch.tensor([0.0, 0.0, 1.0])
    last[0, 0, 0] = torch.tensor([0.0, 1.0, 0.0])
    assert wb.attention_rollout([first, last])[0, 0, 2] == 0.25
    assert wb.attention_rollout([last, first])[0, 0, 2] == 0
    # A dict knows its layers, whatever the order that it was filled in.
    assert wb.attention_rollout({7: last, 2: first})[0, 0, 2] == 0.25


def test_discarding_drops_the_smallest_of_each_row() -> None:
    row = torch.tensor([0.05, 0.3, 0.1, 0.2, 0.35])
    maps = torch.stack([row.roll(shift) for shift in range(5)])[None, None]
    rollout = wb.attention_rollout([maps], discard_ratio=0.5, prefix_tokens=0)
    kept = maps[0, 0].clone()
    kept[kept < 0.2] = 0  # 5 * 0.5 = 2.5: two of them
    wanted = kept + torch.eye(5)
    close(rollout[0], wanted / wanted.sum(-1, keepdim=True))


def test_discarding_keeps_the_prefix_in_every_row() -> None:
    maps = random_maps(layers=1)[0]
    rollout = wb.attention_rollout([maps], discard_ratio=1.0, prefix_tokens=2)[0]
    off_diagonal = rollout - rollout.diag().diag()
    assert (rollout[1:, 0] > 0).all() and (rollout[2:, 1] > 0).all()
    assert (off_diagonal[:, 2:] == 0).all()


def test_discarding_does_not_count_padding() -> None:
    maps = torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0, 0.0]).expand(1, 1, 8, 8)
    rollout = wb.attention_rollout([maps], discard_ratio=0.5, prefix_tokens=0)[0]
    assert (rollout[7, :7] > 0).tolist() == [True, True, False, False, False, False, False]


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.9, 1.0])
def test_rows_sum_to_one_and_batches_do_not_mix(bert: wb.Bert, ratio: float) -> None:
    inputs = batch()
    with wb.record_attention(bert) as attention:
        bert(**inputs)
    rollout = wb.attention_rollout(attention, discard_ratio=ratio)
    close(rollout.sum(-1), torch.ones(3, 7))
    alone = wb.attention_rollout({layer: maps[2:] for layer, maps in attention.items()}, discard_ratio=ratio)
    close(rollout[2:], alone)
    assert (rollout[2, :3, 3:] == 0).all()  # nothing comes from padding
    short = wb.attention_rollout(
        {layer: maps[2:, :, :3, :3] for layer, maps in attention.items()}, discard_ratio=ratio
    )
    close(rollout[2, :3, :3], short[0])


@pytest.mark.parametrize(
    ("maps", "options", "message"),
    [
        ({}, {}, "No attention was recorded"),
        ([], {}, "No attention was recorded"),
        (random_maps(), {"head_fusion": "median"}, "mean, max or min"),
        (random_maps(), {"discard_ratio": 1.5}, "between 0 and 1"),
        (random_maps(), {"discard_ratio": -0.1}, "between 0 and 1"),
    ],
    ids=["dict", "list", "fusion", "more", "less"],
)
def test_odd_rollouts_are_one_sentence(maps: list, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wb.attention_rollout(maps, **options)


# --- relevance ---------------------------------------------------------------------------------


def relevance_by_hand(vit: wb.ViT, pixels: torch.Tensor, label: int) -> torch.Tensor:
    """Chefer et al., equations 5 and 6, over a forward pass that is written out here."""
    x, kept = vit.embeddings(pixels), []
    for layer in vit.encoder.layers:
        attention = layer.attention
        q, k, v = attention.query_key_value(layer.attention_norm(x)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (4, 9)).transpose(1, 2) for part in (q, k, v))
        maps = (q @ k.transpose(-1, -2) / 3).softmax(-1)
        kept.append(maps)
        x = x + attention.output((maps @ v).transpose(1, 2).flatten(2))
        x = x + layer.feed_forward(layer.feed_forward_norm(x))
    gradients = torch.autograd.grad(vit.heads[0](vit.norm(x[:, 0]))[:, label].sum(), kept)
    tokens = kept[0].shape[-1]
    relevance = torch.eye(tokens).repeat(len(pixels), 1, 1)
    for maps, gradient in zip(kept, gradients, strict=True):
        for row in range(len(pixels)):
            change = (gradient[row] * maps[row]).clamp(min=0).mean(0)
            relevance[row] = relevance[row] + change.detach() @ relevance[row]
    return relevance


def test_relevance_is_the_papers_formula(vit: wb.ViT) -> None:
    pixels = torch.randn(2, 3, 16, 24)
    relevance = wb.attention_relevance(vit, lambda: vit.logits(vit(pixels)[-1])[:, 3])
    wanted = relevance_by_hand(vit, pixels, 3)
    assert (wanted - torch.eye(7)).abs().max() > 1e-3
    close(relevance, wanted)
    other = wb.attention_relevance(vit, lambda: vit.logits(vit(pixels)[-1])[:, 1])
    assert not torch.allclose(relevance, other, atol=1e-4)


def test_relevance_wherever_it_is_called_from(vit: wb.ViT) -> None:
    pixels = torch.randn(2, 3, 16, 24)
    wanted = relevance_by_hand(vit, pixels, 3)

    def relevance(pixels: torch.Tensor = pixels) -> torch.Tensor:
        return wb.attention_relevance(vit, lambda: vit.logits(vit(pixels)[-1])[:, 3])

    with torch.no_grad():
        close(relevance(), wanted)
    with torch.inference_mode():
        close(relevance(), wanted)
        close(relevance(pixels.clone()), wanted)  # a picture made in inference mode
    frozen = our_vit().requires_grad_(False)
    frozen.load_state_dict(vit.state_dict())
    close(wb.attention_relevance(frozen, lambda: frozen.logits(frozen(pixels)[-1])[:, 3]), wanted)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in vit.parameters())
    assert watchers(vit) == 0


def test_relevance_of_words(bert: wb.Bert) -> None:
    """Each row is as if it were alone, and padding is worth nothing."""
    inputs = batch()

    def score(rows: slice, tokens: int) -> torch.Tensor:
        part = {name: values[rows, :tokens] for name, values in inputs.items()}
        return bert.logits("sentiment", bert(**part)[-1])[:, 1]

    relevance = wb.attention_relevance(bert, lambda: score(slice(None), 7))
    alone = wb.attention_relevance(bert, lambda: score(slice(2, 3), 3))
    close(relevance[2, :3, :3], alone[0])
    assert (relevance[2, :3, 3:] == 0).all()


def test_relevance_of_an_early_layer(vit: wb.ViT) -> None:
    """A score that later layers have no part in."""
    pixels = torch.randn(1, 3, 16, 24)
    relevance = wb.attention_relevance(vit, lambda: vit(pixels)[1][:, 0].pow(2).sum(-1))
    assert (relevance[0, 0] > 0).any()
    assert torch.equal(relevance[0, 1:], torch.eye(7)[1:])


def test_relevance_leaves_no_trace_on_an_error(vit: wb.ViT) -> None:
    def score() -> torch.Tensor:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        wb.attention_relevance(vit, score)
    assert all(parameter.requires_grad for parameter in vit.parameters())
    assert watchers(vit) == 0
    with pytest.raises(ValueError, match="No attention was recorded"):
        wb.attention_relevance(vit, lambda: torch.ones(1))


# --- distance, entropy, top, mass --------------------------------------------------------------


def test_distance_of_words_by_hand() -> None:
    maps = random_maps(layers=1)[0]
    wanted = torch.zeros(2, 4)
    for query in range(7):
        for key in range(7):
            wanted += maps[:, :, query, key] * abs(query - key) / 7
    close(wb.attention_distance(maps), wanted)
    eye = torch.eye(7).expand(1, 2, 7, 7)
    close(wb.attention_distance(eye), torch.zeros(1, 2))
    next_one = eye.roll(1, -1)  # each looks at the next, the last at the first: (6 * 1 + 6) / 7
    close(wb.attention_distance(next_one), torch.full((1, 2), 12 / 7))


@pytest.mark.parametrize("prefix", [None, 1, 5])
def test_distance_of_patches_by_hand(prefix: int | None) -> None:
    rows, columns, side = 2, 3, 16
    count = prefix or 1
    maps = random_maps(layers=1, tokens=count + 6)[0]
    patches = maps[:, :, count:, count:]
    patches = patches / patches.sum(-1, keepdim=True)
    wanted = torch.zeros(2, 4)
    for query in range(6):
        for key in range(6):
            down, across = query // columns - key // columns, query % columns - key % columns
            wanted += patches[:, :, query, key] * side * (down**2 + across**2) ** 0.5 / 6
    distance = wb.attention_distance(maps, grid=(rows, columns), patch_size=side, prefix_tokens=prefix)
    close(distance, wanted)


def test_padding_is_left_out(bert: wb.Bert) -> None:
    inputs = batch()
    with wb.record_attention(bert) as attention:
        bert(**inputs)
    maps, mask = attention[2], inputs["attention_mask"]
    short = maps[2:, :, :3, :3]
    close(wb.attention_distance(maps, attention_mask=mask)[2:], wb.attention_distance(short))
    close(wb.attention_entropy(maps, mask)[2:], wb.attention_entropy(short))
    close(
        wb.attention_distance(maps, attention_mask=mask, prefix_tokens=1)[2:],
        wb.attention_distance(short, prefix_tokens=1),
    )


def test_a_grid_that_does_not_fit_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"A grid of \(2, 2\) has 4 patches, but the maps have 6"):
        wb.attention_distance(random_maps()[0], grid=(2, 2))


def test_how_differently_heads_look() -> None:
    one, other = torch.tensor([[1.0, 0], [0.5, 0.5]]), torch.tensor([[0.0, 1], [0.75, 0.25]])
    close(attention_difference(torch.stack([one, one]), torch.stack([one, other])), torch.tensor([0, 0.625]))


def test_the_clearest_head() -> None:
    """Far from even, and on what is asked about: an even head, one on the class token, one on one patch."""
    maps = torch.full((1, 3, 5, 5), 0.2)
    maps[0, 1] = torch.tensor([0.99, 0.01, 0, 0, 0])
    maps[0, 2] = torch.tensor([0.2, 0, 0.8, 0, 0])
    patches = torch.arange(5) > 0
    assert clearest_head(maps, ~patches, patches) == (0, 2)
    assert clearest_head(maps.flip(1), patches, patches) == (0, 0)
    assert clearest_head(torch.cat([maps[:, :2], maps[:, 1:]]), ~patches, patches) == (1, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_entropy(dtype: torch.dtype) -> None:
    uniform = torch.full((2, 3, 8, 8), 1 / 8, dtype=dtype)
    close(wb.attention_entropy(uniform), torch.full((2, 3), 3.0))
    one = torch.eye(8, dtype=dtype).expand(2, 3, 8, 8)
    close(wb.attention_entropy(one), torch.zeros(2, 3))
    halves = torch.zeros(1, 1, 8, 8, dtype=dtype)
    halves[..., 2:4] = 0.5
    close(wb.attention_entropy(halves), torch.ones(1, 1))


@pytest.mark.parametrize("mass", [0.0, 0.3, 0.6, 0.99, 1.0])
def test_mass_mask_is_the_smallest_set(mass: float) -> None:
    weights = random_maps(layers=1)[0][:, :, 0] * 3  # need not sum to one
    mask = wb.mass_mask(weights, mass)
    share = weights / weights.sum(-1, keepdim=True)
    kept = (share * mask).sum(-1)
    assert (kept >= mass - 1e-5).all()
    without_least = kept - share.masked_fill(~mask, 9).amin(-1)
    if mass:
        assert (without_least < mass).all()
    else:
        assert not mask.any()
    least_kept = share.masked_fill(~mask, 9).amin(-1)
    assert (least_kept >= share.masked_fill(mask, 0).amax(-1)).all()


def test_pieces_are_summed_into_words() -> None:
    weights = torch.tensor([[0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0]])
    close(sum_over_words(weights, [0, 1, 1, 2]), torch.tensor([[0.1, 0.5, 0.4], [1.0, 0.0, 0.0]]))
    maps = random_maps(layers=1)[0]
    words = sum_over_words(maps, [0, 1, 1, 1, 2, 3, 3])
    assert words.shape == (2, 4, 7, 4)
    close(words[..., 1], maps[..., 1:4].sum(-1))


def test_mass_mask_of_known_weights() -> None:
    weights = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.6, 0.2, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0]])
    wanted = [[False, True, False, True], [True, False, False, False]]
    assert wb.mass_mask(weights[:2], 0.6).tolist() == wanted
    assert wb.mass_mask(weights[2:], 0.6).shape == (1, 4)  # nothing to divide by, and no error
    for odd in (-0.1, 1.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            wb.mass_mask(weights, odd)


def test_habits_of_heads_are_measured() -> None:
    tokens = ["[CLS]", "the", "cat", "the", "[SEP]"]
    previous = torch.eye(5).roll(-1, 1)
    previous = torch.diag(torch.ones(4), -1)
    previous[0, 0] = 1
    found = attention_patterns(torch.stack([previous, torch.full((5, 5), 0.2)]), tokens)
    assert found["previous token"].tolist() == pytest.approx([1.0, 0.2])
    assert found["itself"].tolist() == pytest.approx([0.2, 0.2])
    assert found["next token"].tolist() == pytest.approx([0.0, 0.2])
    assert found["[CLS]"].tolist() == pytest.approx([0.4, 0.2])
    assert found["same word elsewhere"].tolist() == pytest.approx([0.0, 0.2])
    assert attention_patterns(previous, ["a", "b", "c", "d", "e"])["[SEP]"] == 0


def test_habits_of_as_long_a_text_as_the_model_reads() -> None:
    long = our_bert("mlm", max_position_embeddings=600)
    assert habits(long, "the cat " * 299)["itself"].shape == (5, 4)


@pytest.mark.parametrize("which", ["bert", "vit"])
def test_queries_and_keys_give_the_map(which: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which)
    inputs = torch.randn(1, 3, *model.config.image_size) if which == "vit" else torch.tensor([[2, 70, 80, 3]])
    with torch.inference_mode(), record_attention(model) as attention:
        states = model(inputs)
        for row, weights in enumerate(attention[2][0, 1]):
            for column, weight in enumerate(weights):
                steps = weight_steps(model, states[2], 2, 1, row, column)
                close(steps["query"] @ steps["key"] / len(steps["key"]) ** 0.5, steps["scaled"])
                close(steps["probability"], weight)
    with pytest.raises(ValueError, match="no layer 99"):
        weight_steps(model, states[2], 99, 1, 0, 0)


def test_attention_between_two_texts_by_hand() -> None:
    """[CLS] a [SEP] b b [SEP], and each token's row is told apart by its numbers."""
    bert = our_bert("nsp")
    encoding = bert.tokenizer.encode("the", "cat sat")
    maps = torch.rand(4, 6, 6).softmax(-1)
    found = attention_between(maps, encoding)
    assert found.shape == (4, 3, 3)
    close(found.sum(-1), torch.ones(4, 3))
    close(found[:, 0, 0], maps[:, 0, 1])  # [CLS] to the first text
    close(found[:, 1, 1], maps[:, 1, 3] + maps[:, 1, 4])  # first to second
    close(found[:, 2, 0], (maps[:, 3, 1] + maps[:, 4, 1]) / 2)  # second to first
    close(found[:, 2, 2], maps[:, 3:5][..., [0, 2, 5]].sum(-1).mean(-1))
    turned, _, _ = place_cls(encoding, "end")
    order = [1, 2, 3, 4, 5, 0]
    close(attention_between(maps[:, order][..., order], turned), found)


# --- what is fetched


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_what_is_fetched_sums_to_what_attention_gives(kind: str, bert: wb.Bert, vit: wb.ViT) -> None:
    """Beside the same written out by hand, head by head."""
    with torch.no_grad():
        states = bert(torch.arange(5, 13)[None]) if kind == "bert" else vit(torch.randn(1, 3, 16, 40))
        model = bert if kind == "bert" else vit
        mask = torch.ones(1, states[0].shape[1])
        mask[0, 3] = 0
        module = model.encoder.layers[1]
        inputs = module.attention_norm(states[1]) if module.norm_first else states[1]
        for visible in (None, mask):
            given = module.attention(inputs, None if visible is None else visible[:, None, None].bool())
            for token in (0, 5):
                found = fetched_vectors(model, states[1], 1, token, visible)
                close(found["added"].sum(0) + found["bias"], given[0, token])
                third = torch.chunk(module.attention.query_key_value(inputs)[0], 3, dim=-1)[2]
                for key in (2, 3):
                    own = torch.zeros(36)
                    for head in range(4):
                        part = slice(9 * head, 9 * head + 9)
                        weight = module.attention.output.weight[:, part]
                        own += found["weights"][head, key] * (weight @ third[key, part])
                    close(found["added"][key], own)
                close(found["weights"].sum(-1), torch.ones(4))
                assert visible is None or not found["added"][3].any()
    with pytest.raises(ValueError, match="There is no token 99"):
        fetched_vectors(model, states[1], 1, 99)
    assert not module.attention.query_key_value._forward_hooks and watchers(model) == 0
