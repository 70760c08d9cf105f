"""Export one random-weight model: `python export_torch.py NAME FILE`. Runs in the environment that exported.py makes.

The TorchScript-based exporter (`dynamo=False`) is used because it writes what most published models look like.
"""

from __future__ import annotations

import sys

import torch
import transformers
from torch import nn

OPSET = 17


class Logits(nn.Module):
    """A transformers model as a plain function of tensors that returns one tensor."""

    def __init__(self, model: nn.Module, field: str, *names: str, **fixed: object) -> None:
        super().__init__()
        self.model, self.field, self.names, self.fixed = model, field, names, fixed

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return getattr(self.model(**dict(zip(self.names, tensors, strict=True)), **self.fixed), self.field)


class Causal(nn.Module):
    """A decoder whose causal and padding masks are joined here, as the sliced buffer that published exports have.

    transformers' own mask goes through vmap, which the exporter cannot trace; a mask of rank 4 it takes as it is.
    """

    def __init__(self, model: nn.Module, positions: int) -> None:
        super().__init__()
        self.model = model
        causal = torch.ones(positions, positions, dtype=torch.bool).tril()
        self.register_buffer("causal", causal[None, None], persistent=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        length = input_ids.shape[1]
        seen = self.causal[:, :, :length, :length] & attention_mask[:, None, None, :].bool()
        mask = torch.where(seen, 0.0, torch.finfo(torch.float32).min)
        return self.model(input_ids, attention_mask=mask, use_cache=False).logits


def _ids(vocabulary: int, *shape: int) -> torch.Tensor:
    return torch.randint(3, vocabulary, shape)


def _same(axes: dict[int, str], *names: str) -> dict[str, dict[int, str]]:
    return {name: dict(axes) for name in names}


def _configure(name: str) -> tuple[nn.Module, dict[str, torch.Tensor], str, dict[str, dict[int, str]]]:
    """(module, example inputs, output name, dynamic axes) of one architecture."""
    tokens = {0: "batch", 1: "sequence"}
    eager = {"attn_implementation": "eager"}
    if name == "roberta-base":
        config = transformers.RobertaConfig(
            vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, **eager
        )
        model = transformers.RobertaModel(config, add_pooling_layer=False)
        inputs = {"input_ids": _ids(50265, 2, 16), "attention_mask": torch.ones(2, 16, dtype=torch.int64)}
        module = Logits(model, "last_hidden_state", *inputs)
        return module, inputs, "last_hidden_state", _same(tokens, *inputs, "last_hidden_state")
    if name == "bert-mini":
        config = transformers.BertConfig(
            hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024, **eager
        )
        model = transformers.BertModel(config, add_pooling_layer=False)
        ones, zeros = (make(2, 16, dtype=torch.int64) for make in (torch.ones, torch.zeros))
        inputs = {"input_ids": _ids(30522, 2, 16), "attention_mask": ones, "token_type_ids": zeros}
        module = Logits(model, "last_hidden_state", *inputs)
        return module, inputs, "last_hidden_state", _same(tokens, *inputs, "last_hidden_state")
    if name == "gpt2":
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**eager))
        inputs = {"input_ids": _ids(50257, 2, 16), "attention_mask": torch.ones(2, 16, dtype=torch.int64)}
        return Causal(model, 1024), inputs, "logits", _same(tokens, *inputs, "logits")
    if name == "t5-small":
        config = transformers.T5Config(
            d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8, decoder_start_token_id=0, **eager
        )
        model = transformers.T5ForConditionalGeneration(config)
        inputs = {"input_ids": _ids(32128, 2, 16), "decoder_input_ids": _ids(32128, 2, 8)}
        axes = {"input_ids": tokens}
        axes["decoder_input_ids"] = axes["logits"] = {0: "batch", 1: "decoder_sequence"}
        return Logits(model, "logits", *inputs, use_cache=False), inputs, "logits", axes
    if name == "whisper-tiny-encoder":
        model = transformers.WhisperModel(transformers.WhisperConfig(**eager)).encoder
        inputs = {"input_features": torch.randn(1, 80, 3000)}
        module = Logits(model, "last_hidden_state", *inputs)
        return (
            module,
            inputs,
            "last_hidden_state",
            _same({0: "batch"}, "input_features", "last_hidden_state"),
        )

    if name == "deit-tiny":
        config = transformers.DeiTConfig(
            hidden_size=192, num_attention_heads=3, intermediate_size=768, num_labels=1000, **eager
        )
        model = transformers.DeiTForImageClassification(config)
    elif name == "vit-base":
        model = transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000, **eager))
    elif name == "resnet-50":
        model = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000))
    elif name == "mobilenet-v2":
        model = transformers.MobileNetV2ForImageClassification(
            transformers.MobileNetV2Config(num_labels=1000)
        )
    else:
        raise SystemExit(f"unknown architecture: {name}")
    inputs = {"pixel_values": torch.randn(2, 3, 224, 224)}
    return (
        Logits(model, "logits", *inputs),
        inputs,
        "logits",
        _same({0: "batch"}, "pixel_values", "logits"),
    )


@torch.no_grad()
def _vary_vectors(module: nn.Module) -> None:
    """Give biases and norms values of their own.

    Untrained ones are all 0 or 1: the exporter would share one tensor among them, and a forgotten bias would not show.
    """
    for parameter in module.parameters():
        if parameter.dim() == 1:
            parameter.add_(0.02 * torch.randn_like(parameter))


@torch.no_grad()
def _settle(module: nn.Module, inputs: dict[str, torch.Tensor]) -> None:
    """Give batch normalisation the statistics of the example inputs.

    With its initial statistics (mean 0, variance 1) an untrained deep network's activations grow or vanish.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    if norms:
        for layer in norms:
            layer.momentum = 1.0
            layer.train()
        module(*inputs.values())
    module.eval()


def main(name: str, path: str) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    module, inputs, output, axes = _configure(name)
    module.eval()
    _vary_vectors(module)
    _settle(module, inputs)
    torch.onnx.export(
        module,
        tuple(inputs.values()),
        path,
        dynamo=False,
        opset_version=OPSET,
        input_names=list(inputs),
        output_names=[output],
        dynamic_axes=axes,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
