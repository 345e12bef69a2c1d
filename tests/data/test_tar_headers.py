"""Headers of tars: the same files at the same places as Python's tarfile finds."""

from __future__ import annotations

import io
import tarfile

import pytest

from arignote.data import tar_headers
from arignote.data.tar_headers import read_members

FORMS = [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]
NAMES = ["a.jpg", "sub/b.jpg", f"{'long' * 20}/{'name' * 20}.jpg", "Ä/ö.jpg", "d" * 100, "end.cls"]


def make(form, names=NAMES, mtime=0, **more):
    """A tar of files of 0, 700, 1400, ... bytes."""
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w", format=form, **more) as tar:
            for place, name in enumerate(names):
                member = tarfile.TarInfo(name)
                member.size, member.mtime = 700 * place, mtime
                if name.endswith("/"):
                    member.type = tarfile.DIRTYPE
                elif name.endswith(">"):
                    member.type, member.linkname, member.size = tarfile.SYMTYPE, "a.jpg", 0
                tar.addfile(member, io.BytesIO(bytes([place]) * member.size))
        return file.getvalue()


def ours(content):
    return [tuple(member)[:3] for member in read_members(io.BytesIO(content)) if member.is_plain]


def theirs(content):
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [(m.name, m.offset_data, m.size) for m in tar if m.isreg()]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mtime", [0, 1.5])
def test_the_same_as_tarfile(form, mtime):
    content = make(form, mtime=mtime)
    assert len(ours(content)) == len(NAMES)
    assert ours(content) == theirs(content)


def test_links_are_told_and_folders_left_out():
    content = make(tarfile.PAX_FORMAT, ["sub/", "sub/a.jpg", "link>", "b.jpg"])
    assert ours(content) == theirs(content)
    members = list(read_members(io.BytesIO(content)))
    assert [(member.name, member.is_plain) for member in members] == [
        ("sub/a.jpg", True),
        ("link>", False),
        ("b.jpg", True),
    ]


def test_a_tar_inside_a_file():
    content = make(tarfile.PAX_FORMAT)
    file = io.BytesIO(b"before" * 100 + content + make(tarfile.PAX_FORMAT, ["after"]))
    found = read_members(file, 600, 600 + len(content), needs_mark=True)
    assert [(m.name, m.offset_bytes - 600, m.length_bytes) for m in found] == theirs(content)


def test_a_header_of_all_files():
    content = make(tarfile.PAX_FORMAT, pax_headers={"comment": "of all"})
    assert ours(content) == theirs(content)


@pytest.mark.parametrize("mtime", [0, 1.5])
def test_plain_headers_need_no_tarfile(monkeypatch, mtime):
    content = make(tarfile.PAX_FORMAT, ["a.jpg", "b.jpg"], mtime)
    expected = theirs(content)

    def refuse(**arguments):
        raise AssertionError("opened")

    monkeypatch.setattr(tar_headers.tarfile, "open", refuse)
    assert ours(content) == expected


def test_the_end_may_lack_its_zeros():
    content = make(tarfile.USTAR_FORMAT, ["a.jpg", "b.jpg"])
    _, offset, size = theirs(content)[1]
    whole = offset + -(-size // 512) * 512
    for end in (whole, whole + 100, whole + 512, whole + 1024):
        assert ours(content[:end]) == theirs(content)
    file = io.BytesIO(content[:whole])
    with pytest.raises(tarfile.ReadError, match=rf"^no end mark at byte {whole:,}$"):
        list(read_members(file, needs_mark=True))


def test_tars_that_are_cut_or_damaged():
    content = make(tarfile.USTAR_FORMAT, ["a.jpg", "b.jpg", "c.jpg"])
    _, (_, first, size), (_, second, _) = theirs(content)
    with pytest.raises(tarfile.ReadError, match=rf"^it ends too early, at byte {first + size:,}$"):
        ours(content[: first + size])
    with pytest.raises(tarfile.ReadError, match=rf"^no header at byte {second - 512:,}$"):
        ours(content[: second - 400])
    damaged = bytearray(content)
    damaged[second - 512] ^= 1
    # Python's takes it for the end.
    assert len(theirs(damaged)) == 2
    with pytest.raises(tarfile.ReadError, match=rf"^no header at byte {second - 512:,}$"):
        ours(damaged)
    for nothing in (b"", b"no tar" * 200):
        with pytest.raises(tarfile.ReadError):
            ours(nothing)
    assert ours(bytes(1024)) == []
