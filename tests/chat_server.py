"""An HTTP server on this machine that answers chat requests as a test's script says, one after another."""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """What one request gets: after `delay` seconds, or as a trickle that never ends, or a hang-up."""

    body: str = ""
    status: int = 200
    headers: dict = field(default_factory=dict)
    delay: float = 0.0
    trickles: bool = False
    hangs_up: bool = False


def says(content, finish_reason="stop", **fields) -> Reply:
    """A chat completion; text stands as it is, anything else becomes JSON."""
    text = content if isinstance(content, str | None) else json.dumps(content)
    message = {"role": "assistant", "content": text, **fields}
    return completes([{"index": 0, "finish_reason": finish_reason, "message": message}])


def completes(choices) -> Reply:
    reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}
    return Reply(json.dumps(reply))


def fails(status, message, code=None, **headers) -> Reply:
    error = {"message": message, "type": "error", "code": code}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(json.dumps({"error": error}), status, named)


class ChatServer:
    """Serves `replies` in turn while the context is open; `requests` are those it got."""

    def __init__(self, *replies: Reply):
        self.replies, self.requests, self.closing = list(replies), [], threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(self))
        self.http.daemon_threads, self.http.block_on_close = True, False
        self.http.handle_error = lambda *_: None  # a client that gave up waiting is no error here
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def __enter__(self):
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    @property
    def asked(self) -> list[str]:
        """What was last said in each request."""
        return [request["body"]["messages"][-1]["content"] for request in self.requests]


def make_handler(server: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append({"path": self.path, "headers": self.headers, "body": body})
            reply = server.replies.pop(0) if server.replies else Reply("the script is over", 418)
            server.closing.wait(reply.delay)
            if not reply.hangs_up:
                self.answer(reply)
            self.close_connection = True

        def answer(self, reply: Reply):
            data = reply.body.encode()
            self.send_response(reply.status)
            kind = {"Content-Type": "application/json", "Content-Length": str(len(data) or 1000)}
            for name, value in (kind | reply.headers).items():
                self.send_header(name, value)
            self.end_headers()
            while reply.trickles and not server.closing.wait(0.02):
                self.wfile.write(b" ")
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    return Handler
