"""Requests that come while the network computes are computed together next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool

from datamodules.batch import Inputs

Answer = dict[str, Any]


class Batches:
    """Gives each request's row to the network, with those of others that wait.

    Args:
        predict: Inputs of some rows → the answer of each.
        most: Rows at once.
    """

    def __init__(self, predict: Callable[[list[Inputs]], list[Answer]], most: int) -> None:
        self.predict, self.most = predict, most
        self.waiting: asyncio.Queue[tuple[Inputs, asyncio.Future[Answer]]] = asyncio.Queue()

    async def answer(self, row: Inputs) -> Answer:
        """The answer to one row's input [1, ...]."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        await self.waiting.put((row, answer))
        return await answer

    async def work(self) -> None:
        """Answer, until it is cancelled."""
        while True:
            asked = [await self.waiting.get()]
            while len(asked) < self.most and not self.waiting.empty():
                asked.append(self.waiting.get_nowait())
            asked = [each for each in asked if not each[1].done()]  # whoever asked may have gone
            try:
                answers = await run_in_threadpool(self.predict, [row for row, _ in asked]) if asked else []
            except Exception as error:
                for answer in (each for _, each in asked if not each.done()):
                    answer.set_exception(error)
                continue
            for (_, answer), found in zip(asked, answers, strict=True):
                if not answer.done():
                    answer.set_result(found)
