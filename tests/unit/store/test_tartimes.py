"""Times in a tar are clamped, and nothing else changes."""

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from store.tartimes import clamped

EPOCH = 1_700_000_000


def made(times: list[float], format: int, size: int = 700) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for number, time in enumerate(times):
            member = tarfile.TarInfo(f"{'d' * (90 * (number % 2))}/{'n' * 90}-{number}")
            member.size, member.mtime = size * (number % 3), time  # type: ignore[assignment]
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return buffer.getvalue()


def read(data: bytes) -> list[tuple[str, int, float, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [
            (m.name, m.size, m.mtime, (archive.extractfile(m) or io.BytesIO()).read())
            for m in archive
        ]


@given(
    times=st.lists(st.integers(0, 2 * EPOCH), max_size=6),
    fraction=st.sampled_from([0, 0.25]),
    format=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    chunk=st.sampled_from([100, 512, 1 << 16]),
)
def test_later_times_become_the_epoch(
    times: list[int], fraction: float, format: int, chunk: int
) -> None:
    exact = [time + fraction if format == tarfile.PAX_FORMAT else time for time in times]
    data = made(exact, format)
    pieces = (data[at : at + chunk] for at in range(0, len(data), chunk))
    changed = b"".join(clamped(pieces, EPOCH))
    expected = [(name, size, min(time, EPOCH), body) for name, size, time, body in read(data)]
    assert read(changed) == expected
    if all(time <= EPOCH for time in exact):
        assert changed == data
