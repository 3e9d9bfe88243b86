"""Which methods there are, and what the programs need to know of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from filo.clip.load import CLIP
from filo.errors import InputError
from filo.method import Method
from filo.methods import anomalyclip, fade_config, filo_config, winclip
from filo.methods.anomalyclip import AnomalyCLIPConfig, AnomalyCLIPModel
from filo.methods.fade import FADEModel
from filo.methods.fade_config import FADEConfig
from filo.methods.filo import FiLoModel
from filo.methods.filo_config import FiLoConfig
from filo.methods.winclip import WinCLIPConfig, WinCLIPModel
from filo.prompts import ClassTexts

Config = FiLoConfig | AnomalyCLIPConfig | WinCLIPConfig | FADEConfig


@dataclass(frozen=True)
class Known:
    """One method: how it is spoken of, its config and presets, and how its model is made."""

    title: str
    config: type
    presets: Mapping[str, Config]
    from_dict: Callable[[dict], Config]
    model: Callable[[CLIP, Config, Mapping[str, ClassTexts]], Method]
    is_trained: bool = True


METHODS = {
    "filo": Known("FiLo", FiLoConfig, filo_config.PRESETS, filo_config.config_from_dict, FiLoModel),
    "anomalyclip": Known(
        "AnomalyCLIP",
        AnomalyCLIPConfig,
        anomalyclip.PRESETS,
        anomalyclip.config_from_dict,
        AnomalyCLIPModel,
    ),
    "winclip": Known(
        "WinCLIP", WinCLIPConfig, winclip.PRESETS, winclip.config_from_dict, WinCLIPModel, is_trained=False
    ),
    "fade": Known(
        "FADE", FADEConfig, fade_config.PRESETS, fade_config.config_from_dict, FADEModel, is_trained=False
    ),
}
TRAINED = tuple(name for name, known in METHODS.items() if known.is_trained)


def method_name(config: Config) -> str:
    """Name the method that a config belongs to, as `--method` does."""
    return next(name for name, known in METHODS.items() if type(config) is known.config)


def make_model(clip: CLIP, config: Config, texts: Mapping[str, ClassTexts]) -> Method:
    """Make the model of a config; its trained part is drawn from the global generator."""
    return METHODS[method_name(config)].model(clip, config, texts)


def switch_off(config: Config, parts: Sequence[str]) -> Config:
    """Give the config without some of `filo_config.ABLATIONS`.

    Raises:
        InputError: the method has no such parts.
    """
    if parts and not isinstance(config, FiLoConfig):
        title = METHODS[method_name(config)].title
        raise InputError(f"--without {' '.join(parts)}: these are parts of FiLo, and this is {title}")
    return filo_config.ablate(config, parts) if parts else config


def kept_state(state: Mapping[str, Tensor], trained: Config, config: Config) -> dict[str, Tensor]:
    """Pick what a model of `config`, which is `trained` without some parts, has of its tensors."""
    if isinstance(config, FiLoConfig):
        return filo_config.part_of_state(state, trained, config)
    return dict(state)


def preset_name(config: Config) -> str:
    """Name the preset whose quirks a config has; sizes do not count."""
    sizes = {name: getattr(config, name) for name in config.sizes}
    presets = METHODS[method_name(config)].presets
    names = [name for name, preset in presets.items() if replace(preset, **sizes) == config]
    return names[0] if names else "custom"
