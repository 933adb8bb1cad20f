"""Attention, transformers and embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def attention() -> dict[str, Tensor]:
    """Scaled dot product attention and the multi-head module, in float32, float64 and bfloat16."""
    query, key, value = torch.randn(3, 2, 4, 24, 16).unbind(0)
    mask = torch.ones(24, 24, dtype=torch.bool).tril()
    heads, tokens = nn.MultiheadAttention(32, 4, batch_first=True).eval(), torch.randn(2, 10, 32)
    padding = torch.zeros(2, 10, dtype=torch.bool)
    padding[1, 7:] = True
    attend = functional.scaled_dot_product_attention
    outputs = {
        "plain": attend(query, key, value),
        "causal": attend(query, key, value, is_causal=True),
        "masked": attend(query, key, value, attn_mask=mask),
        "biased": attend(query, key, value, attn_mask=torch.randn(24, 24)),
        "one-query": attend(query[:, :, :1], key, value),
        "grouped": attend(query, key[:, :2], value[:, :2], enable_gqa=True),
        "float64": attend(query.double(), key.double(), value.double()),
        "bfloat16": attend(query.bfloat16(), key.bfloat16(), value.bfloat16()),
        "heads-fast": heads(tokens, tokens, tokens, need_weights=False)[0],
        "heads-padded": heads(tokens, tokens, tokens, key_padding_mask=padding)[0],
    }
    outputs["heads"], outputs["heads-weights"] = heads(tokens, tokens[:, :4], tokens[:, :4])
    return outputs


def _rotate(states: Tensor) -> Tensor:
    """Rotary positions as language models compute them."""
    length, size = states.shape[-2:]
    frequencies = 1.0 / (10000.0 ** (torch.arange(0, size, 2).float() / size))
    angles = torch.outer(torch.arange(length).float(), frequencies)
    first, second = states.chunk(2, -1)
    turned = torch.cat((-second, first), -1)
    return states * angles.cos().repeat(1, 2) + turned * angles.sin().repeat(1, 2)


def transformer() -> dict[str, Tensor]:
    """Encoder and decoder stacks, a whole `nn.Transformer`, and a block with rotary positions and a gated perceptron."""
    tokens, memory = torch.randn(2, 10, 32), torch.randn(2, 7, 32)
    encoder_layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    encoder = nn.TransformerEncoder(encoder_layer, 2, norm=nn.LayerNorm(32)).eval()
    first = nn.TransformerEncoderLayer(32, 4, 64, activation="gelu", norm_first=True, batch_first=True).eval()
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(32, 4, 64, batch_first=True), 2).eval()
    causal = nn.Transformer.generate_square_subsequent_mask(10)
    padding = torch.zeros(2, 10, dtype=torch.bool)
    padding[1, 6:] = True
    whole = nn.Transformer(32, 4, 1, 1, 64, batch_first=True).eval()
    rotated = _rotate(torch.randn(2, 4, 10, 8))
    attended = functional.scaled_dot_product_attention(rotated, rotated, rotated, is_causal=True)
    joined = attended.transpose(1, 2).reshape(2, 10, 32)
    gated = nn.Linear(64, 32)(functional.silu(nn.Linear(32, 64)(joined)) * nn.Linear(32, 64)(joined))
    return {
        "encoder": encoder(tokens),
        "encoder-padded": encoder(tokens, src_key_padding_mask=padding),
        "encoder-causal": encoder(tokens, mask=causal, is_causal=True),
        "norm-first": first(tokens),
        "decoder": decoder(tokens, memory, tgt_mask=causal),
        "whole": whole(memory, tokens),
        "rotary-block": gated,
    }


def embedding() -> dict[str, Tensor]:
    """Look-ups, bags of several modes, one-hot vectors, distances."""
    tokens, table = torch.randint(0, 50, (4, 9)), torch.randn(50, 16)
    bags, offsets = torch.randint(0, 50, (12,)), torch.tensor([0, 5, 5])
    outputs = {mode: functional.embedding_bag(bags, table, offsets, mode=mode) for mode in ("sum", "mean", "max")}
    vectors = nn.Embedding(50, 16, padding_idx=0)(tokens)
    return outputs | {
        "vectors": vectors,
        "pretrained": nn.Embedding.from_pretrained(table)(tokens),
        "one-hot": functional.one_hot(tokens, 50),
        "cosine": functional.cosine_similarity(vectors[0], vectors[1]),
        "distances": torch.cdist(vectors[0], table),
    }
