"""What `explain` says of the kinds that are served and of the fields people use most: one sentence each.

By struct, where its versions differ also by `version.struct` for what is one version's own: lines of
`field {VALUES} =DEFAULT: sentence`, where VALUES are the only ones there are; the line `:` is about the struct itself.
`REQUIRED` names the required fields that the types cannot tell, because they have no zero value.
"""

from __future__ import annotations

from barque.cli.explanations_access import ACCESS
from barque.cli.explanations_certificates import CERTIFICATES
from barque.cli.explanations_pods import PODS

REQUIRED = frozenset(
    {
        ("Binding", "target"),
        ("CertificateSigningRequest", "spec"),
        ("ClusterRoleBinding", "roleRef"),
        ("DeploymentSpec", "selector"),
        ("DeploymentSpec", "template"),
        ("core_v1.Event", "involvedObject"),
        ("core_v1.Event", "metadata"),
        ("HTTPGetAction", "port"),
        ("LocalSubjectAccessReview", "spec"),
        ("PersistentVolumeClaimTemplate", "spec"),
        ("PreferredSchedulingTerm", "preference"),
        ("ReplicaSetSpec", "selector"),
        ("RoleBinding", "roleRef"),
        ("ScaleIOVolumeSource", "secretRef"),
        ("SelfSubjectAccessReview", "spec"),
        ("SelfSubjectRulesReview", "spec"),
        ("SubjectAccessReview", "spec"),
        ("TCPSocketAction", "port"),
        ("TokenReview", "spec"),
        ("WeightedPodAffinityTerm", "podAffinityTerm"),
    }
)

# Fields that mean the same wherever they stand.
EVERYWHERE = """
apiVersion: The group and version of the object's kind, as in apps/v1.
kind: The object's kind, as in Pod.
metadata: The object's name, labels and whatever else every object has.
spec: What is wanted.
status: What is so; the system writes it.
conditions: Statements about the state, each true, false or unknown.
observedGeneration: The generation of the spec that this status is about.
"""

