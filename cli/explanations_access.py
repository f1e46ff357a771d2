"""What `explain` says of roles, bindings and the reviews of access; in the form of `cli.explanations`."""

ACCESS: dict[str, str] = {
    "Role": """
: Rights within one namespace, to be given by RoleBindings.
rules: What is allowed; nothing is ever forbidden.
""",
    "ClusterRole": """
: Rights in the whole cluster, or in any namespace that a RoleBinding gives them in.
aggregationRule: Which other cluster roles this one is put together of; its rules are then the system's.
rules: What is allowed; nothing is ever forbidden.
""",
    "AggregationRule": """
: How a cluster role is put together.
clusterRoleSelectors: The labels of the cluster roles whose rules it gets; one selector is enough.
""",
    "PolicyRule": """
: Some verbs on some resources, or on some paths.
apiGroups: The API groups of the resources; "" is the core group, * every one.
nonResourceURLs: Paths that are no resource, as /healthz; a * at the end stands for all that begins so.
resourceNames: The only objects that are meant; none means all.
resources: The resources by their plural, as pods or pods/log; * is every one, */scale that part of every one.
verbs: What may be done, as get, list, watch, create, update, patch, delete; * is everything.
""",
    "RoleBinding": """
: Gives the rights of a role to users, groups and service accounts within its namespace.
roleRef: The Role of the namespace or the ClusterRole that is given; it never changes.
subjects: Who gets it.
""",
    "ClusterRoleBinding": """
: Gives the rights of a cluster role to users, groups and service accounts everywhere.
roleRef: The ClusterRole that is given; it never changes.
subjects: Who gets it.
""",
    "RoleRef": """
: A role by its name.
apiGroup =rbac.authorization.k8s.io: The API group of the role.
kind {ClusterRole,Role}: Which of the two it is.
name: The name of the role.
""",
    "rbac_v1.Subject": """
: Somebody who gets rights.
apiGroup: The API group of the subject; "" for service accounts.
kind {Group,ServiceAccount,User}: What it is.
name: The name of the user, group or service account.
namespace: The namespace of a service account.
""",
    "SelfSubjectAccessReview": """
: Asks whether the caller may do something.
""",
    "SubjectAccessReview": """
: Asks whether somebody may do something.
""",
    "LocalSubjectAccessReview": """
: Asks whether somebody may do something in one namespace.
""",
    "SelfSubjectRulesReview": """
: Asks for everything the caller may do in a namespace.
""",
    "SelfSubjectAccessReviewSpec": """
nonResourceAttributes: The path that is asked about.
resourceAttributes: The resource that is asked about.
""",
    "SubjectAccessReviewSpec": """
extra: What else is known of the user.
groups: The groups the user is in.
nonResourceAttributes: The path that is asked about.
resourceAttributes: The resource that is asked about.
uid: The uid of the user.
user: The user it is asked for.
""",
    "ResourceAttributes": """
: A request about a resource, in words.
fieldSelector: The field selector of the request.
group: The API group; * is every one.
labelSelector: The label selector of the request.
name: The object; "" is all of them.
namespace: The namespace; "" is all of them, or the cluster.
resource: The resource by its plural; * is every one.
subresource: A part of the resource, as log.
verb: What is to be done; * is everything.
version: The API version; * is every one.
""",
    "NonResourceAttributes": """
: A request about a path, in words.
path: The path.
verb: The method in small letters.
""",
    "SelfSubjectRulesReviewSpec": """
namespace: The namespace that is asked about.
""",
    "SubjectAccessReviewStatus": """
: The answer.
allowed: Whether it is allowed.
denied: Whether it is forbidden whatever else may allow it.
evaluationError: What went wrong meanwhile.
reason: Why.
""",
    "SubjectRulesReviewStatus": """
: The answer.
evaluationError: What went wrong meanwhile.
incomplete: Whether there may be more rights than these.
nonResourceRules: The rights on paths.
resourceRules: The rights on resources.
""",
    "TokenReview": """
: Asks whom a token stands for.
""",
    "SelfSubjectReview": """
: Asks whom the cluster takes the caller for.
""",
}
