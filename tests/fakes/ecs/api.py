"""The HTTP side of the stand-in: AWS JSON 1.1, strictly read (ecs-protocol 1)."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from tests.fakes.ecs.faults import ANY, Fault, Faults
from tests.fakes.ecs.protocol import REQUESTS
from tests.fakes.ecs.records import Call, Journal
from tests.fakes.ecs.shapes import problems
from tests.fakes.ecs.signatures import SignatureRefused, Verifier
from tests.fakes.ecs.tasks import Json
from tests.fakes.ecs.truth import ApiError, InstanceRecord, Truth

TARGET = "AmazonEC2ContainerServiceV20141113."
CONTENT_TYPE = "application/x-amz-json-1.1"
#: What the control plane adds to an instance's attributes itself (1.3.2).
_OWN_ATTRIBUTES = [
    {"name": "ecs.ami-id", "value": "ami-0fk00000000000001"},
    {"name": "ecs.instance-type", "value": "m5.large"},
]


class ApiSide:
    """Answers the operations that an agent calls. ``echo`` may alter the attributes that registration returns."""

    def __init__(
        self,
        truth: Truth,
        verifier: Verifier,
        faults: Faults,
        now: Callable[[], datetime],
        base_url: Callable[[], str],
    ) -> None:
        self._truth = truth
        self._journal: Journal = truth.journal
        self._verifier = verifier
        self._faults = faults
        self._now = now
        self._base_url = base_url
        self.zone = f"{truth.names.region}a"
        self.endpoints: dict[str, str] = {}
        self.echo: Callable[[list[Json]], list[Json]] = list
        self._operations: dict[str, Callable[[Json], Json]] = {
            "CreateCluster": self._create_cluster,
            "RegisterContainerInstance": self._register,
            "DiscoverPollEndpoint": self._discover,
            "SubmitTaskStateChange": self._submit_task,
            "SubmitAttachmentStateChanges": self._submit_attachments,
            "UpdateContainerInstancesState": self._update_state,
            "ListTagsForResource": self._list_tags,
        }

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to a request of the API."""
        body = await request.read()
        operation = request.headers.get("X-Amz-Target", "").removeprefix(TARGET)
        call = self._journal.call(operation, _decoded(body), request.headers)
        fault = self._faults.take(operation, ANY)
        if fault is not None:
            call.fault = fault.name
            await asyncio.sleep(fault.delay_s)
        if fault is None or fault.only_delays or fault.is_late:
            status, document = self._answered(request, operation, call, body)
            if fault is None or not fault.is_late:
                response = self._response(call, status, document)
                if status == 200 and operation.startswith("Submit"):
                    with self._journal.lock:
                        self._truth.accepted(call.body)
                return response
        return await self._badly(request, call, fault)

    # -- one request ---------------------------------------------------------------------------

    def _answered(
        self, request: web.BaseRequest, operation: str, call: Call, body: bytes
    ) -> tuple[int, Json]:
        try:
            path, _, query = request.raw_path.partition("?")
            signed = self._verifier.check(request.method, path, query, request.headers, body)
            call.access_key_id = signed.keys.access_key_id
            if signed.keys.holder != "instance":
                raise ApiError("AccessDeniedException", f"{signed.keys.holder} may not call {operation}")
            self._look_at_request(request, operation)
            return 200, self._done(operation, *self._checked(operation, call.body))
        except SignatureRefused as refusal:
            self._journal.refusal(f"{operation}: {refusal.code}: {refusal}")
            return 400, {"__type": refusal.code, "message": str(refusal)}
        except ApiError as error:
            return error.status, {"__type": error.code, "message": error.message}

    def _look_at_request(self, request: web.BaseRequest, operation: str) -> None:
        found = (request.method, request.raw_path, request.headers.get("Content-Type"))
        if found != ("POST", "/", CONTENT_TYPE):
            self._journal.violation(f"{operation}: sent as {found}, expected POST / with {CONTENT_TYPE}")
        if not request.headers.get("X-Amz-Target", "").startswith(TARGET):
            self._journal.violation(f"{operation}: X-Amz-Target does not begin with {TARGET}")
        if not request.headers.get("User-Agent"):
            self._journal.violation(f"{operation}: no User-Agent")

    def _done(self, operation: str, document: Json, found: list[str]) -> Json:
        with self._journal.lock:
            try:
                return self._operations[operation](document)
            except (KeyError, TypeError, AttributeError) as error:
                if not found:
                    raise
                raise ApiError("ClientException", f"the request cannot be read: {found[0]}") from error

    def _checked(self, operation: str, body: Any) -> tuple[Json, list[str]]:
        shape = REQUESTS.get(operation)
        if shape is None:
            self._journal.violation(f"{operation or 'no operation'}: agents do not call it")
            raise ApiError("UnknownOperationException", f"unknown operation {operation!r}")
        found = list(problems(body, shape))
        for problem in found:
            self._journal.violation(f"{operation}: {problem}")
        if not isinstance(body, dict):
            raise ApiError("SerializationException", "the body is not a JSON object")
        # What the protocol cannot do without is refused as the service would; the rest is only noted.
        absent = [problem for problem in found if "absent" in problem and "clientToken" not in problem]
        if absent:
            raise ApiError("InvalidParameterException", absent[0])
        return body, found

    def _response(self, call: Call, status: int, document: Json) -> web.Response:
        self._finish(call, status, document)
        headers = {
            "Content-Type": CONTENT_TYPE,
            "Date": _date(self._now()),
            "x-amzn-RequestId": str(uuid.uuid4()),
        }
        return web.Response(status=status, body=json.dumps(document).encode(), headers=headers)

    async def _badly(self, request: web.BaseRequest, call: Call, fault: Fault | None) -> web.StreamResponse:
        assert fault is not None
        if fault.code is not None:
            return self._response(call, fault.status or 400, {"__type": fault.code, "message": fault.message})
        self._finish(call, fault.status, None)
        return await answer_badly(request, fault, self._now())

    def _finish(self, call: Call, status: int | None, document: Any) -> None:
        with self._journal.lock:
            call.status, call.answer = status, document
            call.answered_at = time.monotonic()
            self._journal.touch()

    # -- operations ----------------------------------------------------------------------------

    def _create_cluster(self, body: Json) -> Json:
        name = body["clusterName"]
        self._truth.clusters.add(name)
        arn = self._truth.names.arn(f"cluster/{name}")
        return {"cluster": {"clusterArn": arn, "clusterName": name, "status": "ACTIVE"}}

    def _register(self, body: Json) -> Json:
        record = self._truth.register(body)
        names = {each["name"] for each in record.resources}
        if names != {"CPU", "MEMORY", "PORTS", "PORTS_UDP"}:
            self._journal.violation(f"RegisterContainerInstance: totalResources are {sorted(names)}")
        for each in record.resources:
            value = "stringSetValue" if each["type"] == "STRINGSET" else "integerValue"
            if set(each) != {"name", "type", value}:
                self._journal.violation(
                    f"RegisterContainerInstance: resource {each['name']} has {sorted(each)}"
                )
        return {"containerInstance": self._shown(record)}

    def _shown(self, record: InstanceRecord) -> Json:
        own = [*_OWN_ATTRIBUTES, {"name": "ecs.availability-zone", "value": self.zone}]
        return {
            "containerInstanceArn": record.arn,
            "ec2InstanceId": "i-0fk00000000000001",
            "status": record.status,
            "agentConnected": False,
            "runningTasksCount": 0,
            "pendingTasksCount": 0,
            "version": record.registrations,
            "registeredResources": record.resources,
            "remainingResources": record.resources,
            "attributes": [*self.echo([dict(each) for each in record.attributes]), *own],
            "attachments": [],
            "tags": record.tags,
            "registeredAt": round(self._now().timestamp(), 3),
        }

    def _discover(self, body: Json) -> Json:
        self._truth.require_cluster(body["cluster"])
        self._truth.require_instance(body["containerInstance"])
        base = self._base_url()
        usual = {
            "endpoint": f"{base}/acs/",
            "telemetryEndpoint": f"{base}/tcs/",
            "serviceConnectEndpoint": f"{base}/sc/",
            "systemLogsEndpoint": f"{base}/logs/",
        }
        return {name: url for name, url in {**usual, **self.endpoints}.items() if url}

    def _submit_task(self, body: Json) -> Json:
        self._truth.require_cluster(body["cluster"])
        self._truth.submit(body)
        return _acknowledged()

    def _submit_attachments(self, body: Json) -> Json:
        self._truth.require_cluster(body["cluster"])
        for each in body["attachments"]:
            self._truth.attach(each, None)
        return _acknowledged()

    def _update_state(self, body: Json) -> Json:
        self._truth.require_cluster(body.get("cluster", "default"))
        records = [self._truth.require_instance(arn) for arn in body["containerInstances"]]
        for record in records:
            if record.status == "INACTIVE":
                raise ApiError("InvalidParameterException", f"container instance {record.arn} is INACTIVE")
            record.status = body["status"]
        return {"containerInstances": [self._shown(record) for record in records], "failures": []}

    def _list_tags(self, body: Json) -> Json:
        return {"tags": self._truth.tags.get(body["resourceArn"], [])}


async def answer_badly(request: web.BaseRequest, fault: Fault, now: datetime) -> web.StreamResponse:
    """Do what a fault without an error shape says."""
    transport = request.transport
    if fault.garbage is not None and transport is not None:
        transport.write(fault.garbage)
        transport.close()
    elif fault.is_hang_up and transport is not None:
        transport.abort()
    if fault.status is None:
        return web.Response(status=500)  # the connection is closed, so nobody will see this
    return web.Response(status=fault.status, body=fault.body, headers={"Date": _date(now), **fault.headers})


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _date(now: datetime) -> str:
    return format_datetime(now, usegmt=True)


def _acknowledged() -> Json:
    return {"acknowledgment": f"fk-{uuid.uuid4().hex}"}
