"""A service on a socket of its own, asked by many at once, and by those who ask wrongly."""

import base64
import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
import uvicorn
from PIL import Image
from rows import FEATURES, configuration

from app.runs import Run, load_run
from app.serving import Limits, service

JSON = "application/json"


class Server(uvicorn.Server):
    """One that tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @property
    def port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])


@contextmanager
def serving(run: Run, limits: Limits) -> Iterator[int]:
    server = Server(uvicorn.Config(service(run, limits), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    server.listens.wait()
    yield server.port
    server.should_exit = True
    thread.join()


def ask(port: int, body: bytes = b"", kind: str = JSON, path: str = "/predict", how: str = "POST") -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(how, path, body, {"Content-Type": kind})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


CASCADE = ["--model.tasks.kind.reads", "[old, weight, tags]"]


@pytest.mark.parametrize(("kind", "options"), [("table", []), ("table", CASCADE), ("images", []), ("both", [])])
def test_many_at_once_get_what_predict_gives(train_here: Callable, kind: str, options: list[str]) -> None:
    train_here("fit", "--config", str(configuration(kind)), *options)
    run, frame = load_run(f"runs/{kind}"), pl.read_csv("rows.csv").head(64)
    expected = run.predict(frame, probabilities=True).to_dicts()
    names = [*(["image"] if kind == "both" else []), *FEATURES]
    bodies = []
    for row in frame.to_dicts():
        if kind == "images":
            bodies.append((Path(row["image"]).read_bytes(), "image/png"))
            continue
        cells = {name: row[name] for name in names}
        if kind == "both":
            cells["image"] = base64.b64encode(Path(row["image"]).read_bytes()).decode()
        bodies.append((json.dumps(cells).encode(), JSON))
    with serving(run, Limits()) as port, ThreadPoolExecutor(64) as clients:
        answers = list(clients.map(lambda body: ask(port, *body), bodies))
        assert ask(port, path="/health", how="GET") == (200, {"status": "ok"})
        status, metadata = ask(port, path="/metadata", how="GET")
    assert {status for status, _ in answers} == {200}
    for (_, answer), row in zip(answers, expected, strict=True):
        assert answer.keys() == row.keys()
        for name, value in row.items():
            assert answer[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-5, abs=1e-6))
    assert status == 200
    assert metadata["outputs"]["kind"]["classes"] == ["ant", "bee", "cat"]
    assert str(Path.cwd()) not in json.dumps(metadata)


def test_what_is_wrong_is_told_in_a_sentence(train_here: Callable) -> None:
    train_here("fit", "--config", str(configuration("both")))
    run, row = load_run("runs/both"), pl.read_csv("rows.csv").row(0, named=True)
    picture = Path(row["image"]).read_bytes()
    good = {name: row[name] for name in FEATURES} | {"image": base64.b64encode(picture).decode()}
    jpeg = io.BytesIO()
    Image.new("RGB", (9, 8)).save(jpeg, "JPEG")
    small = io.BytesIO()
    Image.new("RGB", (2, 2)).save(small, "PNG")

    def with_(**cells: object) -> bytes:
        return json.dumps(good | cells).encode()

    wrong = {
        "not JSON": b"{",
        "not UTF-8": b"\xff\xfe",
        "nothing": b"",
        "a number": b"7",
        "an empty list": b"[]",
        "a list of numbers": b"[1, 2]",
        "NaN": with_(age=1).replace(b'"age": 1', b'"age": NaN'),
        "infinity": with_(age=1).replace(b'"age": 1', b'"age": 1e999'),
        "beyond 32 bits": with_(age=1e300),
        "another column": with_(colour="red"),
        "a column less": json.dumps({name: each for name, each in good.items() if name != "hue"}).encode(),
        "a text for a number": with_(age="old"),
        "a list for a number": with_(age=[1]),
        "a category never seen": with_(hue="pink"),
        "no date": with_(seen="soon"),
        "no image": with_(image=""),
        "an image that is no base64": with_(image="§"),
        "half an image": with_(image=base64.b64encode(picture[: len(picture) // 2]).decode()),
        "half a JPEG": with_(image=base64.b64encode(jpeg.getvalue()[:-40]).decode()),
        "an image of another size": with_(image=base64.b64encode(small.getvalue()).decode()),
        "too many rows": b"[" + b",".join([json.dumps(good).encode()] * 9) + b"]",
        "too deep": b"[" * 100_000,
    }
    with serving(run, Limits(batch_size=8, megabytes=1)) as port:
        for name, body in wrong.items():
            status, answer = ask(port, body)
            assert (name, status) == (name, 422)
            assert list(answer) == ["error"]
            assert str(Path.cwd()) not in answer["error"]
            assert "0x" not in answer["error"]
        assert ask(port, picture, "image/png")[0] == 422  # whose features are missing
        assert ask(port, json.dumps(good).encode(), "text/csv")[0] == 415
        assert ask(port, bytes(50_000_000))[0] == 413
        assert ask(port, how="GET")[0] == 405
        assert ask(port, path="/nowhere")[0] == 404
        status, answers = ask(port, json.dumps([good, good]).encode())
        assert (status, len(answers)) == (200, 2)  # it is still there
        alone = ask(port, json.dumps(good).encode())[1]
        for answer in answers:
            assert answer["weight (g)"] == pytest.approx(alone["weight (g)"], rel=1e-5)
