from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Beat(_message.Message):
    __slots__ = ("node", "node_uid", "sequence", "usage")
    NODE_FIELD_NUMBER: _ClassVar[int]
    NODE_UID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    node: str
    node_uid: str
    sequence: int
    usage: bytes
    def __init__(self, node: _Optional[str] = ..., node_uid: _Optional[str] = ..., sequence: _Optional[int] = ..., usage: _Optional[bytes] = ...) -> None: ...

class BeatReply(_message.Message):
    __slots__ = ("sequence", "interval_ms")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    interval_ms: int
    def __init__(self, sequence: _Optional[int] = ..., interval_ms: _Optional[int] = ...) -> None: ...

class Heard(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeHeard]
    def __init__(self, nodes: _Optional[_Iterable[_Union[NodeHeard, _Mapping]]] = ...) -> None: ...

class NodeHeard(_message.Message):
    __slots__ = ("node", "age_ms")
    NODE_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    node: str
    age_ms: int
    def __init__(self, node: _Optional[str] = ..., age_ms: _Optional[int] = ...) -> None: ...

class Relayed(_message.Message):
    __slots__ = ("leads",)
    LEADS_FIELD_NUMBER: _ClassVar[int]
    leads: bool
    def __init__(self, leads: _Optional[bool] = ...) -> None: ...
