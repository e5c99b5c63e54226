"""The HTTP service of a trained network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from app.exports.description import description
from app.runs import Run
from app.serving.batching import Answer, Batches
from app.serving.requests import is_list, rows_of
from datamodules.batch import Inputs, map_inputs
from datamodules.errors import DataError


@dataclass
class Limits:
    """What a request may take.

    Args:
        batch_size: Rows that the network computes at once, and rows of one request.
        megabytes: Largest size of a request's body.
        seconds: Time until a request is answered, or refused.
    """

    batch_size: int = 32
    megabytes: float = 20
    seconds: float = 30


def service(run: Run, limits: Limits) -> FastAPI:
    """The application: `POST /predict`, `GET /health`, `GET /metadata`.

    A request to `/predict` is an image, or JSON by column (or a list of such rows); the answer is JSON by column, as
    `predict` writes it, with the probability of every class. What is wrong with a request is told in one sentence,
    `{"error": …}`, with a status of 400 to 499.

    Args:
        run: The run.
        limits: What a request may take.
    """
    batches = Batches(lambda rows: _answers(run, rows), limits.batch_size)

    @asynccontextmanager
    async def working(app: FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(batches.work())
        yield
        worker.cancel()

    app = FastAPI(title="Polyhead", lifespan=working, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(HTTPException, _refused)
    metadata = description(run.contract, dict(run.network.tasks.items())) | {"name": run.configuration.get("name")}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metadata")
    async def about() -> dict[str, Any]:
        return metadata

    @app.post("/predict")
    async def predict(request: Request) -> JSONResponse:
        body = await _body(request, limits)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            async with asyncio.timeout(limits.seconds):
                rows = await run_in_threadpool(_read, run, body, kind, limits)
                answers = await asyncio.gather(*(batches.answer(row) for row in rows))
        except TimeoutError:
            raise HTTPException(503, f"no answer within {limits.seconds} seconds") from None
        return JSONResponse(answers if is_list(body) and kind == "application/json" else answers[0])

    return app


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _body(request: Request, limits: Limits) -> bytes:
    """The body, of which no more is read than there may be."""
    most, body = limits.megabytes * 1e6, bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise HTTPException(413, f"the request must have at most {limits.megabytes:g} MB")
    return bytes(body)


def _read(run: Run, body: bytes, kind: str, limits: Limits) -> list[Inputs]:
    """The inputs [1, ...] of each row."""
    try:
        split = rows_of(body, kind, run.contract)
        if len(split) > limits.batch_size:
            raise DataError("the request", f"must have at most {limits.batch_size} rows", len(split))
        inputs = run.read(split, torch.arange(len(split)))
    except DataError as error:
        raise HTTPException(415 if "Content-Type" in error.rule else 422, str(error)) from None
    return [map_inputs(lambda x, row=row: x[row : row + 1], inputs) for row in range(len(split))]


def _answers(run: Run, rows: list[Inputs]) -> list[Answer]:
    """What is predicted of each row."""
    inputs = map_inputs(lambda *xs: torch.cat(xs).to(run.device), *rows)
    everything = torch.arange(len(rows), device=run.device)
    with torch.inference_mode():
        outputs = run.network(inputs, dict.fromkeys(run.network.tasks, everything))
        columns = run.network.decoded(outputs, probabilities=True)
    plain = {
        name: [each.tolist() if hasattr(each, "tolist") else each for each in values]
        for name, values in columns.items()
    }
    return [{name: values[row] for name, values in plain.items()} for row in range(len(rows))]
