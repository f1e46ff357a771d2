"""The images of this node: pulled for pods, loaded by hand, removed when the disk fills up.

Start reading at `images`. In: references and pull policies of containers (`names` takes references apart), logins from
imagePullSecrets (`pull_secrets` fetches them, `keyring` chooses), the fullness of Docker's disk. Out: images on the
node, the kubelet's events, faults with a time for the next try. Guarantees: one pull of an image at a time, few pulls
in all, one back-off for all who ask; `collector` removes only what this worker brought or ran, and nothing in use.
"""
