"""A small Llama in Hugging Face's layout, loaded by transformers as any model is: by the path of its folder.

    causal.py make FOLDER         random weights as safetensors, WordLlama's tokenizer
    causal.py use FOLDER...       loads and runs each; a line of JSON for each

With torch where it is there, with JAX elsewhere.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

# Nothing may come from anywhere but the folder.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", JAX_PLATFORMS="cpu", TRANSFORMERS_VERBOSITY="error")

VOCABULARY, HIDDEN, INNER, HEADS, LAYERS = 32000, 64, 128, 4, 2
PROMPT = "The gate opens for whoever"


def make(folder):
    import numpy
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    random = numpy.random.default_rng(7)

    def weight(*shape):
        return random.normal(0, 0.3, shape).astype(numpy.float32)

    weights = {"model.embed_tokens.weight": weight(VOCABULARY, HIDDEN), "lm_head.weight": weight(VOCABULARY, HIDDEN)}
    weights["model.norm.weight"] = numpy.ones(HIDDEN, numpy.float32)
    for layer in (f"model.layers.{number}" for number in range(LAYERS)):
        for part in "qkvo":
            weights[f"{layer}.self_attn.{part}_proj.weight"] = weight(HIDDEN, HIDDEN)
        weights[f"{layer}.mlp.gate_proj.weight"] = weight(INNER, HIDDEN)
        weights[f"{layer}.mlp.up_proj.weight"] = weight(INNER, HIDDEN)
        weights[f"{layer}.mlp.down_proj.weight"] = weight(HIDDEN, INNER)
        for norm in ["input_layernorm", "post_attention_layernorm"]:
            weights[f"{layer}.{norm}.weight"] = numpy.ones(HIDDEN, numpy.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "vocab_size": VOCABULARY,
                "hidden_size": HIDDEN,
                "intermediate_size": INNER,
                "num_attention_heads": HEADS,
                "num_key_value_heads": HEADS,
                "num_hidden_layers": LAYERS,
                "max_position_embeddings": 128,
                "tie_word_embeddings": False,
                "bos_token_id": 1,
                "eos_token_id": 2,
                "torch_dtype": "float32",
            }
        )
    )
    package = Path(importlib.util.find_spec("wordllama").origin).parent
    shutil.copy(package / "tokenizers/l2_supercat_tokenizer_config.json", folder / "tokenizer.json")
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer["model_input_names"] = ["input_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))


def use(folder):
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    framework, run = ("torch", with_torch) if importlib.util.find_spec("torch") else ("jax", with_jax)
    logits = run(folder, tokenizer)
    return {
        "type": AutoConfig.from_pretrained(folder).model_type,
        "framework": framework,
        "shape": list(logits.shape),
        "logits": hashlib.sha256(logits.tobytes()).hexdigest(),
        "next": tokenizer.decode([int(logits[0, -1].argmax())]),
    }


def with_torch(folder, tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        return model(**tokenizer(PROMPT, return_tensors="pt")).logits.numpy()


def with_jax(folder, tokenizer):
    import numpy
    from transformers import FlaxAutoModelForCausalLM

    model = FlaxAutoModelForCausalLM.from_pretrained(folder)
    return numpy.asarray(model(**tokenizer(PROMPT, return_tensors="np")).logits)


match sys.argv[1:]:
    case ["make", folder]:
        make(Path(folder))
    case ["use", *folders]:
        for folder in folders:
            print(json.dumps(use(Path(folder))))
    case _:
        sys.exit(__doc__)
