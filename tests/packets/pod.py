"""A pod's program, ``pod.py ADDRESS PORT NODE POD``: says to whom a request was sent, and where it landed."""

import asyncio
import sys


async def serve(address: str, port: str, node: str, pod: str) -> None:
    """Answer every request with one line: the Host that it asks for, this node, this pod."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:-1])
        body = f"{headers['host'].split(':')[0]} {node} {pod}\n"
        # Each request has to find its own way: none may come by the connection of another.
        writer.write(
            f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        writer.close()

    server = await asyncio.start_server(answer, address, int(port), backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
