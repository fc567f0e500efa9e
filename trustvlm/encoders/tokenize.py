"""The text tower on a context cut to its longest prompt.

CLIP pads every prompt to 77 tokens. Where attention is causal and the feature is read at one token
(the end of text), nothing behind that token can change it, so everything behind the last such token
of a batch is left out: same features, several times faster. Towers built otherwise (attention both
ways, a class token behind the padding, pooling of the last position) get their full context.
"""

from __future__ import annotations

from typing import Any

import torch


class TextTower:
    """The text side of an open_clip model.

    Attributes:
        truncates: whether the context can be cut without changing the features.
    """

    def __init__(self, model: Any) -> None:
        from open_clip.model import CLIP, CustomTextCLIP

        self._model = model
        # CLIP keeps the text modules on itself, CustomTextCLIP on .text; other classes (CoCa) have
        # their own ways.
        if type(model) is CLIP:
            self._tower, self._pool, self._eos = model, model.text_pool_type, model.text_eos_id
            self.truncates = _is_causal(model) and self._pool in ("argmax", "eos")
        elif type(model) is CustomTextCLIP and _is_plain(model.text):
            self._tower, self._pool, self._eos = model.text, model.text.pool_type, model.text.eos_id
            self.truncates = _is_causal(model.text) and self._pool in ("argmax", "eos")
        else:
            self.truncates = False

    def lengths(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n,) how many of its (n, context) tokens each prompt needs."""
        if not self.truncates:
            return torch.full((len(tokens),), tokens.shape[1])
        return self._positions(tokens) + 1

    def features(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, dim) raw text features of (n, context) token ids."""
        if not self.truncates:
            full: torch.Tensor = self._model.encode_text(tokens, normalize=False)
            return full
        # CLIP.encode_text and TextTransformer.forward, which both insist on the full context, step
        # by step.
        tower, positions = self._tower, self._positions(tokens)
        length = int(positions.max()) + 1
        dtype = tower.transformer.get_cast_dtype()
        x = tower.token_embedding(tokens[:, :length]).to(dtype) + tower.positional_embedding[
            :length
        ].to(dtype)
        x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
        x = x[torch.arange(len(x), device=x.device), positions]
        projection = tower.text_projection
        if projection is None:
            projected: torch.Tensor = x
        else:
            projected = projection(x) if isinstance(projection, torch.nn.Linear) else x @ projection
        return projected

    def _positions(self, tokens: torch.Tensor) -> torch.Tensor:
        # As open_clip's text_global_pool: the largest id, or the first end of text (position 0 when
        # there is none).
        ends = tokens if self._pool == "argmax" else (tokens == self._eos).int()
        return ends.argmax(dim=-1)


def _is_plain(text: Any) -> bool:
    """Whether `text` is open_clip's own tower, without a class token, a padding mask or token
    output."""
    from open_clip.transformer import TextTransformer

    return (
        type(text) is TextTransformer
        and text.cls_emb is None
        and not text.use_pad_mask
        and not text.output_tokens
    )


def _is_causal(tower: Any) -> bool:
    """Whether no token sees a later one, by the mask itself."""
    from open_clip.transformer import Transformer

    mask = tower.attn_mask
    if (
        type(tower.transformer) is not Transformer
        or mask is None
        or mask.shape != (len(tower.positional_embedding),) * 2
    ):
        return False
    later = torch.ones_like(mask, dtype=torch.bool).triu(1)
    return bool(torch.isneginf(mask[later]).all())
