"""Describe what can be wrong with new classes, by a language model: FiLo's section 3.2 for your own images.

    python prompts/describe.py --classes "metal bracket, glass vial" --out prompts/mine.json --model NAME
    python prompts/describe.py --meta data/mine/meta.json --out prompts/mine.json --model NAME \\
        --base_url http://localhost:8000/v1

or through any chat window:

    python prompts/describe.py --classes "metal bracket" --print-request
    python prompts/describe.py --classes "metal bracket" --from-file answer.txt --out prompts/mine.json

Every class is written as soon as it is described, and a class that the file holds is not asked for again, so
the same command goes on where an earlier one stopped. What was made by hand is never overwritten.
"""

import argparse
import datetime
import os
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # run by path, Python looks for filo only here

import address
import entries
import targets
import wording
from ask import Endpoint, Patience
from entries import Record
from filo import options
from filo.errors import InputError, exit_clearly
from interview import Unusable, interview, lacking, why_too_few
from review import fits, read_lists, review

OPENAI = "https://api.openai.com/v1"
MOST_BYTES = 10 << 20  # of an answer read from a file; the wrong file may be a video


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    add = parser.add_argument_group("classes: what is to be described").add_mutually_exclusive_group()
    add.add_argument("--classes", metavar="NAMES", help='as spoken, with commas: "metal bracket, glass vial"')
    add.add_argument("--meta", type=Path, help="all classes of a meta.json, or of the folder that holds it")

    add = parser.add_argument_group("file: where descriptions go").add_argument
    add("--out", type=Path, metavar="FILE", help="prompt file, made or added to; pass it on by --prompts")
    add("--count", type=int, default=8, choices=range(5, 11), help="descriptions for each class")
    add(
        "--renew",
        action="store_true",
        help="describe anew what this command described before; what was made or changed by hand stays",
    )

    add = parser.add_argument_group("endpoint: who is asked; its key is OPENAI_API_KEY").add_argument
    add("--model", help="the model, as the endpoint calls it")
    add("--base_url", default=OPENAI, metavar="URL", help="any OpenAI-compatible endpoint")
    add("--attempts", type=options.positive, default=3, help="answers of the model for each class, at most")
    add("--timeout", type=seconds, default=180, help="seconds to wait for one answer")
    add("--retries", type=options.count, default=5, help="repetitions of a request to a busy endpoint")
    add("--wait", type=seconds, default=2, help="seconds before the first repetition; then it doubles")

    group = parser.add_argument_group("chat window: without an endpoint").add_mutually_exclusive_group()
    group.add_argument("--print-request", action="store_true", help="print the text to paste, ask nobody")
    group.add_argument("--from-file", type=Path, metavar="FILE", help="read the answer from a file")
    return parser.parse_args()


def seconds(text: str) -> float:
    """Parse a time above 0, of a day at most."""
    value = options.rate(text)
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r}: wanted seconds, above 0 and at most 86400")
    return value


def main() -> None:
    args = parse_args()
    if not (args.model or "").isprintable():
        raise InputError(f"--model {wording.excerpt(args.model)} holds a character that no name has")
    classes = targets.from_meta(args.meta) if args.meta else targets.from_names(args.classes or "")
    wanted = choose(args, classes)
    if args.print_request:
        if wanted:
            print(wording.request(list(wanted.values()), args.count))
        return
    if not wanted:
        return
    entries.check_writable(args.out)
    failed = take(args, wanted) if args.from_file else ask_all(args, wanted)
    if failed:
        raise InputError(complain(args, wanted, failed))
    print(f"wrote {args.out}; use it by --prompts {args.out}")


