"""How is an OpenAI-compatible endpoint asked, and what becomes of all that can go wrong with one?

Sent is what every such server takes: a model's name and messages. No JSON mode, no sampling parameters, which
llama.cpp, vLLM, Ollama and the hosted models support differently. The package `openai` is an optional extra
(prompts/requirements.txt), imported when an endpoint is asked.
"""

import itertools
import json
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from types import ModuleType

from address import Address
from filo.errors import InputError
from wording import excerpt

NO_KEY = "no-key"  # the client wants one, a local server does not look at it
BUSY = {408, 409, 425, 429}  # and all from 500: asked again
LONGEST_PAUSE = 60.0  # seconds, where the pause is ours to choose
LONGEST_WISH = 120.0  # seconds that an endpoint may ask us to wait; a command should not sleep for an hour
SHORTEST_SECRET = 4  # characters; hiding every "v1" of a message would hide the message
LASTING = (ConnectionRefusedError, socket.gaierror, ssl.SSLError)


@dataclass(frozen=True)
class Answer:
    """What the model said; where that is nothing usable, `trouble` says what there was instead."""

    text: str
    trouble: str = ""


@dataclass(frozen=True)
class Patience:
    """How long to wait: for one answer, how often to ask again, and before the first repetition (seconds)."""

    timeout: float
    retries: int
    wait: float


