"""The CNI plugins of berth: ecs-eni, ecs-bridge, ecs-ipam and the warm host that runs them for the agent.

Standard library only, and of that only what starts fast: a plugin is a process that lives for some
milliseconds, and each import is paid on every call. Hence no dataclasses, typing, json, os or ctypes here at
run time (together 30 ms); `skeleton.record` and `skeleton.document` stand in for the first and the third,
`posix` for `os`.
"""
