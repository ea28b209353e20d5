"""The management API's route to take other settings."""

from dataclasses import asdict

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from byokd.http.managed import problem
from byokd.http.switching import RELOAD_PATH
from byokd.runtime.reloading import Reloader, ReloadUnderWayError


def reload_route(reloader: Reloader) -> APIRouter:
    """Give the route; it answers when the settings have been taken, or with every mistake."""
    router = APIRouter()

    async def reload() -> JSONResponse:
        try:
            reloaded = await reloader.begin()
        except ReloadUnderWayError:
            raise problem(409, "another reload is under way", "wait for it, then look at the log") from None
        if reloaded.mistakes:
            return JSONResponse({"mistakes": [asdict(mistake) for mistake in reloaded.mistakes]}, status_code=422)
        return JSONResponse({"changed": list(reloaded.changed)})

    router.post(RELOAD_PATH, response_model=None)(reload)
    return router
