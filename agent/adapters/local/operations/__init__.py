"""The operations of the local ECS API, by their names on the wire. Each is one function, one transaction."""

from collections.abc import Callable, Mapping

from agent.adapters.local.operations.clusters import create_cluster, describe_clusters, list_clusters
from agent.adapters.local.operations.desk import Desk
from agent.adapters.local.operations.instances import (
    describe_container_instances,
    list_container_instances,
    update_container_instances_state,
)
from agent.adapters.local.operations.launch import run_task, start_task
from agent.adapters.local.operations.tags import list_tags_for_resource, tag_resource, untag_resource
from agent.adapters.local.operations.task_definitions import (
    deregister_task_definition,
    describe_task_definition,
    list_task_definition_families,
    list_task_definitions,
    register_task_definition,
)
from agent.adapters.local.operations.tasks import describe_tasks, list_tasks, stop_task
from agent.adapters.local.records import Document

OPERATIONS: Mapping[str, Callable[[Desk, Document], Document]] = {
    "CreateCluster": create_cluster,
    "DeregisterTaskDefinition": deregister_task_definition,
    "DescribeClusters": describe_clusters,
    "DescribeContainerInstances": describe_container_instances,
    "DescribeTaskDefinition": describe_task_definition,
    "DescribeTasks": describe_tasks,
    "ListClusters": list_clusters,
    "ListContainerInstances": list_container_instances,
    "ListTagsForResource": list_tags_for_resource,
    "ListTaskDefinitionFamilies": list_task_definition_families,
    "ListTaskDefinitions": list_task_definitions,
    "ListTasks": list_tasks,
    "RegisterTaskDefinition": register_task_definition,
    "RunTask": run_task,
    "StartTask": start_task,
    "StopTask": stop_task,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "UpdateContainerInstancesState": update_container_instances_state,
}
