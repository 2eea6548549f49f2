"""Receives a language model and the start of a text; hands on characters that go on from it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from charembed.errors import CharEmbedError
from charembed.lm.model import CharLM
from charembed.text.vocab import UNKNOWN_ID, CharVocab
from charembed.util.checks import check_seed


def generate(
    lm: CharLM, vocab: CharVocab, prompt: str = "", *, temperature: float = 1.0, seed: int | None = None
) -> Iterator[str]:
    """Draw characters one by one from the model's distribution, without end.

    Args:
        lm: a forward model.
        vocab: its vocabulary.
        prompt: text that the model reads first, after a newline.
        temperature: what logits are divided by; towards 0 the likeliest character is always taken.
        seed: of the draw; a different text each time by default.

    Yields:
        The next character, never an unknown one.

    Raises:
        CharEmbedError: the temperature is not positive, or the seed out of range.
    """
    if not temperature > 0.0:
        raise CharEmbedError(f"temperature must be positive, got {temperature}")
    return _generate(lm, vocab, prompt, temperature, None if seed is None else check_seed(seed))


def _generate(lm: CharLM, vocab: CharVocab, prompt: str, temperature: float, seed: int | None) -> Iterator[str]:
    device = lm.decoder.weight.device
    generator = torch.Generator(device)
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    ids = torch.from_numpy(vocab.encode("\n" + prompt)).to(device).long().unsqueeze(1)
    state = None
    lm.eval()
    while True:
        with torch.inference_mode():
            logits, state = lm(ids, state)
            scores = logits[-1, 0].double()
            scores[UNKNOWN_ID] = -torch.inf
            scores = (scores - scores.max()) / temperature
            ids = torch.multinomial(scores.softmax(dim=0), 1, generator=generator).unsqueeze(1)
        yield vocab.decode([int(ids)])
