"""How the control API is asked, and how it says no: JSON with `error` and `hint`."""

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, TypeVar

from aiohttp import web
from pydantic import ValidationError

from byokd.emulator.commands import Command
from byokd.emulator.refusals import Refusal, WorldError

PREFIX: Final = "/_control"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
C = TypeVar("C", bound=Command)


async def read_command(request: web.Request, model: type[C]) -> C:
    """The command in the body; pydantic's ValidationError when it does not fit the model."""
    text = await request.text()
    return model.model_validate_json(text or "{}")


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what cannot be done into JSON with `error` and `hint`."""
    try:
        return await handler(request)
    except WorldError as error:
        return _error(error.status, error.message, error.hint)
    except Refusal as refusal:
        return _error(refusal.status, refusal.message, "see the key in `byokd emulator state`")
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        wrong = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg'].removeprefix('Value error, ')}" for one in found
        )
        return _error(HTTPStatus.BAD_REQUEST, f"the request does not fit: {wrong}", "docs/emulator.md lists the fields")
    except web.HTTPException as error:
        hint = "docs/emulator.md lists the control API"
        return _error(error.status, f"{request.method} {request.path}: {error.reason.lower()}", hint)


def _error(status: int, message: str, hint: str) -> web.Response:
    document: Mapping[str, str] = {"error": message, "hint": hint}
    return web.Response(status=status, text=json.dumps(document), content_type="application/json")