def choose(args: argparse.Namespace, classes: dict[str, str]) -> dict[str, str]:
    """Give the classes that are still to be described, key -> name; a name in the file is preferred.

    Raises:
        InputError: there is no --out, it is no prompt file, or a name is too long for CLIP.
    """
    if not args.out:
        if not args.print_request:
            raise InputError("say where the descriptions go: --out prompts/mine.json")
        return classes
    content = entries.read(args.out)
    wanted = {key: name for key, name in classes.items() if entries.is_open(content, key, args.renew)}
    if settled := [key for key in classes if key not in wanted]:
        how = "by hand" if args.renew else "already"
        aside = sys.stderr if args.print_request else sys.stdout  # what is pasted holds the request alone
        print(f"described {how} in {args.out}, left as they are: {', '.join(settled)}", file=aside)
    named = {key: content["classes"].get(key, {}).get("name", name) for key, name in wanted.items()}
    if long := [name for name in named.values() if not fits(name, "a dent")]:
        raise InputError(
            f"the class name {wording.excerpt(long[0])} leaves no room for a description in CLIP's context: "
            "give a shorter one"
        )
    return named


def ask_all(args: argparse.Namespace, wanted: dict[str, str]) -> list[str]:
    """Ask the endpoint about one class after the other and write each at once; say what some lack.

    Raises:
        InputError: the endpoint failed; the classes before are written.
    """
    if not args.model:
        raise InputError("say which model to ask: --model NAME, as the endpoint calls it")
    endpoint = connect(args)
    failed = []
    for key, name in wanted.items():
        try:
            texts, talk = interview(endpoint.ask, name, args.count, args.attempts)
        except Unusable as error:
            failed.append(str(error))
            continue
        except InputError as error:
            raise InputError(f"{error}{progress(args, wanted, key)}") from error
        keep(args, key, name, texts, Record(args.model, f"at {endpoint.address.host}", today(), tuple(talk)))
    return failed


def connect(args: argparse.Namespace) -> Endpoint:
    """Make the endpoint that the flags and the environment name."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    place = address.parse(args.base_url)
    if args.base_url == OPENAI and not key:
        raise InputError(
            "no key for api.openai.com: set the environment variable OPENAI_API_KEY, or name a server of "
            f"your own by --base_url {address.LOCAL}"
        )
    return Endpoint(place, args.model, key, Patience(args.timeout, args.retries, args.wait))


def progress(args: argparse.Namespace, wanted: dict[str, str], key: str) -> str:
    """Say how far the command came, if it came anywhere."""
    position = list(wanted).index(key)
    if not position:
        return ""
    return f" ({position} of {len(wanted)} classes were asked before; the same command goes on in {args.out})"


def take(args: argparse.Namespace, wanted: dict[str, str]) -> list[str]:
    """Read the answer of a chat window to what --print-request prints; say what some classes lack.

    Raises:
        InputError: the file cannot be read.
    """
    names = list(wanted.values())
    answer = read_answer(args.from_file)
    talk = ((wording.request(names, args.count), answer),)
    record = Record(args.model or "unnamed", "in a chat window", today(), talk)
    lists, failed = read_lists(answer, names), []
    for key, name in wanted.items():
        texts, faults = review(lists.get(name, ()), name)
        if len(texts) < args.count:
            faults = faults or [why_too_few(lists.get(name), answer)]
            failed.append(lacking(name, len(texts), args.count, faults))
        else:
            keep(args, key, name, texts[: args.count], record)
    return failed


def read_answer(path: Path) -> str:
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file; --from-file wants the model's answer saved as text")
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} is too large for an answer; --from-file wants it saved as text")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not readable text ({error}): save the answer as UTF-8") from error


def today() -> str:
    return datetime.date.today().isoformat()


def keep(args: argparse.Namespace, key: str, name: str, texts: list[str], record: Record) -> None:
    """Write one class and say so."""
    if entries.put(args.out, key, name, texts, record, args.renew):
        print(f"{key}: {len(texts)} descriptions", flush=True)
    else:
        print(f"{key}: described by somebody else meanwhile, left as it is", flush=True)


def complain(args: argparse.Namespace, wanted: dict[str, str], failed: list[str]) -> str:
    """Say in one line which classes are not described, why, and what to do."""
    shown = " | ".join(failed[:3]) + (f" | and {len(failed) - 3} more" if len(failed) > 3 else "")
    todo = "try another --model, or write them by hand as prompts/README.md shows"
    if args.from_file:
        todo = f"mend {args.from_file}, or paste what --print-request prints now"
    return f"{len(failed)} of {len(wanted)} classes are not described: {shown}; {todo}"


if __name__ == "__main__":
    exit_clearly(main)
