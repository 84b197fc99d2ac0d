"""A real model, WordLlama's static embeddings, as its package carries it.

    words.py make FOLDER          the model as a folder: configuration, weights, tokenizer
    words.py use FOLDER...        loads each folder's files and nothing else; a line of JSON for each
"""

import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path

WEIGHTS, TOKENIZER, TENSOR = "model.safetensors", "tokenizer.json", "embedding.weight"

# The second is nearer to the first than the third is.
SENTENCES = ["A dog runs across the garden.", "A puppy is running in the yard.", "The bank raised its interest rates."]


def make(folder):
    package = Path(importlib.util.find_spec("wordllama").origin).parent
    folder.mkdir(parents=True)
    shutil.copy(package / "weights/l2_supercat_256.safetensors", folder / WEIGHTS)
    shutil.copy(package / "tokenizers/l2_supercat_tokenizer_config.json", folder / TOKENIZER)
    (folder / "config.json").write_text(json.dumps({"model_type": "wordllama", "dimensions": 256}) + "\n")


def use(folder):
    from safetensors import safe_open
    from tokenizers import Tokenizer
    from wordllama import WordLlamaInference

    with safe_open(folder / WEIGHTS, framework="np") as weights:
        embedding = weights.get_tensor(TENSOR)
    model = WordLlamaInference(embedding, Tokenizer.from_file(str(folder / TOKENIZER)))
    vectors = model.embed(SENTENCES, norm=True)
    near, far = (float(vectors[0] @ other) for other in vectors[1:])
    return {
        "shape": list(embedding.shape),
        "weights": hashlib.sha256(embedding.tobytes()).hexdigest(),
        "vectors": hashlib.sha256(vectors.tobytes()).hexdigest(),
        "near": near,
        "far": far,
    }


match sys.argv[1:]:
    case ["make", folder]:
        make(Path(folder))
    case ["use", *folders]:
        for folder in folders:
            print(json.dumps(use(Path(folder))))
    case _:
        sys.exit(__doc__)
