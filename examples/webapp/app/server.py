"""Serve one page and its style sheet.

usage: server.py           serve on $PORT until stopped
       server.py --once    serve on a free port, fetch the page as a browser would, print it, end
"""

import os
import platform
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from greeting import GREETING

STYLE = Path(__file__).with_name("static") / "style.css"
PAGE = """<!doctype html>
<title>webapp</title>
<link rel="stylesheet" href="/style.css">
<main>
<h1>{greeting}</h1>
<p>Python {python}, process {pid}, in {directory}</p>
</main>
"""


class Handler(BaseHTTPRequestHandler):
    """Answers the two paths there are."""

    def do_GET(self) -> None:
        """Answer one GET."""
        if self.path == "/":
            text = PAGE.format(
                greeting=GREETING,
                python=platform.python_version(),
                pid=os.getpid(),
                directory=Path.cwd(),
            )
            self.answer(text.encode(), "text/html; charset=utf-8")
        elif self.path == "/style.css":
            self.answer(STYLE.read_bytes(), "text/css")
        else:
            self.send_error(404)

    def answer(self, body: bytes, media_type: str) -> None:
        """Send `body` as a complete response."""
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve_once() -> None:
    """Fetch both paths from a server on a free port and print them."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # A proxy from the environment could not reach this server.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for path in ("/", "/style.css"):
            with opener.open(f"http://127.0.0.1:{server.server_port}{path}") as response:
                sys.stdout.write(response.read().decode().rstrip() + "\n")
        server.shutdown()


if __name__ == "__main__":
    if "--once" in sys.argv[1:]:
        serve_once()
    else:
        port = int(os.environ.get("PORT", "8000"))
        sys.stdout.write(f"serving on port {port}\n")
        ThreadingHTTPServer(("", port), Handler).serve_forever()
