"""A question in the terminal waits for a model that is being loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from running_server import ROOT


class LoadingServer(ThreadingHTTPServer):
    """Answers once its model is in memory: at the third time of asking."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                server.asked += 1
                if server.asked < 3:
                    loading = {"model": "m", "stage": "compiling", "progress": 0.85, "elapsed_s": 3, "expected_s": 4}
                    self._send(503, json.dumps({"error": {"message": "being loaded", "loading": loading}}))
                else:
                    self._send(200, 'data: {"choices": [{"delta": {"content": "Here."}}]}\n\ndata: [DONE]\n\n')

            def _send(self, status: int, text: str) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:
                """Silence."""

        super().__init__(("127.0.0.1", 0), Handler)


def test_a_question_to_a_model_that_is_being_loaded_waits_for_it(tmp_path: Path) -> None:
    with LoadingServer() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        environ = {"THOX_STATE_DIR": str(tmp_path), "THOX_INFERENCE_PORT": str(server.server_address[1])}
        done = subprocess.run(
            [sys.executable, "-m", "agent", "chat", "m", "Where?", "--key", "k"],
            env={**environ, "PATH": os.environ["PATH"]}, cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        server.shutdown()
    assert (done.returncode, done.stdout, server.asked) == (0, "Here.\n", 3), done.stderr