EXPLANATIONS: dict[str, str] = {
    "ObjectMeta": """
: What every object has: its name, its labels, and what the system notes about it.
annotations: Notes for tools and people; nothing is selected by them.
creationTimestamp: When the object was created; the system sets it.
deletionGracePeriodSeconds: How many seconds the object has from its deletion to its end.
deletionTimestamp: When the object is to be gone; it stands here once a deletion was asked for.
finalizers: Who must still clean up; while one is listed the object stays.
generateName: The beginning of a name that the system completes with five random characters.
generation: Counts the changes of the spec.
labels: Words by which objects are selected, as in app=web.
managedFields: Which manager owns which fields, for server-side apply.
name: The name, which no other object of the kind in the namespace has.
namespace: The namespace the object is in.
ownerReferences: The objects this one belongs to; when the last of them is gone, this one goes too.
resourceVersion: The revision of the last change; an update that names an older one is refused.
selfLink: Always empty; it was an address once.
uid: Tells this object from an earlier one of the same name.
""",
    "OwnerReference": """
: An object that owns another.
apiVersion: The group and version of the owner.
blockOwnerDeletion: Whether the owner, deleted in the foreground, waits for this object's end.
controller: Whether this owner is the one that manages the object.
kind: The owner's kind.
name: The owner's name, in the same namespace.
uid: The owner's uid.
""",
    "ManagedFieldsEntry": """
: The fields that one manager owns.
apiVersion: The version in which the fields are named.
fieldsType {FieldsV1}: The format of the set.
fieldsV1: The set of fields.
manager: Who owns them.
operation {Apply,Update}: How the manager came to own them.
subresource: The subresource through which it wrote, if any.
time: When the manager changed them last.
""",
    "LabelSelector": """
: Selects objects by their labels; all demands must hold, and none selects everything.
matchExpressions: Demands that each name a label and what is wanted of it.
matchLabels: Labels that must be there with exactly these values.
""",
    "LabelSelectorRequirement": """
: One demand on a label.
key: The label.
operator {In,NotIn,Exists,DoesNotExist}: How the label's value stands to `values`.
values: The values for In and NotIn.
""",
    "Condition": """
: A statement about an object's state.
lastTransitionTime: When the status changed last.
message: A sentence for people.
reason: A word for programs.
status {True,False,Unknown}: Whether it holds.
type: What the statement is about.
""",
    "Namespace": """
: A part of the cluster in which names are unique; deleting it deletes what is in it.
""",
    "NamespaceSpec": """
finalizers: Who must empty the namespace before it goes.
""",
    "NamespaceStatus": """
phase {Active,Terminating}: Whether the namespace is in use or being deleted.
""",
    "Node": """
: A machine that runs pods; its worker registers it and keeps its status.
""",
    "NodeSpec": """
podCIDR: The addresses of the pods on this node.
podCIDRs: The same, one range for each address family.
providerID: The machine as its provider calls it.
taints: Marks that keep pods away which do not tolerate them.
unschedulable: Whether no new pods are placed here (a cordoned node).
""",
    "NodeStatus": """
addresses: Where the machine is reached.
allocatable: How much of each resource pods may ask for.
capacity: How much of each resource the machine has.
images: The container images that lie on the machine.
nodeInfo: The machine's system and versions.
phase {Pending,Running,Terminated}: Not used any more.
""",
    "NodeCondition": """
: A statement about a machine.
lastHeartbeatTime: When the worker was last heard about it.
lastTransitionTime: When the status changed last.
message: A sentence for people.
reason: A word for programs.
status {True,False,Unknown}: Whether it holds; Unknown once the worker is silent.
type: Ready, MemoryPressure, DiskPressure, PIDPressure or NetworkUnavailable.
""",
    "NodeAddress": """
address: The address or name.
type {Hostname,InternalIP,ExternalIP,InternalDNS,ExternalDNS}: What kind of address it is.
""",
    "NodeSystemInfo": """
architecture: The processor's architecture, as in amd64.
bootID: Changes each time the machine starts.
containerRuntimeVersion: What runs the containers, as in docker://28.0.0.
kernelVersion: The version of the kernel.
kubeletVersion: The version of the worker.
machineID: The id of the installed system.
operatingSystem: The operating system, as in linux.
osImage: The distribution.
systemUUID: The id of the hardware.
""",
    "ServiceAccount": """
: Who pods are towards the cluster; every namespace has one named default.
automountServiceAccountToken: Whether its pods get a token of it, where they do not say so themselves.
imagePullSecrets: Secrets that its pods pull images with, where they name none themselves.
secrets: Secrets that belong to it.
""",
    "Taint": """
: A mark that keeps pods off a node.
effect {NoSchedule,PreferNoSchedule,NoExecute}: Whether pods are not placed, rarely placed, or driven off as well.
key: The name of the mark.
timeAdded: When a NoExecute taint was set.
value: What the mark says.
""",
    **ACCESS,
    **CERTIFICATES,
    **PODS,
    "LocalObjectReference": """
name: The object's name, in the same namespace.
""",
    "PodTemplate": """
: The description of pods, kept for those who make them.
template: What such pods look like.
""",
    "PodTemplateSpec": """
: What pods made from this look like.
metadata: Their labels and annotations.
spec: Their containers and all the rest.
""",
    "ConfigMap": """
: Configuration as keys and values, for containers to read as variables or files.
binaryData: Values that are not text, in base64.
data: Values that are text.
immutable: Whether the values can never change again.
""",
    "Secret": """
: Values to be kept from other eyes; on the masters' disks they are encrypted.
data: The values, in base64.
immutable: Whether the values can never change again.
stringData: Values as plain text, to be written only; they end up in data.
type =Opaque: What the values are, as in kubernetes.io/tls.
""",
    "Service": """
: One address for all pods with certain labels.
""",
    "ServiceSpec": """
: Which pods a service leads to, and at which address.
allocateLoadBalancerNodePorts: Whether a load balancer's ports get node ports.
clusterIP: The service's address; None for a service without one.
clusterIPs: The same, one for each address family.
externalIPs: Addresses of others that lead here too.
externalName: The name that a service of type ExternalName stands for.
externalTrafficPolicy {Cluster,Local}: Whether traffic from outside may go to pods of other nodes.
healthCheckNodePort: The port at which each node says how many pods it has, for externalTrafficPolicy Local.
internalTrafficPolicy {Cluster,Local} =Cluster: Whether traffic from inside may go to pods of other nodes.
ipFamilies: IPv4, IPv6 or both.
ipFamilyPolicy {SingleStack,PreferDualStack,RequireDualStack} =SingleStack: How many address families it has.
loadBalancerClass: Which implementation is to balance its load; there is none here, so its node ports serve.
loadBalancerIP: The address it would like from a load balancer.
ports: The ports it listens on, and those of the pods.
publishNotReadyAddresses: Whether pods that are not ready count too.
selector: The labels of the pods.
sessionAffinity {None,ClientIP} =None: Whether a client stays with one pod.
sessionAffinityConfig: For how long a client stays with one pod.
trafficDistribution {PreferClose,PreferSameZone,PreferSameNode}: Which pods go first where near ones are ready.
type {ClusterIP,NodePort,LoadBalancer,ExternalName} =ClusterIP: From where it is reached.
""",
    "SessionAffinityConfig": """
clientIP: For how long, told by the client's address.
""",
    "ClientIPConfig": """
timeoutSeconds =10800: How many seconds after its last connection a client still counts as known.
""",
    "ServicePort": """
: A port of a service.
appProtocol: What is spoken there, as in http.
name: Its name; needed where there are several.
nodePort: The same port on every node, from 30000 to 32767.
port: The number of the port.
protocol {TCP,UDP,SCTP} =TCP: The protocol.
targetPort: The pods' port, by number or by name; by default the same number.
""",
    "EndpointSlice": """
: Addresses behind a service, with the ports they have in common.
addressType {IPv4,IPv6,FQDN}: The family of all addresses here.
endpoints: The addresses, and how each of them is.
ports: The ports of every endpoint.
""",
    "Endpoint": """
: A pod behind a service.
addresses: Its addresses; the first is used.
conditions: Whether it takes traffic.
hints: For whom it is meant.
hostname: Its host name.
nodeName: The node it runs on.
targetRef: The pod.
zone: The zone it runs in.
""",
    "EndpointHints": """
forNodes: The nodes whose clients go there first.
forZones: The zones whose clients go there first.
""",
    "Endpoints": """
: The addresses behind a service in one object, for older clients; EndpointSlices say the same.
subsets: Addresses by the ports they have in common.
""",
    "EndpointSubset": """
: Addresses with the ports they have in common.
addresses: Those that are ready.
notReadyAddresses: Those that are not.
ports: The ports of every address.
""",
    "EndpointAddress": """
: A pod behind a service.
hostname: Its host name.
ip: Its address.
nodeName: The node it runs on.
targetRef: The pod.
""",
    "EndpointConditions": """
ready: Whether it takes new connections.
serving: Whether it answers, be it ending or not.
terminating: Whether it is ending.
""",
    "EndpointPort": """
appProtocol: What is spoken there.
name: The service's port.
port: The number of the port.
protocol {TCP,UDP,SCTP} =TCP: The protocol.
""",
    "Event": """
: Something that happened to an object; kept for an hour.
action: What was done or refused.
eventTime: When it was first seen.
reason: A word for programs, as in FailedScheduling.
related: Another object that has to do with it.
reportingInstance: Which one of them.
series: How often it has happened, where it goes on.
type {Normal,Warning}: Whether it is to be expected.
""",
    "EventSeries": """
: An event that goes on.
count: How often it has happened.
lastObservedTime: When it happened last.
""",
    "EventSource": """
: Who tells of an event.
component: The component.
host: The node it runs on.
""",
    "core_v1.Event": """
count: How often it has happened.
firstTimestamp: When it happened first.
involvedObject: What it happened to.
lastTimestamp: When it happened last.
message: A sentence for people.
reportingComponent: Who tells it.
source: Who tells it, and from which node.
""",
    "events_v1.Event": """
deprecatedCount: How often an older event has happened; newer ones have a series.
deprecatedFirstTimestamp: When an older event happened first.
deprecatedLastTimestamp: When an older event happened last.
deprecatedSource: Who tells an older event, and from which node.
note: A sentence for people.
regarding: What it happened to.
reportingController: Who tells it.
""",
    "Binding": """
: Says, once, which node the pod of its name runs on.
target: The node.
""",
    "ObjectReference": """
: An object, named.
apiVersion: Its group and version.
fieldPath: The part of it that is meant.
kind: Its kind.
name: Its name.
namespace: Its namespace.
resourceVersion: The revision that is meant.
uid: Its uid.
""",
    "ReplicaSet": """
: Keeps a number of equal pods running.
""",
    "ReplicaSetSpec": """
minReadySeconds: How many seconds a pod must be ready to count as available.
replicas =1: How many pods are wanted.
selector: The labels by which the set knows its pods; they cannot be changed.
template: What the pods look like.
""",
    "ReplicaSetStatus": """
availableReplicas: How many pods have been ready for long enough.
fullyLabeledReplicas: How many pods have all labels of the template.
readyReplicas: How many pods are ready.
replicas: How many pods there are.
""",
    "Deployment": """
: Keeps equal pods running, and replaces them step by step when their description changes.
""",
    "DeploymentSpec": """
minReadySeconds: How many seconds a pod must be ready to count as available.
paused: Whether changes of the template wait.
progressDeadlineSeconds =600: How many seconds a rollout may stand still before it counts as failed.
replicas =1: How many pods are wanted.
revisionHistoryLimit =10: How many old replica sets are kept to go back to.
selector: The labels by which the deployment knows its pods; they cannot be changed.
strategy: How old pods are replaced by new ones.
template: What the pods look like; changing it starts a rollout.
""",
    "DeploymentStrategy": """
rollingUpdate: How far a rolling update may go at once.
type {RollingUpdate,Recreate} =RollingUpdate: Whether old pods go step by step or all before the first new one.
""",
    "RollingUpdateDeployment": """
maxSurge =25%: How many pods, or which share, there may be more than wanted.
maxUnavailable =25%: How many pods, or which share, may be missing.
""",
    "DeploymentStatus": """
availableReplicas: How many pods have been ready for long enough.
collisionCount: How often a replica set's name was taken already.
readyReplicas: How many pods are ready.
replicas: How many pods there are.
unavailableReplicas: How many pods are missing or not available.
updatedReplicas: How many pods are of the newest template.
""",
    "DeploymentCondition": """
: A statement about a deployment: Available, Progressing or ReplicaFailure.
lastTransitionTime: When the status changed last.
lastUpdateTime: When it was last confirmed.
message: A sentence for people.
reason: A word for programs.
status {True,False,Unknown}: Whether it holds.
type: What the statement is about.
""",
    "ComponentCondition": """
: One statement about a part of a master.
error: What is wrong.
message: What the part says of itself.
status {True,False,Unknown}: Whether it is so.
type {Healthy}: What it is about.
""",
    "ComponentStatus": """
: How one part of the answering master is, at this moment.
""",
    "ContainerMetrics": """
: What one container uses.
name: The container.
usage: How many cores (cpu) and how much memory it uses.
""",
    "NodeMetrics": """
: What a node uses, as its worker measured it last.
timestamp: When the master heard of it.
usage: How many cores (cpu) and how much memory (the working set) the node uses, all its processes together.
window: Over which time the use of cores is averaged.
""",
    "PodMetrics": """
: What a pod uses, as its node's worker measured it last.
containers: What each of its containers uses.
timestamp: When the master heard of it.
window: Over which time the use of cores is averaged.
""",
    "Lease": """
: A claim that its holder renews: who leads, who is alive.
""",
    "LeaseSpec": """
acquireTime: Since when the holder has it.
holderIdentity: Who has it.
leaseDurationSeconds: How many seconds after the last renewal others may take it.
leaseTransitions: How often it has gone from one holder to another.
preferredHolder: Who should have it.
renewTime: When the holder renewed it last.
strategy: How its holder is chosen.
""",
}
