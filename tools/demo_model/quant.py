"""The two 4-bit formats that the model ships in: what a weight becomes when it is quantized and read back.

`mlx`: MLX's affine quantizer, 4 bits, groups of 64, scale and bias in bfloat16; norms in bfloat16.
`gguf`: ggml's Q4_0 blocks of 32 with an f16 scale; the embedding in Q8_0; norms in f32.
"""

import torch

GROUP = 64


def mlx_affine(w):
    """Quantizes [n, k] to (codes, scales, biases): codes int [n, k/64, 64], scales and biases bfloat16 [n, k/64]."""
    w = w.to(torch.bfloat16).float().view(w.shape[0], -1, GROUP)
    low, high = w.amin(-1), w.amax(-1)
    from_low = low.abs() > high.abs()
    scale = ((high - low) / 15).clamp_min(1e-7)
    scale = torch.where(from_low, scale, -scale)
    edge = torch.where(from_low, low, high)
    q0 = torch.round(edge / scale)
    scale = torch.where(q0 != 0, edge / torch.where(q0 != 0, q0, 1), scale)
    bias = torch.where(q0 != 0, edge, 0)
    codes = torch.round((w - bias[..., None]) / scale[..., None]).clamp(0, 15)
    return codes, scale.to(torch.bfloat16), bias.to(torch.bfloat16)


def read_mlx(codes, scales, biases):
    return (codes * scales.float()[..., None] + biases.float()[..., None]).flatten(1)


def q4_0(w):
    """A weight after Q4_0 and back: blocks of 32, w = d (q - 8), d = (value of largest magnitude) / -8 in f16."""
    blocks = w.float().reshape(-1, 32)
    top = blocks.gather(1, blocks.abs().argmax(-1, keepdim=True))
    d = top / -8
    inverse = torch.where(d != 0, 1 / torch.where(d != 0, d, 1), 0)
    codes = torch.trunc(blocks * inverse + 8.5).clamp(0, 15)
    return ((codes - 8) * d.half().float()).view(w.shape)


def q8_0(w):
    """A weight after Q8_0 and back: blocks of 32, w = d q, d = (largest magnitude) / 127 in f16."""
    blocks = w.float().reshape(-1, 32)
    d = blocks.abs().amax(-1, keepdim=True) / 127
    inverse = torch.where(d != 0, 1 / torch.where(d != 0, d, 1), 0)
    scaled = blocks * inverse
    codes = scaled.sign() * torch.floor(scaled.abs() + 0.5)  # halves go away from zero, as in C's roundf
    return (codes * d.half().float()).view(w.shape)


def through(name, w, form):
    """The parameter `name` as the format `form` stores it."""
    if w.ndim == 1:
        return w.to(torch.bfloat16).float() if form == "mlx" else w
    if form == "mlx":
        return read_mlx(*mlx_affine(w))
    return q8_0(w) if "embed_tokens" in name else q4_0(w)
