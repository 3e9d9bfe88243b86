"""FiLo, zero-shot anomaly detection: `FiLo`, `FiLoConfig`, `PRESETS`, `load_clip`, `load_checkpoint`."""

from importlib import import_module

_HOMES = {
    "FiLo": "filo.predictor",
    "FiLoConfig": "filo.methods.filo_config",
    "PRESETS": "filo.methods.filo_config",
    "load_clip": "filo.clip.load",
    "load_checkpoint": "filo.checkpoint",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    """Import what is asked for when it is asked for; PyTorch and open_clip take seconds."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
