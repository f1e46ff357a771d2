"""The sandbox's image, made here: one static program of some 250 bytes.

The program, assembled by hand for amd64 and arm64, is the first process of a pod's sandbox. It lets the kernel reap
every orphan (SIGCHLD ignored with SA_NOCLDWAIT), blocks SIGTERM and SIGINT, which the kernel would otherwise withhold
from a namespace's first process, and waits for either; then it exits with 0. It needs no libc, no stack and no memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Callable
from typing import NamedTuple

REPOSITORY = "barque/pause"
PROGRAM = "pause"

_SIGINT, _SIGTERM, _SIGCHLD = 2, 15, 17
_SIG_IGN, _SA_NOCLDWAIT = 1, 2
_SIGSET_BYTES = 8
_EM_X86_64, _EM_AARCH64 = 62, 183

# struct kernel_sigaction {handler, flags, restorer, mask}, then the set of awaited signals (bit n-1 is signal n).
_ACTION = struct.pack("<4Q", _SIG_IGN, _SA_NOCLDWAIT, 0, 0)
_AWAITED = struct.pack("<Q", 1 << (_SIGINT - 1) | 1 << (_SIGTERM - 1))
_DATA = _ACTION + _AWAITED
_AWAITED_AT = len(_ACTION)


def _code_amd64(data_at: int) -> bytes:
    """x86-64 machine code; `data_at` is the offset of `_DATA` from its start."""
    code = b""

    def lea(modrm: int, offset: int) -> bytes:
        """lea r64, [rip + distance to the data]: 7 bytes long, and rip is already past them."""
        return b"\x48\x8d" + bytes([modrm]) + struct.pack("<i", data_at + offset - (len(code) + 7))

    def mov(opcode: int, value: int) -> bytes:
        return bytes([opcode]) + struct.pack("<I", value)

    eax, edi, rsi_rip, rdi_rip = 0xB8, 0xBF, 0x35, 0x3D
    no_edi, no_esi, no_edx = b"\x31\xff", b"\x31\xf6", b"\x31\xd2"
    set_size = b"\x41\xba" + struct.pack("<I", _SIGSET_BYTES)  # mov r10d, 8
    syscall = b"\x0f\x05"
    code += mov(edi, _SIGCHLD)
    code += lea(rsi_rip, 0)
    code += no_edx + set_size + mov(eax, 13) + syscall  # rt_sigaction(SIGCHLD, action, NULL, 8)
    code += no_edi  # SIG_BLOCK
    code += lea(rsi_rip, _AWAITED_AT)
    code += no_edx + set_size + mov(eax, 14) + syscall  # rt_sigprocmask(SIG_BLOCK, awaited, NULL, 8)
    wait_at = len(code)
    code += lea(rdi_rip, _AWAITED_AT)
    code += no_esi + no_edx + set_size + mov(eax, 128) + syscall  # rt_sigtimedwait(awaited, NULL, NULL, 8)
    code += b"\x85\xc0"  # test eax, eax
    code += b"\x7e" + struct.pack("<b", wait_at - (len(code) + 2))  # jle wait: interrupted by some other signal
    return code + no_edi + mov(eax, 231) + syscall  # exit_group(0)


def _code_arm64(data_at: int) -> bytes:
    """AArch64 machine code; `data_at` is the offset of `_DATA` from its start."""
    words: list[int] = []

    def movz(register: int, value: int) -> None:
        words.append(0xD2800000 | value << 5 | register)

    def adr(register: int, offset: int) -> None:
        distance = data_at + offset - 4 * len(words)
        words.append(0x10000000 | (distance & 3) << 29 | (distance >> 2 & 0x7FFFF) << 5 | register)

    def call(number: int) -> None:
        movz(8, number)
        words.append(0xD4000001)  # svc #0

    movz(0, _SIGCHLD)
    adr(1, 0)
    movz(2, 0)
    movz(3, _SIGSET_BYTES)
    call(134)  # rt_sigaction(SIGCHLD, action, NULL, 8)
    movz(0, 0)  # SIG_BLOCK
    adr(1, _AWAITED_AT)
    movz(2, 0)
    movz(3, _SIGSET_BYTES)
    call(135)  # rt_sigprocmask(SIG_BLOCK, awaited, NULL, 8)
    wait_at = len(words)
    adr(0, _AWAITED_AT)
    movz(1, 0)
    movz(2, 0)
    movz(3, _SIGSET_BYTES)
    call(137)  # rt_sigtimedwait(awaited, NULL, NULL, 8)
    words.append(0xF100001F)  # cmp x0, #0
    words.append(0x5400000D | ((wait_at - len(words)) & 0x7FFFF) << 5)  # b.le wait
    movz(0, 0)
    call(94)  # exit_group(0)
    return struct.pack(f"<{len(words)}I", *words)


class _Machine(NamedTuple):
    elf_machine: int
    code: Callable[[int], bytes]


_MACHINES = {"amd64": _Machine(_EM_X86_64, _code_amd64), "arm64": _Machine(_EM_AARCH64, _code_arm64)}
ARCHITECTURES = tuple(_MACHINES)


def program(architecture: str) -> bytes:
    """The static ELF executable for "amd64" or "arm64": header, one loadable segment, code, data. Raises ValueError."""
    machine = _MACHINES.get(architecture)
    if machine is None:
        raise ValueError(f"barque has no sandbox program for {architecture}; it runs on {' and '.join(ARCHITECTURES)}")
    base, header_bytes = 0x400000, 64 + 56
    length = len(machine.code(0))
    data_at = -(-length // 8) * 8
    body = machine.code(data_at).ljust(data_at, b"\0") + _DATA
    size = header_bytes + len(body)
    ident = b"\x7fELF" + bytes([2, 1, 1, 0]) + bytes(8)
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH", 2, machine.elf_machine, 1, base + header_bytes, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return header + segment + body


class PauseImage(NamedTuple):
    """`archive` is what `docker load` takes; `tag` changes whenever the content does."""

    tag: str
    archive: bytes


def image(architecture: str) -> PauseImage:
    """The image, bit for bit the same every time. Raises ValueError for an architecture it does not know."""
    layer = _tar({PROGRAM: program(architecture)}, mode=0o755)
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"Entrypoint": [f"/{PROGRAM}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "barque"}],
    }
    config_json = json.dumps(config, sort_keys=True).encode()
    name = f"{hashlib.sha256(config_json).hexdigest()}.json"
    tag = f"{REPOSITORY}:1-{digest[:12]}"
    manifest = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": [f"{digest}/layer.tar"]}]).encode()
    return PauseImage(tag, _tar({name: config_json, f"{digest}/layer.tar": layer, "manifest.json": manifest}))


def _tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            archive.addfile(entry, io.BytesIO(data))
    return held.getvalue()
