from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Beat(_message.Message):
    __slots__ = ("node", "node_uid", "sequence")
    NODE_FIELD_NUMBER: _ClassVar[int]
    NODE_UID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    node: str
    node_uid: str
    sequence: int
    def __init__(self, node: _Optional[str] = ..., node_uid: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...

class BeatReply(_message.Message):
    __slots__ = ("sequence", "interval_ms")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    interval_ms: int
    def __init__(self, sequence: _Optional[int] = ..., interval_ms: _Optional[int] = ...) -> None: ...
