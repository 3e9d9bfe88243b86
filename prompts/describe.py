"""Describe what can be wrong with new classes, by a language model: FiLo's section 3.2 for your own images.

    python prompts/describe.py --classes "metal bracket, glass vial" --out prompts/mine.json --model NAME
    python prompts/describe.py --meta data/mine/meta.json --out prompts/mine.json --model NAME \\
        --base_url http://localhost:8000/v1

or through any chat window:

    python prompts/describe.py --classes "metal bracket" --print-request
    python prompts/describe.py --classes "metal bracket" --from-file answer.txt --out prompts/mine.json

With --ensemble it makes sentences that tell normal from abnormal for every class (FADE, section 3.2):

    python prompts/describe.py --ensemble castings --about "castings and forgings" --model NAME \\
        --out prompts/ensembles/castings.json

Every list is written as soon as it is there, and what the file holds is not asked for again, so the same
command goes on where an earlier one stopped. What was made by hand is never overwritten.
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
from jobs import ClassJob, EnsembleJob, Job, say_settled
from review import read_lists

OPENAI = "https://api.openai.com/v1"
MOST_BYTES = 10 << 20  # of an answer read from a file; the wrong file may be a video


def parse_args() -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    group = parser.add_argument_group("subject: what is to be described")
    add = group.add_mutually_exclusive_group().add_argument
    add("--classes", metavar="NAMES", help='as spoken, with commas: "metal bracket, glass vial"')
    add("--meta", type=Path, help="all classes of a meta.json, or of the folder that holds it")
    add("--ensemble", metavar="NAME", help="no class, but normal and abnormal sentences for all; their name")
    add, usual = group.add_argument, "manufactured objects and materials of all kinds"
    add("--about", default=usual, metavar="TEXT", help="what the sentences of an ensemble are about")

    add = parser.add_argument_group("file: where descriptions go").add_argument
    add("--out", type=Path, metavar="FILE", help="prompt file, made or added to; pass it on by --prompts")
    lists = (("descriptions of a class", ClassJob.counts), ("sentences of each kind", EnsembleJob.counts))
    bounds = (f"{least} to {most} {what} (default: {usual})" for what, (least, most, usual) in lists)
    add("--count", type=int, help="; ".join(bounds))
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
    job = make_job(args)
    say_settled(job, args.print_request)
    if args.print_request:
        if job.topics:
            print(job.request())
        return
    if not job.topics:
        return
    entries.check_writable(args.out)
    failed = take(args, job) if args.from_file else ask_all(args, job)
    if failed:
        raise InputError(complain(args, job, failed))
    print(f"wrote {args.out}" + ("" if args.ensemble else f"; use it by --prompts {args.out}"))


def make_job(args: argparse.Namespace) -> Job:
    """Say what is still to be asked for.

    Raises:
        InputError: there is no --out, it is another file, or a flag is out of range.
    """
    is_ensemble = args.ensemble is not None
    if not is_ensemble:
        classes = targets.from_meta(args.meta) if args.meta else targets.from_names(args.classes or "")
    fewest, most, usual = (EnsembleJob if is_ensemble else ClassJob).counts
    count = usual if args.count is None else args.count
    if not fewest <= count <= most:
        raise InputError(f"--count {count}: wanted {fewest} to {most}, or leave it out for {usual}")
    if not args.out and not args.print_request:
        example = "prompts/ensembles/mine.json" if is_ensemble else "prompts/mine.json"
        raise InputError(f"say where the descriptions go: --out {example}")
    if is_ensemble:
        return EnsembleJob(args.out, args.ensemble, args.about, count, args.renew)
    return ClassJob(args.out, classes, count, args.renew)


def ask_all(args: argparse.Namespace, job: Job) -> list[str]:
    """Ask the endpoint for one list after the other and write each at once; say what some lack.

    Raises:
        InputError: the endpoint failed; the lists before are written.
    """
    if not args.model:
        raise InputError("say which model to ask: --model NAME, as the endpoint calls it")
    endpoint = connect(args)
    failed = []
    for key, topic in job.topics.items():
        try:
            texts, talk = interview(endpoint.ask, topic, job.count, args.attempts)
        except Unusable as error:
            failed.append(str(error))
            continue
        except InputError as error:
            raise InputError(f"{error}{progress(job, key)}") from error
        keep(job, key, texts, Record(args.model, f"at {endpoint.address.host}", today(), tuple(talk)))
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


def progress(job: Job, key: str) -> str:
    """Say how far the command came, if it came anywhere."""
    position = list(job.topics).index(key)
    if not position:
        return ""
    done = f"{position} of {len(job.topics)} {job.nouns[0]} were asked before"
    return f" ({done}; the same command goes on in {job.path})"


def take(args: argparse.Namespace, job: Job) -> list[str]:
    """Read the answer of a chat window to what --print-request prints; say what some lists lack.

    Raises:
        InputError: the file cannot be read.
    """
    answer = read_answer(args.from_file)
    record = Record(args.model or "unnamed", "in a chat window", today(), ((job.request(), answer),))
    lists, failed = read_lists(answer, [topic.name for topic in job.topics.values()]), []
    for key, topic in job.topics.items():
        texts, faults = topic.review(lists.get(topic.name, ()))
        if len(texts) < job.count:
            faults = faults or [why_too_few(lists.get(topic.name), answer)]
            failed.append(lacking(topic, len(texts), job.count, faults))
        else:
            keep(job, key, texts[: job.count], record)
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


def keep(job: Job, key: str, texts: list[str], record: Record) -> None:
    """Write one list and say so."""
    if job.put(key, texts, record):
        print(f"{key}: {len(texts)} {job.topics[key].texts}", flush=True)
    else:
        print(f"{key}: {job.nouns[1]} by somebody else meanwhile, left as it is", flush=True)


def complain(args: argparse.Namespace, job: Job, failed: list[str]) -> str:
    """Say in one line which lists are not written, why, and what to do."""
    shown = " | ".join(failed[:3]) + (f" | and {len(failed) - 3} more" if len(failed) > 3 else "")
    todo = "try another --model, or write them by hand as prompts/README.md shows"
    if args.ensemble is not None:
        todo = "try another --model, more --attempts or a lower --count"
    if args.from_file:
        todo = f"mend {args.from_file}, or paste what --print-request prints now"
    what, done = job.nouns
    return f"{len(failed)} of {len(job.topics)} {what} are not {done}: {shown}; {todo}"


if __name__ == "__main__":
    exit_clearly(main)
