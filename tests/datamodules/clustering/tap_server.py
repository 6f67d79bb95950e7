"""A TAP server on 127.0.0.1 that answers like Gaia's: sync, async jobs, errors, row limits."""

import io
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from astropy.io.votable import from_table
from astropy.table import Table

UWS = """<?xml version="1.0" encoding="UTF-8"?>
<uws:job xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0"
 xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1">
<uws:jobId>{job}</uws:jobId><uws:phase>{phase}</uws:phase>
<uws:executionDuration>0</uws:executionDuration>
<uws:parameters><uws:parameter id="query">q</uws:parameter></uws:parameters>
<uws:results><uws:result id="result" xlink:href="{url}/results/result"/></uws:results>
{error}</uws:job>"""
ERROR = '<uws:errorSummary type="fatal"><uws:message>{}</uws:message></uws:errorSummary>'


@dataclass
class Archive:
    """What the server holds and how it misbehaves."""

    table: Table
    error: str | None = None
    row_limit: int | None = None
    overflow: bool = False
    cut_body: bool = False
    stuck: bool = False
    queries: list[str] = field(default_factory=list)
    maxrecs: list[str] = field(default_factory=list)
    requests: int = 0
    phases: list[str] = field(default_factory=list)
    url: str = ""

    def result(self, query: str) -> bytes:
        """Answer a query as a VOTable with its QUERY_STATUS."""
        if "COUNT(*)" in query:
            return _votable(Table({"number": [len(self.table)]}), overflow=False)
        names = re.match(r"SELECT (.*) FROM", query).group(1).split(", ")
        body = _votable(self.table[names][: self.row_limit], self.overflow)
        return body[: len(body) // 2] if self.cut_body else body


def _votable(table: Table, overflow: bool) -> bytes:
    buffer = io.BytesIO()
    from_table(table).to_xml(buffer)
    text = buffer.getvalue().decode()
    status = '<INFO name="QUERY_STATUS" value="{}"/>'
    text = re.sub(r"(<RESOURCE[^>]*>)", r"\1" + status.format("OK"), text, count=1)
    if overflow:
        text = text.replace("</RESOURCE>", status.format("OVERFLOW") + "</RESOURCE>")
    return text.encode()


class Handler(BaseHTTPRequestHandler):
    """Answers requests from `archive`."""

    archive: Archive

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, code: int, body: bytes = b"", kind: str = "text/xml", to: str = "") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if to:
            self.send_header("Location", to)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        archive = self.archive
        archive.requests += 1
        length = int(self.headers.get("Content-Length", 0))
        form = {k: v[0] for k, v in parse_qs(self.rfile.read(length).decode()).items()}
        if self.path == "/tap/sync":
            return self.answer(200, archive.result(form["QUERY"]))
        if self.path == "/tap/async":
            archive.queries.append(form["QUERY"])
            archive.maxrecs.append(form.get("MAXREC", ""))
            archive.phases.append("PENDING")
            return self.answer(303, to=f"{archive.url}/async/{len(archive.queries) - 1}")
        job = int(self.path.split("/")[3])
        archive.phases[job] = "ERROR" if archive.error else "COMPLETED"
        if archive.stuck:
            archive.phases[job] = "EXECUTING"
        return self.answer(303, to=f"{archive.url}/async/{job}")

    def do_GET(self) -> None:
        archive = self.archive
        archive.requests += 1
        job = int(self.path.split("?")[0].split("/")[3])
        if self.path.endswith("/phase"):
            return self.answer(200, archive.phases[job].encode(), "text/plain")
        if self.path.endswith("/results/result"):
            return self.answer(200, archive.result(archive.queries[job]))
        url, error = f"{archive.url}/async/{job}", ERROR.format(archive.error)
        xml = UWS.format(
            job=job, phase=archive.phases[job], url=url, error=error if archive.error else ""
        )
        return self.answer(200, xml.encode())

    def do_DELETE(self) -> None:
        self.answer(200)


def serve(archive: Archive) -> ThreadingHTTPServer:
    """Start the server in a thread; `archive.url` is its address."""
    bound = type("Bound", (Handler,), {"archive": archive})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    archive.url = f"http://127.0.0.1:{server.server_port}/tap"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server
