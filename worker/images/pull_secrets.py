"""`PullSecrets`: the logins that a pod's imagePullSecrets give for an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from barque.api.errors import ApiError
from barque.api.types import core_v1
from barque.worker.images import keyring
from barque.worker.images.keyring import PullSecretError
from barque.worker.references import References
from barque.worker.runtime.port import Login

Say = Callable[[str, str, str], None]


class PullSecrets:
    """Reads the Secrets when they are needed, so that a corrected one is used at the next try."""

    def __init__(self, references: References) -> None:
        self._references = references

    async def logins(self, pod: core_v1.Pod, image: str, say: Say) -> Sequence[Login]:
        """The logins to try, in order. What cannot be had is told as an event: the image may be open to all."""
        names = list(dict.fromkeys(ref.name for ref in pod.spec.imagePullSecrets if ref.name))
        if not names:
            return ()
        missing: list[str] = []
        found: list[dict[str, list[Login]]] = []
        try:
            secrets = await self._references.secrets(pod.metadata.namespace, names)
        except ApiError:
            secrets = {}
        for name in names:
            secret = secrets.get(name)
            try:
                if secret is None:
                    missing.append(name)
                else:
                    found.append(keyring.logins_of(secret))
            except PullSecretError:
                missing.append(name)
        if missing:
            say(
                "Warning",
                "FailedToRetrieveImagePullSecret",
                f"Unable to retrieve some image pull secrets ({', '.join(missing)}); "
                "attempting to pull the image may not succeed.",
            )
        return keyring.matching(image, found)
