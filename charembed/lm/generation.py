"""Generate text from a forward language model, character by character."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from charembed.errors import CharEmbedError
from charembed.lm.model import CharLM
from charembed.recurrent.float32_precision import float32_products
from charembed.text.vocab import UNKNOWN_ID, CharVocab
from charembed.util.checks import check_seed


def generate(
    lm: CharLM, vocab: CharVocab, prompt: str = "", *, temperature: float = 1.0, seed: int | None = None
) -> Iterator[str]:
    """Sample characters from the model one by one, without end.

    Args:
        lm: a forward model.
        vocab: the model's vocabulary.
        prompt: text that the model reads first, after a newline; the generated text continues it.
        temperature: divisor of the logits. Close to 0 the most probable character is always taken; above 1 improbable
            ones become more frequent.
        seed: seed of the sampling. By default each call generates another text.

    Yields:
        The next character, which is always one of the vocabulary.

    Raises:
        CharEmbedError: the temperature is not positive, the vocabulary has no characters, or the seed is out of range.
    """
    # Checked here, because a generator would raise its errors only when its first character is taken.
    if not temperature > 0.0:
        raise CharEmbedError(f"temperature must be positive, got {temperature}")
    if not vocab.characters:
        raise CharEmbedError("the vocabulary of this model has no characters, so it cannot generate text")
    return _sample(lm, vocab, prompt, temperature, None if seed is None else check_seed(seed))


def _sample(lm: CharLM, vocab: CharVocab, prompt: str, temperature: float, seed: int | None) -> Iterator[str]:
    device = lm.decoder.weight.device
    generator = torch.Generator(device)
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    # A newline first, like before each text in embedding: the model knows it as the end of a line.
    ids = torch.from_numpy(vocab.encode("\n" + prompt)).to(device).long().unsqueeze(1)
    state = None
    lm.eval()
    while True:
        with torch.inference_mode(), float32_products(device, "float32"):
            logits, state = lm(ids, state)
            scores = logits[-1, 0].double()
            # <unk> stands for many characters, none of which could be chosen.
            scores[UNKNOWN_ID] = -torch.inf
            # Subtract the maximum first: divided by a tiny temperature the logits would overflow.
            scores = (scores - scores.max()) / temperature
            ids = torch.multinomial(scores.softmax(dim=0), 1, generator=generator).unsqueeze(1)
        yield vocab.decode([int(ids)])
