"""One end of a WebRTC data channel, by aiortc.

    agent.py offer  TURN-URL USER PASSWORD COUNT    offers, by relayed candidates only; sends COUNT
                                                    messages and wants each one back
    agent.py answer                                 answers, by host candidates; echoes

Descriptions go in and out as lines of JSON on standard input and output. The offering end prints
{"echoed": COUNT} at last, and ends with 0 if that is all.
"""

import asyncio
import json
import sys

from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.rtcconfiguration import RTCIceTransportPolicy

LIMIT_SECS = 60


async def read_description():
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return RTCSessionDescription(**json.loads(line))


def print_description(description):
    print(json.dumps({"type": description.type, "sdp": description.sdp}), flush=True)


async def offer(url, user, password, count):
    server = RTCIceServer(urls=url, username=user, credential=password)
    connection = RTCPeerConnection(
        RTCConfiguration(iceServers=[server], iceTransportPolicy=RTCIceTransportPolicy.RELAY)
    )
    channel = connection.createDataChannel("echo")
    opened, echoed = asyncio.Event(), asyncio.Queue()
    channel.on("open", opened.set)
    channel.on("message", echoed.put_nowait)

    await connection.setLocalDescription(await connection.createOffer())
    print_description(connection.localDescription)
    await connection.setRemoteDescription(await read_description())
    await opened.wait()
    for number in range(count):
        message = number.to_bytes(4, "big") + bytes(number % 900)
        channel.send(message)
        if await echoed.get() != message:
            raise SystemExit(f"message {number} came back changed")
    print(json.dumps({"echoed": count}), flush=True)
    await connection.close()


async def answer():
    connection = RTCPeerConnection()

    @connection.on("datachannel")
    def on_channel(channel):
        channel.on("message", channel.send)

    await connection.setRemoteDescription(await read_description())
    await connection.setLocalDescription(await connection.createAnswer())
    print_description(connection.localDescription)
    await asyncio.Event().wait()


role, *arguments = sys.argv[1:]
if role == "offer":
    url, user, password, count = arguments
    asyncio.run(asyncio.wait_for(offer(url, user, password, int(count)), LIMIT_SECS))
else:
    asyncio.run(answer())
