from barque.proto import pods_pb2 as _pods_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReadRequest(_message.Message):
    __slots__ = ("path", "query")
    PATH_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    path: str
    query: str
    def __init__(self, path: _Optional[str] = ..., query: _Optional[str] = ...) -> None: ...

class ReadOutput(_message.Message):
    __slots__ = ("head", "data")
    class Head(_message.Message):
        __slots__ = ("code", "content_type")
        CODE_FIELD_NUMBER: _ClassVar[int]
        CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
        code: int
        content_type: str
        def __init__(self, code: _Optional[int] = ..., content_type: _Optional[str] = ...) -> None: ...
    HEAD_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    head: ReadOutput.Head
    data: bytes
    def __init__(self, head: _Optional[_Union[ReadOutput.Head, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class StatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatsReply(_message.Message):
    __slots__ = ("node", "pods")
    NODE_FIELD_NUMBER: _ClassVar[int]
    PODS_FIELD_NUMBER: _ClassVar[int]
    node: NodeStats
    pods: _containers.RepeatedCompositeFieldContainer[PodStats]
    def __init__(self, node: _Optional[_Union[NodeStats, _Mapping]] = ..., pods: _Optional[_Iterable[_Union[PodStats, _Mapping]]] = ...) -> None: ...

class NodeStats(_message.Message):
    __slots__ = ("cpu", "memory", "filesystem")
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    FILESYSTEM_FIELD_NUMBER: _ClassVar[int]
    cpu: CpuStats
    memory: MemoryStats
    filesystem: FilesystemStats
    def __init__(self, cpu: _Optional[_Union[CpuStats, _Mapping]] = ..., memory: _Optional[_Union[MemoryStats, _Mapping]] = ..., filesystem: _Optional[_Union[FilesystemStats, _Mapping]] = ...) -> None: ...

class PodStats(_message.Message):
    __slots__ = ("namespace", "name", "uid", "containers", "cpu", "memory", "network")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    uid: str
    containers: _containers.RepeatedCompositeFieldContainer[ContainerStats]
    cpu: CpuStats
    memory: MemoryStats
    network: NetworkStats
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., uid: _Optional[str] = ..., containers: _Optional[_Iterable[_Union[ContainerStats, _Mapping]]] = ..., cpu: _Optional[_Union[CpuStats, _Mapping]] = ..., memory: _Optional[_Union[MemoryStats, _Mapping]] = ..., network: _Optional[_Union[NetworkStats, _Mapping]] = ...) -> None: ...

class ContainerStats(_message.Message):
    __slots__ = ("name", "started_at", "cpu", "memory", "filesystem")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    FILESYSTEM_FIELD_NUMBER: _ClassVar[int]
    name: str
    started_at: str
    cpu: CpuStats
    memory: MemoryStats
    filesystem: FilesystemStats
    def __init__(self, name: _Optional[str] = ..., started_at: _Optional[str] = ..., cpu: _Optional[_Union[CpuStats, _Mapping]] = ..., memory: _Optional[_Union[MemoryStats, _Mapping]] = ..., filesystem: _Optional[_Union[FilesystemStats, _Mapping]] = ...) -> None: ...

class CpuStats(_message.Message):
    __slots__ = ("time", "usage_core_ns")
    TIME_FIELD_NUMBER: _ClassVar[int]
    USAGE_CORE_NS_FIELD_NUMBER: _ClassVar[int]
    time: str
    usage_core_ns: int
    def __init__(self, time: _Optional[str] = ..., usage_core_ns: _Optional[int] = ...) -> None: ...

class MemoryStats(_message.Message):
    __slots__ = ("usage_bytes", "working_set_bytes", "rss_bytes", "limit_bytes")
    USAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    WORKING_SET_BYTES_FIELD_NUMBER: _ClassVar[int]
    RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    usage_bytes: int
    working_set_bytes: int
    rss_bytes: int
    limit_bytes: int
    def __init__(self, usage_bytes: _Optional[int] = ..., working_set_bytes: _Optional[int] = ..., rss_bytes: _Optional[int] = ..., limit_bytes: _Optional[int] = ...) -> None: ...

class FilesystemStats(_message.Message):
    __slots__ = ("used_bytes", "capacity_bytes", "available_bytes")
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    used_bytes: int
    capacity_bytes: int
    available_bytes: int
    def __init__(self, used_bytes: _Optional[int] = ..., capacity_bytes: _Optional[int] = ..., available_bytes: _Optional[int] = ...) -> None: ...

class NetworkStats(_message.Message):
    __slots__ = ("received_bytes", "sent_bytes", "receive_errors", "send_errors")
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECEIVE_ERRORS_FIELD_NUMBER: _ClassVar[int]
    SEND_ERRORS_FIELD_NUMBER: _ClassVar[int]
    received_bytes: int
    sent_bytes: int
    receive_errors: int
    send_errors: int
    def __init__(self, received_bytes: _Optional[int] = ..., sent_bytes: _Optional[int] = ..., receive_errors: _Optional[int] = ..., send_errors: _Optional[int] = ...) -> None: ...
