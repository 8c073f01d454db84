"""Tokens a second and model-FLOPs utilisation of a training step on a GPU, at the size of Qwen3-VL-2B."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from train_parts import Rows

from btoks import attach
from btoks.training.build import add_lora
from btoks.training.loss import CondensationLoss
from btoks.training.recipe import Lora
from btoks.training.scratch import Size, backbone

LARGE = Size(
    vocabulary=151_936, hidden=2048, layers=28, heads=16, feed=6144, vision_hidden=1024, vision_layers=24, length=8192
)
PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}
"""Dense bf16 FLOPs a second, from the data sheets."""


def utilisation(rounds: int, device: str = "cuda", size: Size = LARGE) -> Rows:
    """Steps of LoRA in bf16 on rows of `length` tokens, in the recipe's chunks of eight."""
    with torch.device(device):
        full, processor = backbone(["river stone window"], size)
    model = attach((full.to(torch.bfloat16), processor), tokens=4)
    add_lora(model, Lora())
    model.train()
    body: Any = model[0].model
    weights = sum(each.numel() for each in body.get_decoder().layers.parameters())
    peak = next((rate for name, rate in PEAKS.items() if device == "cuda" and name in torch.cuda.get_device_name()), 0)
    rows = []
    for length in (512, 1024, 2048):
        ids = torch.randint(100, 250, (32, length), device=device)
        ids[:, -4:] = torch.tensor(model.tokenizer.convert_tokens_to_ids([f"<|btok_{at}|>" for at in range(4)]))
        columns = [
            {"input_ids": each, "attention_mask": torch.ones_like(each)} for each in (ids, ids[:, -length // 2 :])
        ]
        loss, seconds = CondensationLoss(model, mini_batch_size=8), []
        for _ in range(rounds + 1):
            model.zero_grad()
            start = time.perf_counter()
            loss(columns).backward()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        tokens = sum(each["input_ids"].numel() for each in columns)
        rate = tokens / statistics.median(seconds[1:])
        # Frozen weights: a pass forward and one backward to the inputs, 2 FLOPs a weight and token each.
        used = {"MFU %": 100 * 4 * weights * rate / peak} if peak else {}
        rows.append({"gpu": device, "tokens": length, "tokens a second": rate, **used})
    return rows
