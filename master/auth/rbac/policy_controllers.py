"""The roles of Kubernetes' controllers whose work Barque does, in the lines of `policy`: for controllers that run as
processes of their own, with these service accounts. Barque's own act as the master that they run in.
"""

from __future__ import annotations

EVENTS = "create,patch,update core,events.k8s.io events"

CONTROLLERS: dict[str, str] = {
    "certificate-controller": f"""
        delete,get,list,watch certificates.k8s.io certificatesigningrequests
        update certificates.k8s.io certificatesigningrequests/approval,certificatesigningrequests/status
        approve,sign certificates.k8s.io signers kubernetes.io/kube-apiserver-client-kubelet
        sign certificates.k8s.io signers kubernetes.io/kube-apiserver-client,kubernetes.io/kubelet-serving
        sign certificates.k8s.io signers kubernetes.io/legacy-unknown
        create authorization.k8s.io subjectaccessreviews
        {EVENTS}
        """,
    "clusterrole-aggregation-controller": """
        escalate,get,list,patch,update,watch rbac.authorization.k8s.io clusterroles
        """,
    "deployment-controller": f"""
        get,list,update,watch apps,extensions deployments
        update apps,extensions deployments/status
        update apps,extensions deployments/finalizers
        create,delete,get,list,patch,update,watch apps,extensions replicasets
        get,list,update,watch core pods
        {EVENTS}
        """,
    "endpoint-controller": f"""
        READ core pods,services
        create,delete,get,list,update,watch core endpoints
        create core endpoints/restricted
        {EVENTS}
        """,
    "endpointslice-controller": f"""
        READ core nodes,pods,services
        update core services/finalizers
        create,delete,get,list,update,watch discovery.k8s.io endpointslices
        {EVENTS}
        """,
    "endpointslicemirroring-controller": f"""
        READ core endpoints,services
        update core endpoints/finalizers
        update core services/finalizers
        create,delete,get,list,update,watch discovery.k8s.io endpointslices
        {EVENTS}
        """,
    "generic-garbage-collector": f"""
        delete,get,list,patch,update,watch * *
        {EVENTS}
        """,
    "namespace-controller": """
        delete,get,list,watch core namespaces
        update core namespaces/finalize,namespaces/status
        delete,deletecollection,get,list,watch * *
        """,
    "node-controller": f"""
        delete,get,list,patch,update,watch core nodes
        patch,update core nodes/status
        patch,update core pods/status
        delete,get,list,watch core pods
        {EVENTS}
        """,
    "pod-garbage-collector": """
        delete,list,watch core pods
        READ core nodes
        patch core pods/status
        """,
    "replicaset-controller": f"""
        get,list,update,watch apps,extensions replicasets
        update apps,extensions replicasets/status
        update apps,extensions replicasets/finalizers
        create,delete,list,patch,watch core pods
        {EVENTS}
        """,
    "root-ca-cert-publisher": f"""
        create,update core configmaps
        {EVENTS}
        """,
    "service-account-controller": f"""
        create core serviceaccounts
        {EVENTS}
        """,
}

_LEADER_LOCK = "create,get,list,update,watch coordination.k8s.io leasecandidates,leases"
# What a role's binding is called where it has not the role's name.
BINDING_NAMES = {"extension-apiserver-authentication-reader": "system::extension-apiserver-authentication-reader"}
# Namespace and name of the role, its rules, and who has it.
NAMESPACED: tuple[tuple[str, str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        "READ core configmaps extension-apiserver-authentication",
        (("User", "system:kube-controller-manager"), ("User", "system:kube-scheduler")),
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        _LEADER_LOCK,
        (("User", "system:kube-controller-manager"), ("ServiceAccount", "kube-controller-manager")),
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        _LEADER_LOCK,
        (("User", "system:kube-scheduler"), ("ServiceAccount", "kube-scheduler")),
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "READ core secrets",
        (("ServiceAccount", "bootstrap-signer"),),
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        f"""
        delete,get,list,watch core secrets
        {EVENTS}
        """,
        (("ServiceAccount", "token-cleaner"),),
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        f"""
        READ core configmaps
        update core configmaps cluster-info
        {EVENTS}
        """,
        (("ServiceAccount", "bootstrap-signer"),),
    ),
)
