"""What `explain` says of pods, their containers and volumes; see `barque.cli.explanations`."""

from __future__ import annotations

PODS: dict[str, str] = {
    "Pod": """
: Containers that share an address and volumes, and run together on one node.
""",
    "PodSpec": """
: What a pod is made of, where it may run, and how it ends.
activeDeadlineSeconds: How many seconds the pod may run before it is failed.
affinity: Which nodes and which neighbours the pod prefers or demands.
automountServiceAccountToken: Whether the pod gets a token of its service account.
containers: The containers; they run at the same time.
dnsConfig: Name servers and search domains besides those of the policy.
dnsPolicy {ClusterFirst,ClusterFirstWithHostNet,Default,None} =ClusterFirst: Where the pod resolves names.
enableServiceLinks =true: Whether each service of the namespace appears in the environment.
ephemeralContainers: Containers added to look into a running pod.
hostAliases: Lines for the pod's hosts file.
hostIPC: Whether the pod shares the machine's IPC namespace.
hostNetwork: Whether the pod uses the machine's own network.
hostPID: Whether the pod sees the machine's processes.
hostname: The host name inside the pod, by default the pod's name.
hostnameOverride: The host name inside the pod, whole; hostname and subdomain then count for nothing.
imagePullSecrets: Secrets with which images are pulled.
initContainers: Containers that run to their end, one after the other, before the others start.
nodeName: The node the pod is bound to; the scheduler sets it.
nodeSelector: Labels that the node must have.
os: The operating system the containers are for.
overhead: What running the pod itself takes, besides its containers.
preemptionPolicy {PreemptLowerPriority,Never}: Whether the pod may push out less important ones.
priority: How important the pod is; taken from its priority class.
priorityClassName: The class that says how important the pod is.
readinessGates: Conditions, besides its containers', that the pod needs to be ready.
restartPolicy {Always,OnFailure,Never} =Always: When a container that ended is started again.
runtimeClassName: Which container runtime runs the pod.
schedulerName =default-scheduler: Which scheduler places the pod.
schedulingGates: What must be lifted before the pod is placed.
securityContext: Users, groups and rights of all containers.
serviceAccount: An older name of serviceAccountName.
serviceAccountName: Who the pod is towards the cluster.
setHostnameAsFQDN: Whether the host name is the full domain name.
shareProcessNamespace: Whether the containers see each other's processes.
subdomain: Where below the namespace's domain the pod has its name.
terminationGracePeriodSeconds =30: How many seconds the containers have to end after SIGTERM.
tolerations: Taints that do not keep the pod away.
topologySpreadConstraints: How evenly such pods are spread over nodes and zones.
volumes: What the containers may mount.
""",
    "PodStatus": """
containerStatuses: How each container is.
hostIP: The address of the node.
initContainerStatuses: How each init container is.
message: A sentence that says why the pod is as it is.
nominatedNodeName: The node on which room is being made for the pod.
phase {Pending,Running,Succeeded,Failed,Unknown}: How far the pod has come.
podIP: The pod's address.
podIPs: The same, one for each address family.
qosClass {Guaranteed,Burstable,BestEffort}: In which order pods give way when memory is short.
reason: A word that says why the pod is as it is.
startTime: When the worker took the pod on.
""",
    "PodCondition": """
: A statement about a pod: PodScheduled, Initialized, ContainersReady or Ready.
lastProbeTime: When it was last looked into.
lastTransitionTime: When the status changed last.
message: A sentence for people.
reason: A word for programs.
status {True,False,Unknown}: Whether it holds.
type: What the statement is about.
""",
    "PodIP": """
ip: The address.
""",
    "HostIP": """
ip: The address.
""",
    "ContainerStatus": """
: How a container is.
containerID: The container as the runtime calls it.
image: The image it runs.
imageID: The image's digest.
lastState: How its run before this one ended.
name: The container's name.
ready: Whether its readiness probe holds.
restartCount: How often it was started again.
started: Whether its startup probe has held.
state: How it is now: waiting, running or terminated.
""",
    "ContainerState": """
: One of three; none of them is waiting.
running: It runs.
terminated: It has ended.
waiting: It is not started yet, or not again.
""",
    "ContainerStateRunning": """
startedAt: When it was started.
""",
    "ContainerStateTerminated": """
containerID: The container as the runtime called it.
exitCode: What it exited with.
finishedAt: When it ended.
message: What it said of its end.
reason: A word for the end, as in OOMKilled.
signal: The signal that ended it.
startedAt: When it was started.
""",
    "ContainerStateWaiting": """
message: A sentence that says why it waits.
reason: A word that says why, as in ImagePullBackOff.
""",
    "Container": """
: A program in a file system of its own.
args: Arguments of the command; by default the image's.
command: What is run instead of the image's entrypoint.
env: Variables of its environment.
envFrom: Config maps and secrets whose every key becomes a variable.
image: The image it is made from, as in web:1.
imagePullPolicy {Always,IfNotPresent,Never}: When the image is pulled; Always where its tag is latest or missing.
lifecycle: What is done right after its start and right before its end.
livenessProbe: While this fails, the container is started anew.
name: Its name, unique in the pod.
ports: The ports it listens on; for people and for names, nothing else is opened or closed.
readinessProbe: While this fails, services send it nothing.
resizePolicy: Whether a change of its resources needs a new start.
resources: What it may use, and what is set aside for it.
restartPolicy {Always}: Of an init container: whether it runs on beside the others.
restartPolicyRules: Which exit codes restart this container, whatever the policy says of them.
securityContext: Its user, its groups and its rights.
startupProbe: Until this has succeeded once, the other probes wait.
stdin: Whether its standard input is open.
stdinOnce: Whether its standard input closes with the first client.
terminationMessagePath =/dev/termination-log: The file in which it may say why it ends.
terminationMessagePolicy {File,FallbackToLogsOnError} =File: Whether the end of its log stands in for that file.
tty: Whether it has a terminal.
volumeDevices: Block devices it gets.
volumeMounts: Where it finds the pod's volumes.
workingDir: Where it is started; by default as the image says.
""",
    "EphemeralContainer": """
: A container that looks into a running pod: it is never started again, and goes with the pod.
targetContainerName: The container whose processes it sees.
""",
    "ContainerPort": """
: A port the container listens on.
containerPort: The number of the port.
hostIP: The machine's address that hostPort is bound to.
hostPort: The same port on the machine.
name: A name for services to use.
protocol {TCP,UDP,SCTP} =TCP: The protocol.
""",
    "EnvVar": """
: A variable of the environment.
name: Its name.
value: Its value; $(NAME) stands for a variable before it.
valueFrom: Where else its value comes from.
""",
    "EnvVarSource": """
: Where a variable's value comes from; one of these.
configMapKeyRef: A key of a config map.
fieldRef: A field of the pod itself.
resourceFieldRef: An amount that a container asks for or is limited to.
secretKeyRef: A key of a secret.
""",
    "EnvFromSource": """
: A config map or a secret whose keys become variables.
configMapRef: The config map.
prefix: What is put before each key.
secretRef: The secret.
""",
    "ConfigMapKeySelector": """
key: The key.
name: The config map.
optional: Whether the pod starts without it.
""",
    "SecretKeySelector": """
key: The key.
name: The secret.
optional: Whether the pod starts without it.
""",
    "ConfigMapEnvSource": """
name: The config map.
optional: Whether the pod starts without it.
""",
    "SecretEnvSource": """
name: The secret.
optional: Whether the pod starts without it.
""",
    "ObjectFieldSelector": """
apiVersion =v1: The version the path is of.
fieldPath: The field, as in metadata.name or status.podIP.
""",
    "ResourceFieldSelector": """
containerName: Of which container; needed in volumes.
divisor: The unit in which the amount is written.
resource: The amount, as in limits.memory.
""",
    "ResourceRequirements": """
: How much a container gets.
claims: Devices it uses.
limits: The most it may use; more memory than this ends it.
requests: What is set aside for it on its node; by default as much as the limits.
""",
    "Probe": """
: A question asked of a container again and again.
exec: A command; it holds while that exits with 0.
failureThreshold =3: How often in a row it must fail to count as failed.
grpc: A gRPC health check.
httpGet: A request; it holds while the answer's code is from 200 to 399.
initialDelaySeconds: How many seconds after the start the first is asked.
periodSeconds =10: How many seconds lie between two.
successThreshold =1: How often in a row it must succeed to count as well again.
tcpSocket: A connection; it holds while that can be opened.
terminationGracePeriodSeconds: How many seconds the container has to end when this has failed.
timeoutSeconds =1: How many seconds an answer may take.
""",
    "ExecAction": """
command: The program and its arguments; no shell is involved.
""",
    "HTTPGetAction": """
host: Whom to ask; by default the pod's address.
httpHeaders: Headers of the request.
path =/: What to ask for.
port: The port, by number or by name.
scheme {HTTP,HTTPS} =HTTP: Whether over TLS; its certificate is not checked.
""",
    "TCPSocketAction": """
host: Where to connect; by default to the pod's address.
port: The port, by number or by name.
""",
    "GRPCAction": """
port: The number of the port.
service: The service whose health is asked for.
""",
    "Lifecycle": """
: What is done at a container's beginning and end.
postStart: Done right after its start; when it fails, the container ends.
preStop: Done before SIGTERM is sent.
stopSignal: The signal that ends it instead of SIGTERM.
""",
    "SecurityContext": """
: A container's user, groups and rights.
allowPrivilegeEscalation: Whether a process may come to more rights than its parent has.
capabilities: Capabilities given and taken.
privileged: Whether it may do all that root on the machine may.
procMount {Default,Unmasked}: Which parts of /proc are hidden.
readOnlyRootFilesystem: Whether its own file system cannot be written.
runAsGroup: The group it runs as.
runAsNonRoot: Whether it is refused to run as root.
runAsUser: The user it runs as.
seccompProfile: Which system calls it may make; without one, the container runtime's own profile.
""",
    "PodSecurityContext": """
: Users, groups and rights of all containers of a pod.
fsGroup: The group that owns the pod's volumes.
fsGroupChangePolicy {Always,OnRootMismatch}: When files that are there are given to fsGroup.
runAsGroup: The group the containers run as.
runAsNonRoot: Whether the containers are refused to run as root.
runAsUser: The user the containers run as.
seccompProfile: Which system calls all containers may make, where they say nothing themselves.
supplementalGroups: Groups the containers are in besides.
supplementalGroupsPolicy {Merge,Strict}: Whether groups of the image's own users count, too.
sysctls: Kernel parameters of the pod.
""",
    "Capabilities": """
add: Capabilities given besides the usual ones.
drop: Capabilities taken.
""",
    "VolumeMount": """
: Where a container finds a volume.
mountPath: The path in the container.
mountPropagation {None,HostToContainer,Bidirectional}: Whether mounts below are seen on the other side.
name: The volume.
readOnly: Whether it cannot be written.
subPath: The part of the volume that is mounted.
subPathExpr: The same, with variables of the environment.
""",
    "Volume": """
: A folder that containers of a pod may mount; one kind of source says what is in it.
configMap: The keys of a config map as files.
downwardAPI: Fields of the pod as files.
emptyDir: An empty folder that lasts as long as the pod.
ephemeral: A claim of the pod's own.
hostPath: A path of the machine.
image: The files of an image.
name: Its name, unique in the pod.
nfs: A folder of an NFS server.
persistentVolumeClaim: What a claim is bound to.
projected: Several sources in one folder.
secret: The keys of a secret as files.
""",
    "EmptyDirVolumeSource": """
medium: Memory for a folder in RAM; "" for the machine's disk.
sizeLimit: The most it may hold.
""",
    "ConfigMapVolumeSource": """
defaultMode =420: The files' mode, as in 0644.
items: Which keys become files, and where; by default all.
name: The config map.
optional: Whether the pod starts without it.
""",
    "SecretVolumeSource": """
defaultMode =420: The files' mode, as in 0644.
items: Which keys become files, and where; by default all.
optional: Whether the pod starts without it.
secretName: The secret.
""",
    "KeyToPath": """
key: The key.
mode: The file's mode.
path: The file's path in the volume.
""",
    "HostPathVolumeSource": """
path: The path on the machine.
type: What must be there, as in Directory; "" checks nothing.
""",
    "PersistentVolumeClaimVolumeSource": """
claimName: The claim.
readOnly: Whether it cannot be written.
""",
    "Toleration": """
: A taint that does not keep the pod away.
effect {NoSchedule,PreferNoSchedule,NoExecute}: The taint's effect; "" for any.
key: The taint's key; "" with Exists for any.
operator {Exists,Equal}: Whether the value must be equal; Equal where nothing is said.
tolerationSeconds: How many seconds the pod stays on a node with a NoExecute taint; for ever by default.
value: The taint's value.
""",
    "Affinity": """
: Where the pod wants to be.
nodeAffinity: Which nodes it demands or prefers, by their labels.
podAffinity: Near which pods it demands or prefers to be.
podAntiAffinity: Away from which pods it demands or prefers to be.
""",
    "NodeAffinity": """
preferredDuringSchedulingIgnoredDuringExecution: Nodes that count for more, by weight.
requiredDuringSchedulingIgnoredDuringExecution: What a node must have; later changes drive no pod away.
""",
    "NodeSelector": """
nodeSelectorTerms: Of these, one must fit.
""",
    "NodeSelectorTerm": """
matchExpressions: Demands on the node's labels; all must be met.
matchFields: Demands on the node's fields, as metadata.name.
""",
    "NodeSelectorRequirement": """
key: The label.
operator {In,NotIn,Exists,DoesNotExist,Gt,Lt}: How the label's value relates to the values.
values: The values; none with Exists and DoesNotExist, one number with Gt and Lt.
""",
    "PreferredSchedulingTerm": """
preference: What the node should have.
weight: How much it counts, from 1 to 100.
""",
    "PodSchedulingGate": """
name: What must be lifted before the pod is placed.
""",
    "PodReadinessGate": """
conditionType: The condition of the pod that must be true for it to be ready.
""",
    "HostAlias": """
hostnames: The names in the line.
ip: The address at its beginning.
""",
    "PodDNSConfig": """
nameservers: Addresses of name servers, after those of the policy.
options: Settings of the resolver; one of the same name replaces the policy's.
searches: Domains in which short names are looked for, after those of the policy.
""",
    "PodDNSConfigOption": """
name: The setting, as in ndots.
value: Its value, where it has one.
""",
    "Sysctl": """
name: The kernel's setting, as in net.ipv4.tcp_syncookies.
value: What it is set to in the pod's namespaces.
""",
    "SeccompProfile": """
localhostProfile: The file below the node's folder of profiles, for the type Localhost.
type {Unconfined,RuntimeDefault,Localhost}: None, the container runtime's, or one of the node's files.
""",
    "ContainerRestartRule": """
action {Restart}: What happens where the rule fits.
exitCodes: The exit codes for which it fits.
""",
    "ContainerRestartRuleOnExitCodes": """
operator {In,NotIn}: Whether the code must be among the values.
values: Exit codes.
""",
    "LifecycleHandler": """
exec: A command in the container.
httpGet: An HTTP request; any answer will do.
sleep: A pause.
tcpSocket: Not supported in hooks, and never was.
""",
    "SleepAction": """
seconds: How long.
""",
    "HTTPHeader": """
name: The header.
value: Its value.
""",
    "ProjectedVolumeSource": """
defaultMode =420: The files' mode, as in 0644.
sources: What is shown; where two claim a path, the later one has it.
""",
    "VolumeProjection": """
configMap: The keys of a config map.
downwardAPI: Fields of the pod.
secret: The keys of a secret.
serviceAccountToken: A token of the pod's service account, renewed before it ends.
""",
    "ServiceAccountTokenProjection": """
audience: Whom the token is for; by default the cluster's API.
expirationSeconds =3600: How long it lasts, at least 600.
path: The file's path in the volume.
""",
    "ConfigMapProjection": """
items: Which keys become files, and where; by default all.
name: The config map.
optional: Whether the pod starts without it.
""",
    "SecretProjection": """
items: Which keys become files, and where; by default all.
name: The secret.
optional: Whether the pod starts without it.
""",
    "DownwardAPIProjection": """
items: The files, and what they show.
""",
    "DownwardAPIVolumeSource": """
defaultMode =420: The files' mode, as in 0644.
items: The files, and what they show.
""",
    "DownwardAPIVolumeFile": """
fieldRef: A field of the pod, as metadata.labels.
mode: The file's mode.
path: The file's path in the volume.
resourceFieldRef: A request or limit of one of its containers.
""",
    "TopologySpreadConstraint": """
labelSelector: The pods that are counted.
maxSkew: How many more pods one domain may have than another.
topologyKey: The label of nodes that makes a domain.
whenUnsatisfiable {DoNotSchedule,ScheduleAnyway}: Whether the pod waits where it cannot be met.
""",
}
