"""The flags of train.py that one method has and another has not, and the values of its published scripts."""

import argparse
import sys
from dataclasses import replace

from filo import options
from filo.all_methods import METHODS, TRAINED, Config
from filo.errors import InputError
from filo.methods.anomalyclip import AnomalyCLIPConfig
from filo.methods.filo_config import ABLATIONS, AT_TEST_ONLY, ablate

PUBLISHED_AUG_RATE = {"mvtec": 0.2}  # FiLo's program makes mosaics for MVTec only
NO_EFFECT = "kept for old scripts: every epoch is printed and saved"


def find_method() -> str:
    """Read --method off the command line, as the other flags depend on it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--method", choices=TRAINED, default="filo")
    words = [word for word in sys.argv[1:] if word not in ("-h", "--help")]
    return parser.parse_known_args(words)[0].method


def add_method_options(parser: argparse.ArgumentParser, method: str) -> None:
    """Add the groups of flags that say what is trained and how."""
    add = parser.add_argument_group("method: what is trained").add_argument
    add("--method", choices=TRAINED, default="filo", help="whose other flags --help then explains")
    add("--clip_model", default="ViT-L-14-336", help="an open_clip ViT, or a JSON file like its configs")
    add("--clip_pretrained", default="openai", help="a weights tag, a local file, or drawn:SEED")
    add("--image_size", type=options.side, default=518, help="side of the square images, in pixels")
    add("--n_ctx", type=options.positive, default=12, help="learned vectors before each text")
    {"filo": _add_filo, "anomalyclip": _add_anomalyclip}[method](parser, add)


def parse(parser: argparse.ArgumentParser, method: str) -> argparse.Namespace:
    """Parse the command line; of a flag that only another method has, say so."""
    fail = parser.error

    def explain(message: str) -> None:
        words = message.removeprefix("unrecognized arguments: ").split() if "unrecognized" in message else ()
        owners = [f"{flag} belongs to --method {owner}" for flag in words if (owner := _owner(flag, method))]
        fail(f"{message}{f' ({owners[0]})' if owners else ''}")

    parser.error = explain
    return parser.parse_args()


def _owner(flag: str, method: str) -> str | None:
    """Name the other method that has a flag, if one has."""
    for other in TRAINED:
        parser = argparse.ArgumentParser(add_help=False)
        add_method_options(parser, other)
        if other != method and flag.partition("=")[0] in parser._option_string_actions:
            return other
    return None


def _add_filo(parser: argparse.ArgumentParser, add) -> None:
    presets = METHODS["filo"].presets
    add("--preset", choices=presets, default="official", help="whom to follow where program and paper differ")
    taps = {"type": options.positive, "nargs": "+", "default": [6, 12, 18, 24]}
    add("--features_list", **taps, help="tapped layers, from 1")
    options.add_without_option(add, [part for part in ABLATIONS if part not in AT_TEST_ONLY])

    add = parser.add_argument_group("optimisation: how it is trained").add_argument
    add("--epoch", type=options.count, default=15, help="epochs of stage 1")
    add("--adapter_epoch", type=options.count, default=5, help="epochs of stage 2")
    add("--batch_size", type=options.positive, default=1, help="images per step, of each process")
    add("--learning_rate", type=options.rate, default=1e-3, help="of the learned vectors and their nets")
    add("--decoder_learning_rate", type=options.rate, default=1e-4, help="of the linear and MMCI heads")
    add("--adapter_learning_rate", type=options.rate, default=1e-5, help="of the adapter")
    add("--seed", type=options.seed, default=0, help="of first weights, order and mosaics")


def _add_anomalyclip(parser: argparse.ArgumentParser, add) -> None:
    add("--features_list", type=options.positive, nargs="+", default=[24], help="tapped layers, from 1")
    add("--feature_map_layer", type=options.count, nargs="+", default=[0], help="taps before it are not used")
    add("--t_n_ctx", type=options.positive, default=4, help="learned tokens within each text block")
    add("--depth", type=options.positive, default=9, help="text blocks that see learned vectors")

    add = parser.add_argument_group("optimisation: how it is trained").add_argument
    add("--epoch", type=options.positive, default=15, help="epochs")
    add("--batch_size", type=options.positive, default=8, help="images per step, of each process")
    add("--learning_rate", type=options.rate, default=1e-3, help="of all learned vectors")
    add("--seed", type=options.seed, default=111, help="of first weights, order and mosaics")
    for name in ("print_freq", "save_freq"):
        add(f"--{name}", type=options.positive, help=NO_EFFECT)


def read_config(args: argparse.Namespace) -> Config:
    """Make the config that the flags of `args.method` ask for.

    Raises:
        InputError: values contradict each other.
    """
    sizes = {"features_list": tuple(args.features_list), "n_ctx": args.n_ctx}
    if args.method == "anomalyclip":
        sizes |= {"t_n_ctx": args.t_n_ctx, "depth": args.depth}
        return AnomalyCLIPConfig(**sizes, feature_map_layer=args.feature_map_layer[0])
    return ablate(replace(METHODS["filo"].presets[args.preset], **sizes), args.without)


def read_schedule(args: argparse.Namespace) -> tuple[tuple[int, ...], dict[str, float]]:
    """Give the epochs of each stage, and the learning rates by name (`filo.stages`).

    Raises:
        InputError: there is nothing to train.
    """
    if args.method == "anomalyclip":
        return (args.epoch,), {"prompts": args.learning_rate}
    if args.epoch + args.adapter_epoch == 0:
        raise InputError("--epoch 0 and --adapter_epoch 0 leave nothing to train")
    rates = {"decoder": args.decoder_learning_rate, "prompts": args.learning_rate}
    return (args.epoch, args.adapter_epoch), rates | {"adapter": args.adapter_learning_rate}


def mosaic_rate(args: argparse.Namespace) -> float:
    """Give the share of mosaics: what is asked for, otherwise what the method's program makes."""
    if args.aug_rate is not None:
        return args.aug_rate
    return PUBLISHED_AUG_RATE.get(args.dataset, 0.0) if args.method == "filo" else 0.0
