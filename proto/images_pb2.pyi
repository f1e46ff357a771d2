from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LoadInput(_message.Message):
    __slots__ = ("start", "data")
    class Start(_message.Message):
        __slots__ = ("node", "size_bytes")
        NODE_FIELD_NUMBER: _ClassVar[int]
        SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
        node: str
        size_bytes: int
        def __init__(self, node: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...
    START_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    start: LoadInput.Start
    data: bytes
    def __init__(self, start: _Optional[_Union[LoadInput.Start, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class LoadReply(_message.Message):
    __slots__ = ("images",)
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, images: _Optional[_Iterable[str]] = ...) -> None: ...

class ListImagesRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class ListImagesReply(_message.Message):
    __slots__ = ("images",)
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[NodeImage]
    def __init__(self, images: _Optional[_Iterable[_Union[NodeImage, _Mapping]]] = ...) -> None: ...

class NodeImage(_message.Message):
    __slots__ = ("id", "names", "size_bytes", "in_use")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IN_USE_FIELD_NUMBER: _ClassVar[int]
    id: str
    names: _containers.RepeatedScalarFieldContainer[str]
    size_bytes: int
    in_use: bool
    def __init__(self, id: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ..., size_bytes: _Optional[int] = ..., in_use: _Optional[bool] = ...) -> None: ...

class RemoveImageRequest(_message.Message):
    __slots__ = ("node", "image")
    NODE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    node: str
    image: str
    def __init__(self, node: _Optional[str] = ..., image: _Optional[str] = ...) -> None: ...

class RemoveImageReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
