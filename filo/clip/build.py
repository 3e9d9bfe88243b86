"""Which models of open_clip the towers can walk, and how an empty one is put together."""

import difflib
import json
from pathlib import Path

import open_clip
from open_clip.transformer import TextTransformer
from torch import nn

from filo.clip.attention import unsupported_blocks
from filo.errors import InputError

WANTED = "wanted a plain ViT of open_clip with CLIP's own tokenizer, like ViT-L-14-336"
VOCABULARY = 49408  # of CLIP's own tokenizer; the end token has the highest number


def read_config(name: str) -> dict:
    """Give the open_clip model config for a model name or the path of a JSON file.

    Raises:
        InputError: there is no such model, the file is broken, or the model is of a kind not supported.
    """
    if name in open_clip.list_models():
        config = open_clip.get_model_config(name)
    elif name.endswith(".json"):
        config = _read_json(Path(name))
    else:
        raise InputError(f"unknown CLIP model {name!r}: open_clip has no such model ({_hint(name)})")
    problem = _problem_of_config(config)
    if problem:
        raise InputError(f"{name} cannot be used: {problem}; {WANTED}")
    return config


def _hint(name: str) -> str:
    names = {model.lower(): model for model in open_clip.list_models()}
    near = [names[key] for key in difflib.get_close_matches(name.lower(), names, n=5)]
    return f"near it: {', '.join(near)}" if near else "`open_clip.list_models()` names them"


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise InputError(f"{path}: no such CLIP config file")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return {**config, "vision_cfg": dict(config["vision_cfg"]), "text_cfg": dict(config["text_cfg"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is no open_clip config with vision_cfg and text_cfg: {error}") from error


def _problem_of_config(config: dict) -> str | None:
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "timm_model_name" in vision:
        return "its image tower is one of timm"
    if "hf_model_name" in text:
        return "its text tower is one of transformers"
    if "multimodal_cfg" in config:
        return "it is a CoCa"
    if not isinstance(vision.get("layers", 12), int):
        return "its image tower is a ResNet"
    if not isinstance(vision.get("patch_size", 16), int):
        return f"its patch size {vision['patch_size']} is not one number"
    if text.get("hf_tokenizer_name") or text.get("tokenizer_kwargs"):
        return f"its tokenizer is {text.get('hf_tokenizer_name', 'a changed one')}"
    return None


def build_model(name: str, config: dict, image_size: int, activation: str) -> nn.Module:
    """Make the model for square images of `image_size` pixels, its weights still arbitrary.

    Raises:
        InputError: open_clip cannot build it, or the towers cannot walk it.
    """
    config = {**config, "vision_cfg": {**config["vision_cfg"], "image_size": image_size}}
    fields = {k: config[k] for k in ("embed_dim", "vision_cfg", "text_cfg", "init_logit_bias") if k in config}
    build = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    try:
        model = build(**fields, quick_gelu=activation == "quick_gelu")
    except Exception as error:  # open_clip does not check a config: whatever trips over it first is raised
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name} is no model config that open_clip can build: {reason}") from error
    problem = _problem_of_towers(model)
    if problem:
        raise InputError(f"{name} cannot be used: {problem}; {WANTED}")
    return model


def _problem_of_towers(model: nn.Module) -> str | None:
    text = getattr(model, "text", model)
    pool, eos = (getattr(text, name, getattr(text, f"text_{name}", None)) for name in ("pool_type", "eos_id"))
    if isinstance(text, TextTransformer) and text.cls_emb is not None:
        return "its text feature is read at a class token"
    if text.attn_mask is None:
        return "its text tower is not causal"
    if len(text.positional_embedding) != text.context_length:
        return "its text tower has other positions than tokens"
    if pool != "argmax" and (pool, eos) != ("eos", VOCABULARY - 1):
        return "its text feature is not read at the end token"
    if text.vocab_size < VOCABULARY:
        return f"its vocabulary of {text.vocab_size} is smaller than the tokenizer's {VOCABULARY}"
    if model.visual.pool_type not in ("tok", "avg"):
        return "its image feature is not one vector"
    kinds = unsupported_blocks([*model.visual.transformer.resblocks, *text.transformer.resblocks])
    return f"its attention is {', '.join(sorted(kinds))}" if kinds else None
