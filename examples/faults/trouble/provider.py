"""A provider on loopback that refuses, breaks and stands still when it is asked to."""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER = {"text": "The tide turns at four.", "input_tokens": 120, "output_tokens": 8}
SLOW_SECONDS = 1.0
"""How long a question with the status 0 waits for its answer."""
PATIENCE_SECONDS = 0.2
"""How long a client waits for it; for other answers it waits as long as a busy machine takes."""
PATIENT_SECONDS = 10.0
MOST_TRIES = 4


class _Handler(BaseHTTPRequestHandler):
    """Answers `POST /STATUS/REFUSALS/QUESTION`: the first so many times by that status."""

    asked: ClassVar[Counter[str]] = Counter()
    lock: ClassVar = threading.Lock()

    def do_POST(self) -> None:
        """Refuse, stand still or answer."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        status, refusals, _ = self.path.strip("/").split("/", 2)
        with self.lock:
            self.asked[self.path] += 1
            refused = self.asked[self.path] <= int(refusals)
        if refused and status == "0":
            time.sleep(SLOW_SECONDS)
        body = json.dumps({"error": "not now"} if refused else ANSWER).encode()
        try:
            self.send_response(int(status) if refused and status != "0" else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # the client lost its patience
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - stdlib's name
        """Say nothing: the refusals are on purpose."""


@contextmanager
def provider() -> "Iterator[str]":
    """Serve on a free port of loopback; give the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class RefusedError(RuntimeError):
    """The provider still refuses after the last try."""


async def ask(url: str, status: int, refusals: int, question: str) -> dict[str, Any]:
    """Ask as the clients of providers do: again at once when refused, a few times.

    Raises:
        RefusedError: the last try was refused too.

    """
    patience = PATIENT_SECONDS if status else PATIENCE_SECONDS
    async with httpx.AsyncClient(timeout=patience, trust_env=False) as client:
        for _ in range(MOST_TRIES):
            try:
                response = await client.post(f"{url}/{status}/{refusals}/{question}", json={})
            except httpx.TimeoutException:
                continue
            if response.is_success:
                answer: dict[str, Any] = response.json()
                return answer
    message = f"refused {MOST_TRIES} times"
    raise RefusedError(message)