class Busy(Exception):
    """The endpoint may answer later; `after` are the seconds it asks for, 0 if it does not say."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Endpoint:
    """One model behind one address.

    Raises:
        InputError: the package `openai` is missing, or the key cannot be sent.
    """

    def __init__(self, address: Address, model: str, key: str, patience: Patience) -> None:
        self.address, self.model, self.patience = address, model, patience
        self.secrets = [s for s in (key, *address.secrets) if len(s) >= SHORTEST_SECRET]
        if not key.isascii() or not key.isprintable():
            raise InputError("OPENAI_API_KEY holds a character that no key has: set it anew")
        self.openai = _import_openai()
        try:
            self.client = self.openai.OpenAI(
                base_url=address.url, api_key=key or NO_KEY, timeout=patience.timeout, max_retries=0
            )
        except (ImportError, ValueError) as error:  # of a proxy that the environment names
            raise InputError(
                f"the package openai cannot start ({error}): check the proxy variables"
            ) from error

    def ask(self, messages: list[dict]) -> Answer:
        """Give the model's answer to a conversation; where the endpoint is busy, wait and ask again.

        Raises:
            InputError: it cannot be reached, does not speak this protocol, refuses the request, or is still
                busy after all repetitions.
        """
        try:
            for attempt in itertools.count():
                try:
                    return read_answer(self._send(messages), self.address)
                except Busy as busy:
                    self._pause(attempt, busy)
        except InputError as error:
            raise InputError(self._hide(str(error))) from error

    def _pause(self, attempt: int, busy: Busy) -> None:
        """Sleep before the next attempt.

        Raises:
            InputError: there is none, or the endpoint wants to be left alone for too long.
        """
        if attempt == self.patience.retries:
            raise InputError(
                f"{self.address} {busy}, asked {attempt + 1} times: run the same command later, or raise "
                "--retries or --timeout"
            )
        if busy.after > LONGEST_WISH:
            raise InputError(f"{self.address} {busy}: run the same command in {busy.after:.0f} seconds")
        pause = busy.after or min(self.patience.wait * 2.0**attempt, LONGEST_PAUSE)
        print(self._hide(f"{self.address} {busy}, asking again in {pause:.3g} s"), flush=True)
        time.sleep(pause)

    def _send(self, messages: list[dict]) -> str:
        """Give the body of the endpoint's reply, which need not be JSON."""
        send = self.client.chat.completions.with_raw_response.create
        request = partial(send, model=self.model, messages=messages)
        late = f"gave no answer within {self.patience.timeout:g} s"
        try:
            return _within(self.patience.timeout, lambda: request().http_response.text)
        except (futures.TimeoutError, self.openai.APITimeoutError) as error:
            raise Busy(late) from error
        except self.openai.APIStatusError as error:
            raise self._refused(error) from error
        except self.openai.OpenAIError as error:
            raise self._unreachable(error) from error

    def _refused(self, error) -> Exception:
        """Turn an HTTP status into what the user can do about it."""
        status, said = error.status_code, _message(error.body)
        reason = f"answers {status} {excerpt(said, 200)}" if said else f"answers {status}"
        used_up = getattr(error, "code", None) == "insufficient_quota"  # a 429 that no waiting helps
        if (status in BUSY or status >= 500) and not used_up:
            return Busy(reason, wish(error.response.headers.get("retry-after", "")))
        todo = {
            401: "set the environment variable OPENAI_API_KEY to a key that it takes",
            403: "set the environment variable OPENAI_API_KEY to a key that may use this model",
            404: f"check --model {self.model} and --base_url, which mostly ends in /v1",
            429: "this key's quota is used up, name another endpoint or model",
        }
        hint = todo.get(status, "check --model and --base_url")
        return InputError(f"{self.address} {reason}: {hint}")

    def _unreachable(self, error: Exception) -> Exception:
        cause = error
        while deeper := cause.__cause__ or cause.__context__:
            cause = deeper
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        if not isinstance(cause, LASTING):
            return Busy(f"is out of reach ({reason})")
        return InputError(
            f"{self.address} cannot be reached ({reason}): start the server, or check --base_url"
        )

    def _hide(self, text: str) -> str:
        """Take the key and the address's password out of what a server may have echoed."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def _import_openai() -> ModuleType:
    try:
        import openai

        openai.OpenAI  # noqa: B018 - releases before 1 have none
    except (ImportError, AttributeError) as error:
        raise InputError(
            "asking an endpoint needs the package openai: pip install -r prompts/requirements.txt, "
            "or use --print-request and --from-file with any chat window"
        ) from error
    return openai


def _within(seconds: float, call: Callable[[], str]) -> str:
    """Give what `call` returns, or give up on it after `seconds`.

    The client's own limit starts anew with every byte, so that an answer that trickles in never ends.
    """
    future = futures.Future()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # a daemon does not keep the command from ending
    return future.result(seconds)


def wish(header: str) -> float:
    """Read a Retry-After header, seconds or a date, as seconds from now; 0 if it says nothing usable."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def read_answer(body: str, address: Address) -> Answer:
    """Find the model's words in the body of a reply.

    Raises:
        InputError: this is not the protocol's JSON.
        Busy: it is an error that came with status 200, as some gateways send it.
    """
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        reply = None
    if isinstance(reply, dict) and reply.get("error") and not reply.get("choices"):
        raise Busy(f"answers with an error {excerpt(_message(reply['error']), 200)}")
    if not isinstance(reply, dict) or not isinstance(reply.get("choices"), list):
        raise InputError(
            f"{address} answers something else than a chat completion ({excerpt(body)}): --base_url wants "
            "an OpenAI-compatible endpoint, such as http://localhost:8000/v1"
        )
    choice = next(iter(reply["choices"]), None)
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return Answer("", "the answer is empty")
    return _read_message(message, str(choice.get("finish_reason")))


def _read_message(message: dict, finish: str) -> Answer:
    text = message["content"] if isinstance(message.get("content"), str) else ""
    text = text.encode("utf-8", "replace").decode()  # half a character can neither be sent back nor hashed
    if message.get("refusal"):
        return Answer(text, f"the model refuses: {excerpt(str(message['refusal']))}")
    troubles = {
        "length": "the answer was cut off, its length is limited",
        "content_filter": "the endpoint's filter held the answer back",
    }
    return Answer(text, troubles.get(finish, "" if text.strip() else "the answer is empty"))


def _message(body: object) -> str:
    """What an error says for itself; servers differ in where they put it."""
    if isinstance(body, dict):
        said = body.get("message") or body.get("detail") or body
        return said if isinstance(said, str) else json.dumps(said)
    return body if isinstance(body, str) else ""
