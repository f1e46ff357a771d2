"""Warnings about what makes pods of a template: about the template, and about the pods' names."""

from __future__ import annotations

from barque.api.types.apps_v1 import Deployment, ReplicaSet
from barque.api.types.core_v1 import PodTemplate
from barque.api.warnings.pods import about_name, about_template


def about_workload(workload: Deployment | ReplicaSet) -> list[str]:
    named = about_name(workload.metadata.name, "Pod names and hostnames")
    return [*named, *about_template(workload.spec.template, "spec.template.")]


def about_changed_workload(new: Deployment | ReplicaSet, old: Deployment | ReplicaSet) -> list[str]:
    if new.metadata.generation == old.metadata.generation:
        return []
    return about_template(new.spec.template, "spec.template.")


def about_pod_template(template: PodTemplate) -> list[str]:
    return about_template(template.template, "template.")


def about_changed_pod_template(new: PodTemplate, old: PodTemplate) -> list[str]:
    return about_pod_template(new) if new.metadata.generation != old.metadata.generation else []
