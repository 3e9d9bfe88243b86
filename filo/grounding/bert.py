"""Where the detector's text encoder comes from: a vocabulary and sizes, never a download of weights."""

import json
import sys
from pathlib import Path

import huggingface_hub
import transformers
from huggingface_hub import hf_hub_download
from torch import nn

from filo.errors import InputError

NAME = "bert-base-uncased"
ON_THE_HUB = ("google-bert/bert-base-uncased", NAME)  # its name today, and the one of older caches


def make_bert(path: Path | None) -> tuple[transformers.BertTokenizerFast, nn.Module]:
    """Give the tokenizer, and a BERT whose weights are yet to be filled in.

    `path` is a vocab.txt or its folder; a config.json beside it may say other sizes than bert-base's. Without
    it the vocabulary comes from the hub or its cache.

    Raises:
        InputError: there is no vocabulary, or one of another size than BERT's table.
    """
    transformers.logging.set_verbosity_error()
    vocabulary = _find_vocabulary(path)
    try:
        # blanks are cleaned up as by the transformers that the published program ran with
        tokenizer = transformers.BertTokenizerFast(
            vocab_file=str(vocabulary), clean_up_tokenization_spaces=True
        )
        sizes = _read_sizes(vocabulary.with_name("config.json")) if path else {}
        bert = transformers.BertModel(transformers.BertConfig(**sizes))
    except Exception as error:  # both check little: whatever trips over a wrong file is raised
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{vocabulary}, or the config.json beside it, is not BERT's ({reason}); "
            f"give the vocab.txt of {NAME} by --bert"
        ) from error
    rows = bert.embeddings.word_embeddings.num_embeddings
    if len(tokenizer) != rows:
        raise InputError(
            f"{vocabulary} holds {len(tokenizer)} words, BERT knows {rows}: "
            f"give the vocab.txt of {NAME} by --bert"
        )
    return tokenizer, bert


def _find_vocabulary(path: Path | None) -> Path:
    if path is None:
        return _cached() or _download()
    vocabulary = path / "vocab.txt" if path.is_dir() else path
    if not vocabulary.is_file():
        raise InputError(f"{vocabulary} does not exist: --bert names the vocab.txt of {NAME}, or its folder")
    return vocabulary


def _cached() -> Path | None:
    """Look where the hub's client keeps what it downloaded; it would ask the hub first, which takes long
    offline.
    """
    for name in ON_THE_HUB:
        try:
            return Path(hf_hub_download(name, "vocab.txt", local_files_only=True))
        except OSError:
            continue
    return None


def _download() -> Path:
    print(f"fetching the vocabulary of {NAME}, 0.2 MB, once", file=sys.stderr)
    huggingface_hub.logging.set_verbosity_error()
    try:
        return Path(hf_hub_download(ON_THE_HUB[0], "vocab.txt"))
    except Exception as error:  # the client raises kinds of its own
        raise InputError(
            f"the vocabulary of {NAME} is not on this machine and could not be downloaded: fetch vocab.txt "
            f"elsewhere, from https://huggingface.co/{ON_THE_HUB[0]}, and name it by --bert PATH, "
            "or go without a detector by --detector none"
        ) from error


def _read_sizes(path: Path) -> dict:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
