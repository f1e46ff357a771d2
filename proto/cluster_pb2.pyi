from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("cluster_id", "version", "members", "revision", "components", "https_port", "store", "group")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    HTTPS_PORT_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    version: str
    members: _containers.RepeatedCompositeFieldContainer[Member]
    revision: int
    components: _containers.RepeatedCompositeFieldContainer[Component]
    https_port: int
    store: StoreFigures
    group: Group
    def __init__(self, cluster_id: _Optional[str] = ..., version: _Optional[str] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ..., revision: _Optional[int] = ..., components: _Optional[_Iterable[_Union[Component, _Mapping]]] = ..., https_port: _Optional[int] = ..., store: _Optional[_Union[StoreFigures, _Mapping]] = ..., group: _Optional[_Union[Group, _Mapping]] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("member", "leader", "term", "last_index", "commit", "applied", "election_timeout_ms", "stall_ms", "fsync_ms", "faults", "quorum_lost", "advice")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    ELECTION_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    STALL_MS_FIELD_NUMBER: _ClassVar[int]
    FSYNC_MS_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    QUORUM_LOST_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    member: str
    leader: str
    term: int
    last_index: int
    commit: int
    applied: int
    election_timeout_ms: float
    stall_ms: float
    fsync_ms: float
    faults: _containers.RepeatedScalarFieldContainer[str]
    quorum_lost: bool
    advice: str
    def __init__(self, member: _Optional[str] = ..., leader: _Optional[str] = ..., term: _Optional[int] = ..., last_index: _Optional[int] = ..., commit: _Optional[int] = ..., applied: _Optional[int] = ..., election_timeout_ms: _Optional[float] = ..., stall_ms: _Optional[float] = ..., fsync_ms: _Optional[float] = ..., faults: _Optional[_Iterable[str]] = ..., quorum_lost: _Optional[bool] = ..., advice: _Optional[str] = ...) -> None: ...

class StoreFigures(_message.Message):
    __slots__ = ("objects", "log_bytes", "snapshot_bytes", "fsync_p50_ms", "fsync_p99_ms", "loop_stall_max_ms", "key_id", "key_created")
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    LOG_BYTES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_BYTES_FIELD_NUMBER: _ClassVar[int]
    FSYNC_P50_MS_FIELD_NUMBER: _ClassVar[int]
    FSYNC_P99_MS_FIELD_NUMBER: _ClassVar[int]
    LOOP_STALL_MAX_MS_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_CREATED_FIELD_NUMBER: _ClassVar[int]
    objects: int
    log_bytes: int
    snapshot_bytes: int
    fsync_p50_ms: float
    fsync_p99_ms: float
    loop_stall_max_ms: float
    key_id: str
    key_created: str
    def __init__(self, objects: _Optional[int] = ..., log_bytes: _Optional[int] = ..., snapshot_bytes: _Optional[int] = ..., fsync_p50_ms: _Optional[float] = ..., fsync_p99_ms: _Optional[float] = ..., loop_stall_max_ms: _Optional[float] = ..., key_id: _Optional[str] = ..., key_created: _Optional[str] = ...) -> None: ...

class SaveSnapshotRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("data", "total_bytes")
    DATA_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    total_bytes: int
    def __init__(self, data: _Optional[bytes] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class RestoreSnapshotReply(_message.Message):
    __slots__ = ("revision", "objects")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    objects: int
    def __init__(self, revision: _Optional[int] = ..., objects: _Optional[int] = ...) -> None: ...

class RotateKeyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RotateKeyReply(_message.Message):
    __slots__ = ("key_id", "secrets")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    secrets: int
    def __init__(self, key_id: _Optional[str] = ..., secrets: _Optional[int] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("name", "address", "leader", "id", "peer_address", "voter", "match", "silent_s", "state")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VOTER_FIELD_NUMBER: _ClassVar[int]
    MATCH_FIELD_NUMBER: _ClassVar[int]
    SILENT_S_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    name: str
    address: str
    leader: bool
    id: str
    peer_address: str
    voter: bool
    match: int
    silent_s: float
    state: str
    def __init__(self, name: _Optional[str] = ..., address: _Optional[str] = ..., leader: _Optional[bool] = ..., id: _Optional[str] = ..., peer_address: _Optional[str] = ..., voter: _Optional[bool] = ..., match: _Optional[int] = ..., silent_s: _Optional[float] = ..., state: _Optional[str] = ...) -> None: ...

class Component(_message.Message):
    __slots__ = ("name", "healthy", "message")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    name: str
    healthy: bool
    message: str
    def __init__(self, name: _Optional[str] = ..., healthy: _Optional[bool] = ..., message: _Optional[str] = ...) -> None: ...

class CreateJoinTokenRequest(_message.Message):
    __slots__ = ("ttl_s", "for_master")
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    FOR_MASTER_FIELD_NUMBER: _ClassVar[int]
    ttl_s: int
    for_master: bool
    def __init__(self, ttl_s: _Optional[int] = ..., for_master: _Optional[bool] = ...) -> None: ...

class CreateJoinTokenReply(_message.Message):
    __slots__ = ("token", "ca_pin", "expires")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CA_PIN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    token: str
    ca_pin: str
    expires: str
    def __init__(self, token: _Optional[str] = ..., ca_pin: _Optional[str] = ..., expires: _Optional[str] = ...) -> None: ...

class RenewCertificateRequest(_message.Message):
    __slots__ = ("csr_pem",)
    CSR_PEM_FIELD_NUMBER: _ClassVar[int]
    csr_pem: bytes
    def __init__(self, csr_pem: _Optional[bytes] = ...) -> None: ...

class RenewCertificateReply(_message.Message):
    __slots__ = ("certificate_pem",)
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    certificate_pem: bytes
    def __init__(self, certificate_pem: _Optional[bytes] = ...) -> None: ...

class RemoveMemberRequest(_message.Message):
    __slots__ = ("member", "force")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    member: str
    force: bool
    def __init__(self, member: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class RemoveMemberReply(_message.Message):
    __slots__ = ("name", "id", "voters")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    VOTERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: str
    voters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., id: _Optional[str] = ..., voters: _Optional[_Iterable[str]] = ...) -> None: ...

class TransferLeadershipRequest(_message.Message):
    __slots__ = ("to",)
    TO_FIELD_NUMBER: _ClassVar[int]
    to: str
    def __init__(self, to: _Optional[str] = ...) -> None: ...

class TransferLeadershipReply(_message.Message):
    __slots__ = ("leader", "took_ms")
    LEADER_FIELD_NUMBER: _ClassVar[int]
    TOOK_MS_FIELD_NUMBER: _ClassVar[int]
    leader: str
    took_ms: float
    def __init__(self, leader: _Optional[str] = ..., took_ms: _Optional[float] = ...) -> None: ...

class RecoverQuorumRequest(_message.Message):
    __slots__ = ("member",)
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    member: str
    def __init__(self, member: _Optional[str] = ...) -> None: ...

class RecoverQuorumReply(_message.Message):
    __slots__ = ("revision", "objects")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    objects: int
    def __init__(self, revision: _Optional[int] = ..., objects: _Optional[int] = ...) -> None: ...
