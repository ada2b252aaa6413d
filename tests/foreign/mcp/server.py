"""A server of tools by the official Python SDK: `server.py` over standard input and output, `server.py PORT` over HTTP.

tests/salon/mcp/foreign.rs calls it.
"""

import asyncio
import sys

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

server = MCPServer("foreign", log_level="WARNING")


class City(BaseModel):
    """A city, so that a schema has a reference in it."""

    name: str


class Forecast(BaseModel):
    """An answer with a structure."""

    city: str
    degrees: int


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def forecast(city: City) -> Forecast:
    """Says how warm it is."""
    return Forecast(city=city.name, degrees=21)


@server.tool()
def fail() -> str:
    """Fails."""
    raise ToolError("failed as it should")


@server.tool()
async def wait(seconds: float) -> str:
    """Waits."""
    await asyncio.sleep(seconds)
    return "waited"


def added() -> str:
    """Was not there before."""
    return "I am new"


@server.tool()
async def add_tool(context: Context) -> str:
    """Offers one more tool."""
    server.add_tool(added)
    await context.session.send_tool_list_changed()
    return "added"


if len(sys.argv) > 1:
    server.run("streamable-http", port=int(sys.argv[1]))
else:
    server.run("stdio")
