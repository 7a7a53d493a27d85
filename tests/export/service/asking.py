"""Asks a service again and again until a file appears, and checks every answer; a process of its own.

python tests/export/service/asking.py ADDRESS EXPECTED.json STOP_FILE REPORT.json

EXPECTED has `histories`, `k`, and for each version the items and scores of each history.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

CLIENTS = 3
PAUSE = 0.005  # else the cores are theirs alone


async def ask(reader, writer, path, body):
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    answered = await reader.readuntil(b"\r\n\r\n")
    lines = answered.lower().split(b"\r\n")
    length = next(line.partition(b":")[2] for line in lines if line.startswith(b"content-length:"))
    return int(answered.split(b" ", 2)[1]), json.loads(await reader.readexactly(int(length)))


def is_right(answer, expected, number):
    """Whether items and scores are those of the version that it names, and of no other."""
    wanted = expected["versions"].get(answer["version"])
    return (
        wanted is not None
        and answer["items"] == wanted[number]["items"]
        and all(abs(a - b) < 1e-4 for a, b in zip(answer["scores"], wanted[number]["scores"], strict=True))
    )


async def main(address, expected, stop):
    host, port = address.removeprefix("http://").split(":")
    histories, k = expected["histories"], expected["k"]
    report = {"answers": 0, "seen": {}, "failed": [], "wrong": [], "mixed": [], "slowest": 0.0}

    async def client(first):
        reader, writer = await asyncio.open_connection(host, int(port))
        turn = first
        while not stop.exists():
            turn += 1
            await asyncio.sleep(PAUSE)
            number = turn % len(histories)
            started = time.perf_counter()
            if turn % 4:
                common = {"history": histories[number], "k": k, "timeout_ms": 60_000}
                status, answer = await ask(reader, writer, "/recommend", common)
                answers = {number: answer}
            else:
                common = {"histories": histories, "k": k, "timeout_ms": 60_000}
                status, answer = await ask(reader, writer, "/recommend/batch", common)
                answers = dict(enumerate(answer.get("answers", [])))
            report["slowest"] = max(report["slowest"], time.perf_counter() - started)
            if status != 200:
                report["failed"].append([status, answer])
                continue
            report["answers"] += len(answers)
            for number, one in answers.items():
                report["seen"][one["version"]] = report["seen"].get(one["version"], 0) + 1
                if not is_right(one, expected, number):
                    report["wrong"].append(one)
            if len({one["version"] for one in answers.values()}) > 1:
                report["mixed"].append(answer)
        writer.close()

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return report


if __name__ == "__main__":
    address, expected, stop, report = sys.argv[1:]
    found = asyncio.run(main(address, json.loads(Path(expected).read_text()), Path(stop)))
    Path(report).write_text(json.dumps(found))
